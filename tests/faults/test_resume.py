"""Resuming, repeating and odd data: a function a row of the fault table; its docstring is the row."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fledge import api, training
from fledge.engine.checkpoint import load_checkpoint
from fledge.engine.loop import Interrupted, Run
from fledge.engine.train_step import TrainStep
from fledge.errors import DataError, FledgeError
from fledge.evaluation.summary import evaluation_record
from fledge.recipe import Recipe, load_recipe
from fledge.runs import load_detector
from fledge.types import Batch

from .tiny import bits, checkpoint, logged, recipe, state, tiles

Stop = Callable[[int], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("data"), 12)


@pytest.fixture(scope="module", autouse=True)
def windows() -> Iterator[None]:
    """Log every 4 steps of a run of 24: checkpoints fall inside the windows."""
    make = training._run

    def longer(settings: Recipe, *rest: Any) -> Run:
        run = make(settings, *rest)
        return replace(run, log_every=4) if settings.epochs == 4 else run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_run", longer)
        yield


@pytest.fixture(scope="module")
def whole(windows: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 steps in one piece: four epochs of six, with EMA and warm-up."""
    return api.train(recipe(data, epochs=4), tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def stop_in(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """``stop_in(n)``: let Ctrl-C come while the n-th step from now is computed."""
    forward, left = TrainStep.forward, [0]

    def counted(step: TrainStep, batch: Batch) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(step, batch)

    def stop(steps: int) -> None:
        left[0] = steps

    monkeypatch.setattr(TrainStep, "forward", counted)
    return stop


def interrupt(run: Path, data: Path, stop_in: Stop, after: int) -> None:
    before = int(checkpoint(run).name[-8:]) if run.exists() else 0
    stop_in(after)
    with pytest.raises(Interrupted):
        api.train(recipe(data, epochs=4), run)
    assert checkpoint(run).name == f"step-{before + after:08d}"


def assert_equal(run: Path, whole: Path) -> None:
    one, other = state(run), state(whole)
    assert [name for name in other if one.get(name) != other[name]] == []
    assert one.keys() == other.keys()
    assert (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


@pytest.mark.parametrize("stop", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 21) if n != 7)])
def test_resume_at_any_step(tmp_path: Path, data: Path, whole: Path, stop_in: Stop, stop: int) -> None:
    """Resume at each step: final weights, optimiser, EMA and log lines are bit-equal to those of a run in one piece."""
    run = tmp_path / "run"
    interrupt(run, data, stop_in, stop)
    api.train(recipe(data, epochs=4), run)
    assert_equal(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(7, 1, 1), (8, 2), (1, 1, 1, 1)])
def test_resume_often_inside_an_epoch(
    tmp_path: Path, data: Path, whole: Path, stop_in: Stop, stops: tuple[int, ...]
) -> None:
    """A second and third resume inside the same epoch stay aligned with a run in one piece."""
    run = tmp_path / "run"
    for after in stops:
        interrupt(run, data, stop_in, after)
    api.train(recipe(data, epochs=4), run)
    assert_equal(run, whole)


@pytest.mark.parametrize("group", ["optimizer", "ema", "loop"])
def test_a_checkpoint_forgets_nothing(
    tmp_path: Path, data: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    """EMA, optimiser or loop counters missing from the checkpoint: the test of resuming would fail, since a resume
    without them ends elsewhere. (Schedule, sampler and random numbers are functions of the step.)"""
    assert {name.split("/")[0] for name in state(whole)} == {"model", "optimizer", "ema", "loop"}
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(checkpoint(run))

    def forget(path: Path) -> Any:
        manifest, groups = load_checkpoint(path)
        return manifest, {**groups, group: groups["model"] if group == "ema" else {}}

    monkeypatch.setattr("fledge.engine.state.load_checkpoint", forget)
    with pytest.raises(AssertionError):
        assert_equal(api.train(recipe(data, epochs=4), run), whole)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"workers": 1}, {"workers": 2}], ids=str)
def test_the_same_recipe_twice(tmp_path: Path, data: Path, whole: Path, settings: dict[str, Any]) -> None:
    """Same recipe, seed and threads twice, and with 0, 1 and 2 workers: bit-equal."""
    again = api.train(recipe(data, epochs=4, **settings), tmp_path / "run")
    assert_equal(again, whole)


def emptied(data: Path, root: Path) -> Path:
    """The same tiles, without any object."""
    copy = shutil.copytree(data, root)
    for label in copy.glob("*/labelTxt/*.txt"):
        label.write_text("")
    return copy


def test_batches_of_empty_images_only(tmp_path: Path, data: Path) -> None:
    """A batch of only empty images works: the box loss is zero, and every number stays finite."""
    copy = emptied(data, tmp_path / "data")
    for label in sorted(copy.glob("train/labelTxt/*.txt"))[:1]:
        label.write_text("10 10 30 10 30 20 10 20 ship 0\n")  # so that there is a class
    run = api.train(recipe(copy, epochs=1), tmp_path / "run")
    boxes = [value for _, name, value in logged(run) if name == "box"]
    assert 0.0 in boxes
    assert all(torch.isfinite(torch.tensor(value)) for _, _, value in logged(run))


