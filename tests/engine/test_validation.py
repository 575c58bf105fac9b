"""Evaluation in the course of a training: it changes nothing, is that of ``fledge evaluate``, and keeps the best."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults import tiny
from tests.processes import together
from torch import Tensor

from fledge import api, validation
from fledge.build import build_detector
from fledge.engine.checkpoint import checkpoint_at, drop_later, load_checkpoint, save_checkpoint
from fledge.engine.loop import Interrupted
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.inference.predictor import Predictor
from fledge.runs import load_detector
from fledge.types import Batch, Detections
from fledge.validation import Validation

BEST = {"eval_every": 1, "keep_best": "AP50"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiles(tmp_path_factory.mktemp("data"), 6)


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps, three an epoch, without evaluation."""
    return api.train(tiny.recipe(data, epochs=4), tmp_path_factory.mktemp("plain") / "run")


def scripted(values: Sequence[float], seen: list[dict[str, Tensor]] | None = None) -> Callable[..., dict[str, float]]:
    """A judge that gives these AP50 in turn."""
    left = iter(values)

    def judge(self: Validation, weights: dict[str, Tensor], show: Any) -> dict[str, float]:
        if seen is not None:
            seen.append({name: value.clone() for name, value in weights.items()})
        return {"AP50": next(left)}

    return judge


def of_the_weights(self: Validation, weights: dict[str, Tensor], show: Any) -> dict[str, float]:
    """A judge that gives the same weights the same figure, up and down in the course of a run."""
    value = float(sum(v.double().sum() for v in weights.values() if v.is_floating_point()))
    return {"AP50": math.sin(1e5 * value)}


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same twelve steps, judged every three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "__call__", of_the_weights)
        return api.train(tiny.recipe(data, epochs=4, **BEST), tmp_path_factory.mktemp("whole") / "run")


def figures(run: Path) -> list[tuple[int, str, float]]:
    return [row for row in tiny.logged(run) if row[1].startswith("eval/")]


def test_training_is_the_same_with_and_without(data: Path, plain: Path, tmp_path: Path) -> None:
    """Weights, batch norms, averages, optimiser and losses, bit for bit."""
    judged = api.train(tiny.recipe(data, epochs=4, **BEST), tmp_path / "run")
    ours = {name: value for name, value in tiny.state(judged).items() if name != "loop/best"}
    assert ours == tiny.state(plain)
    assert [row for row in tiny.logged(judged) if not row[1].startswith("eval/")] == tiny.logged(plain)
    assert [step for step, name, _ in figures(judged) if name == "eval/AP50"] == [3, 6, 9, 12]


def test_no_random_number_is_drawn_from_what_training_draws_from(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect = Predictor.detect_many

    def noisy(self: Predictor[Any], *rest: Any, **named: Any) -> Any:
        torch.rand(5)
        return detect(self, *rest, **named)

    monkeypatch.setattr(Predictor, "detect_many", noisy)
    settings = tiny.recipe(data)
    detector = build_detector(settings, _classes(data)).train()
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in detector.state_dict().items()}
    judge = Validation(detector, settings, detector.classes, 0.5, torch.device("cpu"))
    assert set(judge(weights, lambda text: None)) == {"AP50", "AP75", "AP50:95"}
    assert torch.equal(torch.get_rng_state(), before)
    assert detector.training
    assert all(torch.equal(value, weights[name]) for name, value in detector.state_dict().items())


def _classes(data: Path) -> tuple[str, ...]:
    from fledge.data.datasets import open_dataset

    return open_dataset(data, "train").classes


def total(found: Sequence[Detections], truth: Sequence[Any], classes: Any, protocol: Any) -> Any:
    """Stands for an average precision, which is zero for a detector so little trained: a number of every detection."""
    value = math.fsum((i + 1) * float(v) for i, d in enumerate(found) for v in (d.boxes.double().sum(), d.scores.sum()))

    class Sum:
        def summary(self) -> dict[str, float]:
            return {"AP50": value, "images": len(truth)}

    return Sum()


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "evaluate", total)


def of_checkpoint(run: Path) -> dict[str, float]:
    """What one process says of a finished run's weights."""
    detector, settings, meta = load_detector(run)
    judge = Validation(detector, settings, detector.classes, meta["pixel_scale"], torch.device("cpu"))
    return judge(detector.state_dict(), lambda text: None)


