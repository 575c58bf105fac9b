"""IFKD from a recipe to a finished run: an exact resumption, and a report that names what disturbed the teacher."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.faults.tiny import recipe, state, tiles
from typer.testing import CliRunner

from fledge import api
from fledge.cli import app
from fledge.engine.checkpoint import checkpoint_at, read_manifest
from fledge.engine.loop import Interrupted
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.recipe import Recipe, make_recipe
from fledge.runs import load_detector
from fledge.types import Batch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("ifkd") / "data")


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(recipe(data, epochs=1, ema_decay=0.0), tmp_path_factory.mktemp("ifkd") / "teacher")


def student(data: Path, teacher: Path, **settings: Any) -> Recipe:
    chosen = {"ifkd_disturbance": "none", "ifkd_ramp_steps": 4, "balance_every": 3, "neck_channels": 16, **settings}
    return recipe(data, method="ifkd", teacher=str(teacher), **chosen)


@pytest.fixture(scope="module")
def whole(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.distill(student(data, teacher), tmp_path_factory.mktemp("ifkd") / "student")


def test_a_resumed_run_has_the_same_bits(
    data: Path, teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Radii, ramp and the filter's own rate among them."""
    forward, left = TrainStep.forward, [3]

    def counted(step: TrainStep, batch: Batch) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(step, batch)

    monkeypatch.setattr(TrainStep, "forward", counted)
    with pytest.raises(Interrupted):
        api.distill(student(data, teacher), tmp_path / "run")
    run = api.distill(student(data, teacher), tmp_path / "run")
    found, expected = state(run), state(whole)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert any(name.endswith("filters.p3.deviation") for name in expected)


def test_the_report_names_the_disturbance(whole: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_at(whole)
    assert checkpoint is not None
    lesson = "disturbance none; frequency reconstruction on; mask hyperbolic"
    assert read_manifest(checkpoint)["meta"]["lesson"] == lesson
    arguments = ["evaluate", str(whole), "--device", "cpu", "--out", str(tmp_path / "report")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert f"note: distilled with {lesson}" in " ".join(result.output.split())
    assert f"distilled with {lesson}" in (tmp_path / "report" / "report.html").read_text()


def test_the_students_state_is_a_plain_one(whole: Path, data: Path) -> None:
    found, _, _ = load_detector(whole)
    plain = api.train(recipe(data, epochs=1, ema_decay=0.0, neck_channels=16), whole.parent / "plain")
    assert list(found.state_dict()) == list(load_detector(plain)[0].state_dict())


def test_bad_settings_are_named() -> None:
    for settings, message in (
        ({"ifkd_radius_low": 0.6}, "ifkd_radius_low is above ifkd_radius_high"),
        ({"ifkd_disturbance": "sam"}, "ifkd_disturbance: "),
        ({"ifkd_filter_size": 5}, "ifkd_filter_size: "),
    ):
        with pytest.raises(UsageError, match=message):
            make_recipe({"method": "ifkd", **settings}, "test")


def test_edges_disturb_without_weights(data: Path, teacher: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    settings = {"ifkd_disturbance": "edges", "ifkd_embedding_cache": str(cache), "photometric": 0.0, "epochs": 1}
    run = api.distill(student(data, teacher, **settings), tmp_path / "run")
    checkpoint = checkpoint_at(run)
    assert checkpoint is not None
    manifest = read_manifest(checkpoint)
    assert manifest["meta"]["lesson"].startswith("disturbance edges: Sobel magnitude")
    assert not any("embedder" in name for name in state(run))
    assert list(cache.rglob("*.safetensors"))


def test_missing_weights_say_where_they_are_and_what_goes_without(data: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mobile_sam\.pt .*SHA-256 6dbb.*MobileSAM.*; or name another disturbance"):
        api.distill(student(data, teacher, ifkd_disturbance="mobilesam"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_cache_that_would_find_nothing_is_refused() -> None:
    for settings in ({"photometric": 0.5}, {"rotate_degrees": 10.0}, {"scale_low": 0.5}):
        with pytest.raises(UsageError, match="ifkd_embedding_cache finds nothing again"):
            make_recipe({"method": "ifkd", "ifkd_embedding_cache": "cache", **settings}, "test")
