"""A number that is not finite never reaches the weights: figure N2, and the rows about loss, gradient and scaler."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge import api
from fledge.cli import main
from fledge.data.datasets import open_dataset
from fledge.data.synthetic import write_dataset
from fledge.engine import loop
from fledge.engine.black_box import BlackBox, read_black_box, write_black_box
from fledge.errors import DataError, NumericError, ResourceError
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.recipe import Recipe, make_recipe
from fledge.replay import replay
from fledge.runs import load_detector
from fledge.types import Batch, Outputs

TINY: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0, "image_size": 64,
    "overlap": 16, "batch_size": 2, "epochs": 2, "workers": 0, "warmup_steps": 2, "device": "cpu", "seed": 3,
}  # fmt: skip
ALWAYS = set(range(100))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, "train", 8, 64, 0)
    return root


def recipe(data: Path, **settings: Any) -> Recipe:
    return make_recipe({**TINY, "data": str(data), **settings}, "test")


def _image(outputs: Outputs, value: float) -> Outputs:
    """What a bad pixel becomes: every map is bad."""
    logits, codes = (tuple(x + value for x in maps) for maps in (outputs.logits, outputs.codes))
    return replace(outputs, logits=logits, codes=codes)


def _box(outputs: Outputs, value: float) -> Outputs:
    return replace(outputs, codes=tuple(x * value for x in outputs.codes))


def _logit(outputs: Outputs, value: float) -> Outputs:
    spoilt = outputs.logits[0].clone()
    spoilt[0, 0, 0, 0, 0] = value
    return replace(outputs, logits=(spoilt, *outputs.logits[1:]))


def _gradient(outputs: Outputs, value: float) -> Outputs:
    """A loss that is fine, with a slope that is not: the root at zero."""
    logits = outputs.logits[0]
    return replace(outputs, logits=(logits + (logits - logits.detach()).abs().sqrt(), *outputs.logits[1:]))


Plant = Callable[[Outputs, float], Outputs]


def plant(monkeypatch: pytest.MonkeyPatch, how: Plant | None, value: float, steps: set[int]) -> None:
    """Spoil what the loss sees in some steps; ``None`` spoils the loss itself."""
    honest = _HONEST
    seen = {"steps": -1}

    def loss(self: RotatedRetinaNet, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        seen["steps"] += 1
        if seen["steps"] not in steps:
            return honest(self, outputs, batch)
        if how is None:
            return {**honest(self, outputs, batch), "box": outputs.codes[0].sum() * value}
        return honest(self, how(outputs, value), batch)

    monkeypatch.setattr(RotatedRetinaNet, "loss", loss)


_HONEST = RotatedRetinaNet.loss


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def saved_step(run: Path) -> Path:
    (file,) = run.glob("nonfinite-*.safetensors")
    return file


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("how", [_image, _box, _logit, None, _gradient], ids=lambda h: h.__name__ if h else "loss")
def test_n2_a_planted_number_stops_the_run_before_the_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Plant | None, value: float
) -> None:
    """NaN or infinity in image, box, logit, loss or gradient: the run stops before the step with exit code 4; the
    message has step, loss parts and image ids; the checkpoint's hash is unchanged."""
    run = tmp_path / "run"
    plant(monkeypatch, how, value, {5})
    with pytest.raises(NumericError) as caught:
        api.train(recipe(data), run)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "step 5" in message
    assert "cls " in message
    assert "box " in message
    box = read_black_box(saved_step(run))
    assert all(t.image_id in message for t in box.batch.targets)
    assert box.meta["step"] == 5
    monkeypatch.undo()
    whole = api.train(recipe(data, epochs=1, milestones=[]), tmp_path / "whole")
    first = [digests(r / "checkpoints" / "step-00000004")["model.safetensors"] for r in (run, whole)]
    assert first[0] == first[1]
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_bad_step_may_be_left_out_and_is_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Non-finite loss or gradient: N2; optional skip_bad_steps = N counts and stops at the one after N."""
    plant(monkeypatch, _logit, math.nan, {1, 4, 6})
    with pytest.raises(NumericError, match="step 6"):
        api.train(recipe(data, skip_bad_steps=2), tmp_path / "stops")
    said = " ".join(capsys.readouterr().err.split())
    assert "left out: not finite: step 1" in said
    assert "1 more may be" in said
    assert "0 more may be" in said
    for precision in ("fp32", "fp16"):
        plant(monkeypatch, _logit, math.nan, {1, 4})
        run = api.train(recipe(data, skip_bad_steps=2, precision=precision), tmp_path / precision)
        assert all(p.isfinite().all() for p in load_detector(run)[0].parameters())


def test_a_step_that_cannot_be_saved_hides_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses the saved step: the message still says what was not finite, with exit code 4."""

    def refuse(*_: object) -> None:
        raise ResourceError("cannot write: disk full")

    plant(monkeypatch, _logit, math.nan, {1})
    monkeypatch.setattr(loop, "write_black_box", refuse)
    with pytest.raises(NumericError, match=r"step 1: cls.*could not be saved \(cannot write: disk full\)"):
        api.train(recipe(data), tmp_path / "run")


