"""Real (tiny) runs exported, proved and read back; slow, for each export takes half a minute."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.made import dota_folder
from tests.export.conftest import make_record, noise
from typer.testing import CliRunner

import fledge
from fledge import api, exporting
from fledge.benchmark import benchmark
from fledge.cli import app
from fledge.data.synthetic import write_dataset
from fledge.errors import DataError, NumericError, UsageError
from fledge.evaluation.average_precision import evaluate
from fledge.export.onnx_file import onnx_bytes
from fledge.export.proof import window_of
from fledge.geometry.boxes import corners
from fledge.geometry.iou import rotated_iou
from fledge.inference.model import stack
from fledge.recipe import make_recipe
from fledge.runs import load_model
from fledge.types import Detections

SETTINGS: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "head_norm": True, "anchor_scale": 2.0,
    "image_size": 96, "overlap": 32, "batch_size": 4, "epochs": 6, "workers": 0, "warmup_steps": 2,
    "optimizer": "adamw", "lr": 0.003, "device": "cpu", "seed": 1, "score_threshold": 0.02, "max_detections": 300,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector trained for a minute: it finds something, with scores that are not all alike."""
    root = tmp_path_factory.mktemp("run")
    write_dataset(root / "data", "train", 24, 128, 0)
    write_dataset(root / "data", "val", 20, 128, 1)
    api.train(make_recipe({**SETTINGS, "data": str(root / "data")}, "test"), root / "student", title="train")
    return root / "student"


def test_what_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    for arguments, words in (
        ({"to": "onnx", "precision": "bf16"}, "onnx has no bf16 on a CPU: use fp32, fp16, int8, or --to openvino"),
        ({"to": "torch-export", "precision": "int8"}, "torch-export has no int8"),
        ({"precision": "int8"}, "give --int8 --calibration DIR"),
        ({"calibration": tmp_path}, "give --int8 --calibration DIR"),
    ):
        with pytest.raises(UsageError, match=words):
            exporting.export(tmp_path / "run", **arguments)
    with pytest.raises(DataError, match="no checkpoint"):
        exporting.export(tmp_path / "run")


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"onnxscript is not installed: run `pip install fledge\[export\]`"):
        exporting.export(tmp_path / "run")