def test_the_figures_are_those_of_the_checkpoint(data: Path, tmp_path: Path, summed: None) -> None:
    run = api.train(tiny.recipe(data, eval_every=2), tmp_path / "run")
    assert figures(run)[-1][0] == 6
    logged = {name.removeprefix("eval/"): value for step, name, value in figures(run) if step == 6}
    assert logged == pytest.approx(of_checkpoint(run), rel=1e-6)
    assert logged["AP50"] != 0


def test_they_are_those_of_fledge_evaluate(data: Path, tmp_path: Path) -> None:
    run = api.train(tiny.recipe(data, eval_every=1), tmp_path / "run")
    alone = api.evaluate(run, device="cpu").metrics.summary()
    logged = {name.removeprefix("eval/"): value for step, name, value in figures(run) if step == 6}
    assert logged == pytest.approx(alone, rel=1e-6, nan_ok=True)


def test_two_processes_say_what_one_says(tmp_path: Path, summed: None) -> None:
    """Seven images on two processes, whose batch norms have seen different images: no image twice, one result."""
    seven = tiny.tiles(tmp_path / "seven", 7)
    settings = tiny.recipe(seven, eval_split="train", image_size=64, ema_decay=0.0, **BEST)
    assert together(2, api.train, settings, tmp_path / "run") == [tmp_path / "run"] * 2
    logged = {name.removeprefix("eval/"): value for step, name, value in figures(tmp_path / "run") if step == 6}
    assert logged == pytest.approx(of_checkpoint(tmp_path / "run"), rel=1e-6)
    assert logged["images"] == 7


def test_the_best_is_kept_and_the_first_of_equals(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    monkeypatch.setattr(Validation, "__call__", scripted([math.nan, 0.5, 0.5, 0.25], seen))
    run = api.train(tiny.recipe(data, epochs=4, **BEST), tmp_path / "run")
    best = checkpoint_at(run / "best")
    assert best is not None
    assert [path.name for path in (run / "best").iterdir()] == ["step-00000006"]
    manifest, groups = load_checkpoint(best)
    expected = {"data": str(data), "split": "val", "metric": "AP50"}
    assert manifest["meta"]["selected_on"] == {**expected, "value": 0.5, "step": 6}
    assert all(torch.equal(value, seen[1][name]) for name, value in groups["ema"].items())
    assert tiny.checkpoint(run).name == "step-00000012"
    assert load_checkpoint(tiny.checkpoint(run))[0]["meta"]["selected_on"] == expected
    loaded = api.load(run / "best", "cpu").model.module.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in groups["ema"].items())


def test_nothing_is_kept_without_a_figure_or_unless_asked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Validation, "__call__", scripted([math.nan] * 2 + [0.5] * 2))
    assert not (api.train(tiny.recipe(data, **BEST), tmp_path / "none") / "best").exists()
    run = api.train(tiny.recipe(data, eval_every=1), tmp_path / "off")
    assert not (run / "best").exists()
    assert load_checkpoint(tiny.checkpoint(run))[0]["meta"]["selected_on"] is None


@pytest.mark.parametrize("stop", [3, 5, 9])
def test_resuming_chooses_the_same(
    data: Path, whole: Path, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, left = TrainStep.forward, [stop]

    def counted(step: TrainStep, batch: Batch) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(step, batch)

    monkeypatch.setattr(Validation, "__call__", of_the_weights)
    monkeypatch.setattr(TrainStep, "forward", counted)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        api.train(tiny.recipe(data, epochs=4, **BEST), run)
    api.train(tiny.recipe(data, epochs=4, **BEST), run)
    assert tiny.state(run) == tiny.state(whole)
    assert figures(run) == figures(whole)
    ours, theirs = checkpoint_at(run / "best"), checkpoint_at(whole / "best")
    assert ours is not None
    assert theirs is not None
    assert ours.name == theirs.name
    assert (ours / "ema.safetensors").read_bytes() == (theirs / "ema.safetensors").read_bytes()


def test_a_choice_made_after_the_last_checkpoint_is_forgotten(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        save_checkpoint(tmp_path, step, {"model": {"w": torch.zeros(1)}}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000006", "step-00000009"]
    drop_later(tmp_path, 6)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000006"]
    drop_later(tmp_path / "missing", 6)


def test_the_recipe_refuses_a_choice_without_evaluations(data: Path) -> None:
    with pytest.raises(UsageError, match="keep_best needs evaluations: set eval_every"):
        tiny.recipe(data, keep_best="AP50")
    with pytest.raises(UsageError, match="keep_best"):
        tiny.recipe(data, eval_every=1, keep_best="mAP")


def test_how_often_may_change_in_the_course_of_a_run(data: Path, plain: Path) -> None:
    api.train(tiny.recipe(data, epochs=4, eval_every=2), plain)
