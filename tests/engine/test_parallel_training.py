"""Several processes, parts and precisions compute what one process computes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.processes import together
from torch import Tensor

from fledge import api, training
from fledge.build import build_detector
from fledge.data.synthetic import write_dataset
from fledge.distributed import joined, rank, wrap
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.engine.metric_log import read_metrics
from fledge.engine.train_step import TrainStep
from fledge.errors import ResourceError, UsageError
from fledge.recipe import Recipe, make_recipe
from fledge.types import Batch, Targets

TINY: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0, "image_size": 64,
    "overlap": 16, "batch_size": 4, "epochs": 2, "workers": 0, "warmup_steps": 2, "optimizer": "sgd", "lr": 0.01,
    "device": "cpu", "seed": 3, "freeze_norm": True, "milestones": [1], "score_threshold": 0.01,
    "max_detections": 50,
}  # fmt: skip
# Of Faster R-CNN: anchors are drawn, and more regions are asked for than an image has, each another number.
FASTER = {"region_width": 16, "proposals": 40, "anchor_samples": 24, "region_samples": 64}
CLASSES = ("plane", "ship")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, "train", 8, 64, 0)
    write_dataset(root, "val", 7, 64, 0)
    return root


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(recipe(data), tmp_path_factory.mktemp("runs") / "alone")


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pair"
    assert together(2, api.train, recipe(data), folder) == [folder, folder]
    return folder


def recipe(data: Path, **settings: Any) -> Recipe:
    return make_recipe({**TINY, "data": str(data), **settings}, "test")


def group(run: Path, name: str = "model") -> dict[str, Tensor]:
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    return load_checkpoint(newest)[1][name]


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], atol: float = 2e-6) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=1e-4, atol=atol), name


def assert_same_run(alone: Path, pair: Path) -> None:
    """The same weights, momenta and logged numbers."""
    assert_close(group(alone), group(pair))
    assert_close(group(alone, "optimizer"), group(pair, "optimizer"))
    one, two = ({(s, n): v for s, n, v in read_metrics(run / "metrics.csv")} for run in (alone, pair))
    assert one.keys() == two.keys()
    assert one == pytest.approx(two, rel=1e-4)


def test_two_processes_equal_one_with_the_same_batch(alone: Path, pair: Path) -> None:
    """Positives are counted over both, gradients averaged."""
    assert_same_run(alone, pair)


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_horizontal_detectors_in_two_processes(data: Path, tmp_path: Path, detector: str) -> None:
    """Faster R-CNN draws the same anchors and regions of an image, and counts those of both processes."""
    settings = recipe(data, detector=detector, **FASTER)
    together(2, api.train, settings, tmp_path / "pair")
    assert_same_run(api.train(settings, tmp_path / "alone"), tmp_path / "pair")


@pytest.mark.parametrize("detector", ["rotated_retinanet", "retinanet", "faster_rcnn"])
def test_a_process_without_an_object(data: Path, detector: str) -> None:
    """Every weight has a gradient there, too: without one the processes would wait for each other, or stop."""
    settings = recipe(data, detector=detector, **FASTER)
    expected = gradients(settings, slice(None))
    for found in together(2, own_gradients, settings):
        assert_close(expected, {name: torch.from_numpy(value) for name, value in found.items()})


def own_gradients(settings: Recipe) -> dict[str, NDArray[np.float32]]:
    """As arrays: a tensor would not outlive its process."""
    with joined(torch.device("cpu")):
        return {name: x.numpy() for name, x in gradients(settings, slice(rank(), rank() + 1)).items()}


def gradients(settings: Recipe, images: slice) -> dict[str, Tensor]:
    """Those of the second of two steps on some of two images, the second without an object; the same in each."""
    step = TrainStep(build_detector(settings, CLASSES)).train()
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    no = torch.zeros(1, dtype=torch.bool)
    targets = Targets(torch.tensor([[30.0, 30, 34, 20, 0.2]]), torch.tensor([0]), no, no)
    both: tuple[Targets, ...] = (targets, Targets.empty())
    batch = Batch(pixels[images], torch.full((2, 2), 64)[images], both[images])
    parallel = wrap(step)
    for _ in range(2):
        step.zero_grad()
        torch.autograd.backward(torch.stack(list(parallel(batch).values())).sum())
    return {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


def test_a_run_moves_to_another_number_of_processes(data: Path, alone: Path, tmp_path: Path) -> None:
    """Stopped after two of four steps in two processes, it goes on in one: the global batch is what counts."""
    together(2, _train_and_stop, recipe(data, save_every=1), tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000002"
    assert_close(group(alone), group(api.train(recipe(data, save_every=1), tmp_path / "run")))


def _train_and_stop(settings: Recipe, folder: Path) -> None:
    """The first process asks to stop in the second step; both must, after the same one."""
    make = training.training_batches

    def batches(*args: Any) -> Any:
        for number, batch in enumerate(make(*args)):
            if number == 1 and os.environ["RANK"] == "0":
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    training.training_batches = batches  # type: ignore[assignment]
    api.train(settings, folder)


def test_each_process_starts_from_the_same_checkpoint(data: Path, tmp_path: Path, pair: Path) -> None:
    before = {path: path.read_bytes() for path in pair.rglob("*.safetensors")}
    assert together(2, api.train, recipe(data), pair) == [pair, pair]
    assert {path: path.read_bytes() for path in pair.rglob("*.safetensors")} == before


def test_a_batch_that_cannot_be_shared_is_refused(data: Path, tmp_path: Path) -> None:
    errors = together(2, api.train, recipe(data, batch_size=3), tmp_path / "run")
    assert all(isinstance(error, UsageError | ResourceError) for error in errors), errors
    assert any("cannot be shared" in str(error) for error in errors)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_equal_the_whole_batch(data: Path, alone: Path, tmp_path: Path, parts: int) -> None:
    """The positives of all parts are counted before the first is divided by them."""
    run = api.train(recipe(data, accumulate=parts), tmp_path / "parts")
    assert_close(group(alone), group(run))
    assert_close(group(alone, "optimizer"), group(run, "optimizer"))


def test_faster_rcnn_in_parts_equals_the_whole_batch(data: Path, tmp_path: Path) -> None:
    """Where each image has as many regions as are asked for; parts do not know of each other's."""
    settings = recipe(data, detector="faster_rcnn", **{**FASTER, "region_samples": 8})
    parts = api.train(settings.model_copy(update={"accumulate": 2}), tmp_path / "parts")
    assert_close(group(api.train(settings, tmp_path / "whole")), group(parts))