def test_a_gradient_that_overflows_under_autocast_is_skipped_by_the_scaler(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss fine, gradient infinite under fp16 autocast: the scaler skips; over 20 in a row end with exit code 4."""
    plant(monkeypatch, _gradient, 1.0, {0, 1, 2})
    run = api.train(recipe(data, precision="fp16"), tmp_path / "some")
    assert all(p.isfinite().all() for p in load_detector(run)[0].parameters())
    assert not list(run.glob("nonfinite-*"))
    monkeypatch.setattr(loop, "OVERFLOWS", 3)
    plant(monkeypatch, _gradient, 1.0, ALWAYS)
    with pytest.raises(NumericError, match="in a row overflowed in fp16") as caught:
        api.train(recipe(data, precision="fp16"), tmp_path / "all")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replay_names_the_operation(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    """A saved batch is run again in its own precision and in float64; the operation and its place are named."""
    honest = RotatedRetinaNet.loss

    def loss(self: RotatedRetinaNet, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        terms = honest(self, outputs, batch)
        return {**terms, "cls": terms["cls"] + (outputs.logits[0] - outputs.logits[0].detach()).sum().log()}

    monkeypatch.setattr(RotatedRetinaNet, "loss", loss)
    with pytest.raises(NumericError) as caught:
        api.train(recipe(data, precision=precision), tmp_path / "run")
    file = saved_step(tmp_path / "run")
    assert f"fledge replay {file}" in str(caught.value)
    result = replay(file)  # the fault is still there, as one of the code would be
    own, exact = result.reruns
    assert (own.precision, exact.precision) == (precision, "float64")
    assert own.origin is not None
    assert own.origin.stage == "forward"
    assert own.origin.operation.startswith("aten.log")
    assert "train_step.py" in own.origin.line
    assert not all(math.isfinite(v) for v in own.terms.values())
    assert "not finite even in float64" in result.verdict
    monkeypatch.undo()
    healed = replay(file)
    assert healed.reruns[0].origin is None
    assert "all finite on a CPU" in healed.verdict
    monkeypatch.setattr("sys.argv", ["fledge", "replay", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "first made by: nothing: all finite" in capsys.readouterr().out


def test_replay_names_what_made_a_gradient(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is finite with a gradient that is not: found in the backward pass."""
    plant(monkeypatch, _gradient, 1.0, ALWAYS)
    with pytest.raises(NumericError):
        api.train(recipe(data), tmp_path / "run")
    result = replay(saved_step(tmp_path / "run"))
    origin = result.reruns[1].origin
    assert origin is not None
    assert origin.stage == "backward"
    assert result.reruns[1].gradients


def test_replay_finds_an_overflow(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exp(100) is infinite in float32 and finite in float64: the verdict says so, and names it."""
    honest = RotatedRetinaNet.loss

    def loss(self: RotatedRetinaNet, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        terms = honest(self, outputs, batch)
        return {**terms, "box": terms["box"] * (outputs.codes[0].mean() * 0 + 100).exp()}

    monkeypatch.setattr(RotatedRetinaNet, "loss", loss)
    with pytest.raises(NumericError):
        api.train(recipe(data), tmp_path / "run")
    result = replay(saved_step(tmp_path / "run"))
    assert result.reruns[1].origin is None
    assert result.verdict.startswith("aten.exp")
    assert "overflowed in fp32: in float64 the step is finite" in result.verdict


def test_replay_names_weights_that_were_damaged_before(data: Path, tmp_path: Path) -> None:
    """Damage from before the step is told apart from damage done in it."""
    settings = recipe(data, epochs=1, milestones=[])
    detector = load_detector(api.train(settings, tmp_path / "run"))[0]
    weights = {k: v.clone(memory_format=torch.contiguous_format) for k, v in detector.state_dict().items()}
    name = next(k for k in weights if k.startswith("head") and k.endswith("weight"))
    weights[name].view(-1)[3] = math.nan
    batch = next(iter(api.training_batches(settings, open_dataset(data, "train"), 0, 1)))
    meta = {"recipe": settings.model_dump(mode="json"), "classes": list(detector.classes), "precision": "fp32"}
    write_black_box(tmp_path / "box.safetensors", BlackBox(weights, {}, batch, meta))
    assert f"weight {name}" in replay(tmp_path / "box.safetensors").verdict


def test_replay_refuses_other_files(tmp_path: Path) -> None:
    """A pickle, an empty file or no file: refused by name."""
    for content in (b"", b"not safetensors", b"\x80\x02\x63os\nsystem"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match="not a saved step"):
            replay(tmp_path / "file")
    with pytest.raises(DataError, match="not a saved step"):
        replay(tmp_path / "missing")


def test_the_saved_batch_is_the_one_that_failed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, _logit, math.nan, {2})
    with pytest.raises(NumericError):
        api.train(recipe(data), tmp_path / "run")
    box = read_black_box(saved_step(tmp_path / "run"))
    batch = list(api.training_batches(recipe(data), open_dataset(data, "train"), 0, 3))[2]
    assert torch.equal(box.batch.images, batch.images)
    assert torch.equal(box.batch.sizes, batch.sizes)
    for kept, target in zip(box.batch.targets, batch.targets, strict=True):
        assert (kept.image_id, kept.draw) == (target.image_id, target.draw)
        assert torch.equal(kept.boxes, target.boxes)
        assert torch.equal(kept.labels, target.labels)