def test_a_file_is_not_evaluated_without_data(cells_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(UsageError, match=r"which data: .*cells\.onnx: .*: give --data DIR"):
        api.evaluate(cells_file)
    with pytest.raises(UsageError, match="device=cuda: use cpu"):
        api.evaluate(cells_file, tmp_path, device="cuda")
    (tmp_path / "a.pt2").write_bytes(b"")
    with pytest.raises(UsageError, match=r"not opened: .*a\.pt2: .* --to onnx or openvino"):
        api.evaluate(tmp_path / "a.pt2", tmp_path)
    with pytest.raises(UsageError, match="--trained-on goes with --detections"):
        CliRunner().invoke(app, ["evaluate", str(tmp_path), "--trained-on", str(tmp_path)], catch_exceptions=False)


def test_a_file_is_evaluated_by_what_it_finds(cells_model: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    settings = {"backbone": "resnet18_quarter", "neck_channels": 16, "image_size": 96, "overlap": 16}
    path = tmp_path / "cells.onnx"
    path.write_bytes(onnx_bytes(cells_model, make_record(recipe={**settings, "score_threshold": 0.5})))
    images = [np.ascontiguousarray(noise(1, 64, 96, seed=k)[0].permute(1, 2, 0).numpy()) for k in range(3)]
    found = fledge.load(path).detect_many(images, 0.5)
    half = [d.select(torch.arange(len(d)) % 2 == 0) for d in found]
    shown = {
        str(k): (image, [f"{' '.join(map(str, quad))} {d.classes[label]} 0" for quad, label in _rows(d)])
        for k, (image, d) in enumerate(zip(images, half, strict=True))
    }
    dota_folder(tmp_path / "data", {"val": {k: (i, "\n".join(lines) + "\n") for k, (i, lines) in shown.items()}})
    result = api.evaluate(path, tmp_path / "data", "val")
    truth = [result.dataset.targets(i) for i in range(3)]
    assert sum(map(len, half)) > 20
    assert 0.2 < result.metrics.mean(0.5) < 1
    np.testing.assert_array_equal(result.metrics.ap, evaluate(found, truth, found[0].classes).ap)
    assert (result.cost.size, result.cost.decode_milliseconds) == ((64, 96), None)
    assert result.cost.parameters > 1000


def _rows(found: Detections) -> list[tuple[list[float], int]]:
    return list(zip(corners(found.boxes).reshape(-1, 8).tolist(), found.labels.tolist(), strict=True))


@pytest.mark.slow
def test_fault_row_e1(run: Path, tmp_path: Path) -> None:
    """Logits to 1e-4 and detections at IoU 0.999 on 20 images other than the traced one, batch 1 and 4, two sizes."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    made = exporting.export(run, dynamic=True, out=tmp_path / "model.onnx", images=20)
    assert made.agreement is not None
    assert made.agreement.images == 80
    assert made.agreement.boxes > 200
    assert made.agreement.matched >= made.agreement.boxes - made.agreement.on_edge
    assert made.agreement.worst_iou >= 0.999
    model = onnx.load(made.path)
    (logits,) = {node.input[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    model.graph.output.append(onnx.ValueInfoProto(name=logits))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    reference: Any = load_model(run, "cpu")
    files = sorted((run.parent / "data" / "val" / "images").iterdir())
    assert len(files) == 20
    for size in (96, 64):
        for batch in (1, 4):
            for start in range(0, 20, batch):
                images = [_pixels(reference, f)[:size, :size] for f in files[start : start + batch]]
                pixels = np.ascontiguousarray(stack(images, 3)[0].transpose(0, 3, 1, 2))
                got = torch.from_numpy(session.run([logits], {"images": pixels})[0])
                with torch.no_grad():
                    expected = reference.module(torch.from_numpy(pixels)).logits
                flat = torch.cat([x.permute(0, 3, 4, 1, 2).flatten(1, 3) for x in expected], dim=1)
                torch.testing.assert_close(got, flat, atol=1e-4, rtol=0)


def _pixels(model: Any, file: Path) -> Any:
    from fledge.data.raster import read_image

    return window_of(model, read_image(file, model.pixels), None, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "precision", "dynamic"),
    [
        ("openvino", "fp32", True), ("openvino", "int8", False), ("onnx", "int8", False), ("onnx", "fp16", False),
        ("openvino", "bf16", False), ("openvino", "fp16", True),
    ],
)  # fmt: skip
def test_every_runtime(run: Path, tmp_path: Path, to: Any, precision: Any, dynamic: bool) -> None:
    scales = run.parent / "data" / "train" / "images" if precision == "int8" else None
    path = tmp_path / f"model{exporting.SUFFIX[to]}"
    made = exporting.export(run, to, precision, dynamic, path, calibration=scales, max_drop=1.0)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *(["model.bin"] if to == "openvino" else [])}
    assert (made.agreement is not None) == (precision == "fp32") == (made.ap is None)
    image = next((run.parent / "data" / "val" / "images").iterdir())
    found, expected = fledge.load(path).detect(image, 0.1), fledge.load(run).detect(image, 0.1)
    assert found.classes == expected.classes
    if precision == "fp32":
        assert len(found) == len(expected)
        torch.testing.assert_close(found.boxes, expected.boxes, atol=0.01, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("to", "dynamic"), [("onnx", True), ("onnx", False), ("openvino", True)])
def test_a_file_is_evaluated_as_its_run_is(run: Path, tmp_path: Path, to: Any, dynamic: bool) -> None:
    made = exporting.export(run, to, "fp32", dynamic, tmp_path / f"model{exporting.SUFFIX[to]}", images=2)
    data, (whole, file) = run.parent / "data", (api.evaluate(x, run.parent / "data", "val") for x in (run, made.path))
    assert whole.metrics.mean(0.5) > 0.001
    np.testing.assert_allclose(file.metrics.ap, whole.metrics.ap, atol=1e-6, rtol=0)
    assert file.about == whole.about
    assert (file.cost.parameters, file.cost.flops) == (whole.cost.parameters, whole.cost.flops)
    assert (file.cost.size, file.cost.decode_milliseconds) == ((96, 96), None)
    assert api.precision(made.path, data, "val", limit=5).images == 5
    command = ["evaluate", str(made.path), "--data", str(data), "--split", "val", "--out", str(tmp_path / "report")]
    told = CliRunner().invoke(app, [*command, "--trained-on", str(data / "train")], catch_exceptions=False).output
    assert "ms (network and decoding in one)" in told
    assert "none of 20 images is among the 24 trained on" in " ".join(told.split())
    assert "not checked whether anything was chosen on this split" in " ".join(told.split())
    assert (tmp_path / "report" / "report.html").is_file()
    assert "not checked whether these images were trained on" in CliRunner().invoke(app, command[:-2]).output


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_horizontal_detectors(run: Path, tmp_path: Path, detector: str) -> None:
    """Distilled like any other; the file holds standard operators only, and its boxes are horizontal."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    own = {"detector": detector, "region_width": 32, "proposals": 100, "region_samples": 64, "epochs": 4}
    settings = {**SETTINGS, **own, "data": str(run.parent / "data")}
    teacher = api.train(make_recipe(settings, "test"), tmp_path / "teacher")
    student = api.distill(make_recipe({**settings, "method": "kd_rnet", "seed": 2}, "test"), tmp_path / "kd", teacher)
    made = exporting.export(student, dynamic=True, out=tmp_path / "model.onnx")
    assert made.agreement is not None
    assert made.agreement.boxes > 20
    model = onnx.load(made.path)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert ("RoiAlign" in {node.op_type for node in model.graph.node}) == (detector == "faster_rcnn")
    image = next((run.parent / "data" / "val" / "images").iterdir())
    found, expected = (fledge.load(path).detect(image, 0.05) for path in (made.path, student))
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.boxes, expected.boxes, atol=0.01, rtol=0)
    turned = torch.minimum(found.boxes[:, 4].abs(), (found.boxes[:, 4] + torch.pi / 2).abs())
    assert float(turned.max()) < 1e-6


@pytest.fixture(scope="module", params=["retinanet", "faster_rcnn"])
def horizontal(run: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    own = {"detector": request.param, "region_width": 32, "proposals": 100, "region_samples": 64, "epochs": 12}
    settings = {**SETTINGS, **own, "data": str(run.parent / "data")}
    return api.train(make_recipe(settings, "test"), tmp_path_factory.mktemp("horizontal") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_horizontal_detectors_in_int8(run: Path, horizontal: Path, tmp_path: Path, to: Any) -> None:
    """Most boxes stay where they were: in 8 bits a proposal or a delta would be off by pixels."""
    data, path = run.parent / "data", tmp_path / f"model{exporting.SUFFIX[to]}"
    made = exporting.export(horizontal, to, "int8", out=path, calibration=data / "train" / "images", max_drop=1.0)
    floats = sum(x.numel() * x.element_size() for x in fledge.load(horizontal).model.module.parameters())
    assert made.bytes < floats
    whole, small = fledge.load(horizontal), fledge.load(path)
    same, moved = [], []
    for image in sorted((data / "val" / "images").iterdir()):
        expected, found = whole.detect(image, 0.05), small.detect(image, 0.02)
        overlap = rotated_iou(expected.boxes, found.boxes) * (expected.labels[:, None] == found.labels)
        best, row = overlap.max(dim=1)
        same.append(best > 0.7)
        moved.append((expected.scores - found.scores[row])[best > 0.7].abs())
    near = torch.cat(same)
    assert len(near) > 500
    assert float(near.float().mean()) > 0.75
    assert float(torch.cat(moved).mean()) < 0.01


@pytest.mark.slow
def test_torch_export(run: Path, tmp_path: Path) -> None:
    made = exporting.export(run, "torch-export", out=tmp_path / "model.pt2")
    assert made.agreement is not None
    assert made.agreement.boxes > 50
    texts = {"names": ""}
    program = torch.export.load(made.path, extra_files=texts)
    assert texts["names"].startswith('["')
    outputs = program.module()(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    assert [x.shape[0] for x in outputs] == [1] * 4
    with pytest.raises(UsageError, match="takes sides from 129 pixels: leave --dynamic out"):
        exporting.export(run, "torch-export", dynamic=True, out=tmp_path / "any.pt2")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    read = exporting._read

    def tampered(path: Path) -> Any:
        model = read(path)
        runner = model.runner

        def moved(images: Any) -> Any:
            boxes, scores, labels, counts = runner(images)
            return [boxes + np.array([0.8, 0, 0, 0, 0], np.float32), scores, labels, counts]

        model.runner = moved
        return model

    monkeypatch.setattr(exporting, "_read", tampered)
    with pytest.raises(NumericError, match=r"export differs from PyTorch: .*\(96x96 px, batch 1\): missing: "):
        exporting.export(run, out=tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(run.parent / "data" / "val" / "images", tmp_path / "images")
    monkeypatch.undo()
    made = exporting.export(run, out=tmp_path / "model.onnx", data=tmp_path / "images", images=2)
    assert made.agreement is not None
    assert made.agreement.images == 4


@pytest.mark.slow
def test_side_by_side(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made = exporting.export(run, out=tmp_path / "model.onnx", images=2)
    rows = benchmark([run, made.path], sizes=[96], data=run.parent / "data", split="val", repeats=3)
    assert [(r.runtime, r.precision, r.size, r.threads) for r in rows] == [
        ("torch", "fp32", 96, 1),
        ("onnx", "fp32", 96, 1),
    ]
    torch_row, onnx_row = rows
    assert (torch_row.parameters, torch_row.flops) == (onnx_row.parameters, onnx_row.flops)
    assert torch_row.ap50 is not None
    assert torch_row.ap50 == pytest.approx(onnx_row.ap50, abs=1e-3)
    assert all(0 < r.median_ms <= r.p95_ms and r.peak_bytes > 10**7 for r in rows)
    assert onnx_row.file_bytes == made.bytes