def test_parts_in_processes_equal_the_whole_batch(data: Path, alone: Path, tmp_path: Path) -> None:
    together(2, api.train, recipe(data, accumulate=2), tmp_path / "parts")
    assert_close(group(alone), group(tmp_path / "parts"))


@pytest.mark.parametrize(
    ("detector", "precision"),
    [("rotated_retinanet", "bf16"), ("rotated_retinanet", "fp16"), ("retinanet", "bf16"), ("faster_rcnn", "bf16")],
)
def test_lower_precision_stays_near_float32(data: Path, tmp_path: Path, detector: str, precision: str) -> None:
    settings = {"detector": detector, **FASTER}
    alone, run, still = (
        api.train(recipe(data, **settings, **own), tmp_path / name)
        for name, own in (("alone", {}), ("lower", {"precision": precision}), ("still", {"lr": 1e-30}))
    )
    whole, near, start = group(alone), group(run), group(still)
    assert all(value.dtype == whole[name].dtype for name, value in near.items())
    moved = torch.cat([(whole[k] - v).flatten() for k, v in start.items() if v.is_floating_point()])
    apart = torch.cat([(whole[k] - v).flatten() for k, v in near.items() if v.is_floating_point()])
    assert 0 < float(apart.norm()) < 0.5 * float(moved.norm())
    losses, lower = ([v for _, _, v in read_metrics(x / "metrics.csv")] for x in (alone, run))
    assert lower == pytest.approx(losses, rel=1e-2)


def test_a_checkpoint_of_another_shape_is_refused(data: Path, tmp_path: Path) -> None:
    from fledge.errors import DataError

    run = api.train(recipe(data), tmp_path / "run")
    (run / "recipe.toml").unlink()
    other = recipe(data, neck_channels=32)
    with pytest.raises((DataError, UsageError)):
        api.train(other, run)