@pytest.mark.parametrize(("images", "steps"), [(1, 1), (3, 1), (4, 2)])
def test_a_dataset_of_one_image_and_a_last_batch_of_one(tmp_path: Path, images: int, steps: int) -> None:
    """A dataset of one image works, with batch norm; a last batch that is not full is left out of the epoch, so with
    3 images and batches of 2 an epoch is one step, and no batch norm sees a batch of one."""
    data = tiles(tmp_path / "data", images)
    run = api.train(recipe(data, epochs=1, image_size=64), tmp_path / "run")
    assert checkpoint(run).name == f"step-{steps:08d}"


def test_zero_batches(tmp_path: Path) -> None:
    """Zero batches: a split without images is an error before the start; one smaller than the batch gives one step."""
    data = tiles(tmp_path / "data", 1)
    for file in (*data.glob("train/images/*"), *data.glob("train/labelTxt/*")):
        file.unlink()
    with pytest.raises(FledgeError) as caught:
        api.train(recipe(data, epochs=1), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    few = recipe(tiles(tmp_path / "one", 1), batch_size=16, epochs=1, image_size=64)
    run = api.train(few, tmp_path / "run")
    assert checkpoint(run).name == "step-00000001"


def test_a_teacher_that_learns(data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher in train mode or with gradients: after 12 steps its weights and batch-norm buffers are bit-equal, though
    somebody put it into train mode before each step."""
    teachers: list[Any] = []
    forward = TrainStep.forward

    def tampered(step: TrainStep, batch: Batch) -> Any:
        teachers.append(step._teacher)
        assert step._teacher is not None
        step._teacher.train()
        step.train()
        return forward(step, batch)

    monkeypatch.setattr(TrainStep, "forward", tampered)
    api.distill(recipe(data, method="kd_rnet", teacher=str(whole), epochs=2), tmp_path / "student")
    assert len(teachers) == 12
    assert not any(p.requires_grad or p.grad is not None for p in teachers[0].parameters())
    monkeypatch.undo()
    fresh = load_detector(whole)[0].state_dict()
    assert {k: bits(v) for k, v in teachers[0].state_dict().items()} == {k: bits(v) for k, v in fresh.items()}
    assert teachers[0].state_dict().keys() == fresh.keys()


def test_another_number_of_classes(tmp_path: Path, data: Path) -> None:
    """Wrong number of classes in the head: a run does not go on with data of other classes; one line says so."""
    copy = shutil.copytree(data, tmp_path / "data")
    run = api.train(recipe(copy, epochs=1), tmp_path / "run")
    for label in copy.glob("train/labelTxt/*.txt"):
        label.write_text("10 10 30 10 30 20 10 20 ship 0\n")
    with pytest.raises(DataError, match=r"classes differ: .* knows aircraft, .* have ship, vehicle: ") as caught:
        api.train(recipe(copy, epochs=2), run, allow_changes=["epochs"])
    assert "\n" not in str(caught.value)
    assert load_recipe(run / "recipe.toml") == recipe(copy, epochs=1)


def test_reset_head(tmp_path: Path, data: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong number of classes in the head: weights of such a run are refused, unless `--reset-head` allows a fresh
    class layer; what was loaded and skipped is printed."""
    copy = shutil.copytree(data, tmp_path / "data")
    for label in copy.glob("train/labelTxt/*.txt"):
        label.write_text("10 10 30 10 30 20 10 20 boat 0\n")
    with pytest.raises(DataError, match="reset_head"):
        api.train(recipe(copy, epochs=1, weights=str(whole)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    api.train(recipe(copy, epochs=1, weights=str(whole), reset_head=True), tmp_path / "run")
    said = capsys.readouterr().err
    assert "loaded" in said
    assert "left at random 2 (head)" in said


def test_evaluation_without_detections_or_objects(tmp_path: Path, data: Path, whole: Path) -> None:
    """Evaluation with zero detections of a class: AP 0; a class with zero objects is left out of the mean and reported
    as such, never as NaN; the same without any object at all."""
    copy = shutil.copytree(data, tmp_path / "data")
    present, *absent = api.load(whole, "cpu").classes
    labels = sorted(copy.glob("val/labelTxt/*.txt"))
    labels[0].write_text(f"1 1 3 1 3 2 1 2 {present} 0\n")  # too small for any detection
    labels[1].write_text("")
    found = api.evaluate(whole, copy, device="cpu")
    record = evaluation_record(found.metrics, found.cost)
    assert record["classes"][present]["AP50"] == record["AP50"] == 0.0
    assert [record["classes"][name]["AP50"] for name in absent] == [None] * len(absent)
    labels[0].write_text("")
    nothing = api.evaluate(whole, copy, device="cpu")
    record = evaluation_record(nothing.metrics, nothing.cost)
    assert record["AP50"] is None
    json.dumps(record, allow_nan=False)
