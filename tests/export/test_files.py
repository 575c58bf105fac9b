"""Exported files in the runtimes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.errors import DataError, UsageError
from fledge.export.graph import DetectorGraph
from fledge.export.model import ExportedModel, load_exported
from fledge.export.onnx_file import onnx_bytes
from fledge.export.openvino_file import converted, openvino_bytes
from fledge.export.parity import Agreement
from fledge.export.trace import record_graph, to_onnx
from fledge.inference.model import stack
from fledge.types import Detections

from .conftest import Cells, make_record, noise

ROOT = Path(__file__).parents[2]
SHAPES = ((1, 33, 65), (4, 96, 96), (2, 150, 40), (1, 8, 8))


def same(model: ExportedModel, graph: DetectorGraph, shape: tuple[int, int, int]) -> None:
    """The same boxes up to rounding, in the order of their scores."""
    images = noise(*shape, seed=shape[1])
    boxes, scores, labels, counts = graph(images)
    agreement = Agreement()
    for b, found in enumerate(model.run(*stack([image.permute(1, 2, 0).numpy() for image in images], 3))):
        rows = slice(int(counts[b]))
        expected = Detections(boxes[b, rows], scores[b, rows], labels[b, rows], model.classes)
        agreement.add(str(b), expected, found, Cells.score_threshold, Cells.nms_iou)
        assert found.frame.size == shape[1:]
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert agreement.differences == []
    assert agreement.worst_score < 1e-5


@pytest.mark.slow
def test_onnxruntime_at_other_sizes_than_the_traced_one(cells_file: Path, cells: DetectorGraph) -> None:
    pytest.importorskip("onnxruntime")
    model = load_exported(cells_file)
    assert model.classes == ("red", "green", "blue")
    assert re.fullmatch("[0-9a-f]{64}", model.fingerprint)
    for shape in SHAPES:
        same(model, cells, shape)


@pytest.mark.slow
def test_fewer_boxes_than_are_settled_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At any size: the second stage of the suppression would have nothing to look at, and no runtime takes that."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(Cells, "max_detections", 30)
    graph = DetectorGraph(Cells(), (124, 116, 104)).eval()
    path = tmp_path / "few.onnx"
    path.write_bytes(onnx_bytes(to_onnx(record_graph(graph, 3, None)), make_record(max_detections=30)))
    model = load_exported(path)
    for shape in SHAPES:
        same(model, graph, shape)


@pytest.mark.slow
def test_openvino_at_other_sizes(cells_model: Any, cells: DetectorGraph, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    record = make_record(runtime="openvino")
    xml, weights = openvino_bytes(converted(cells_model.SerializeToString()), record, tmp_path)
    (tmp_path / "model.xml").write_bytes(xml)
    (tmp_path / "model.bin").write_bytes(weights)
    model = load_exported(tmp_path / "model.xml")
    assert model.record.classes == record.classes
    for shape in SHAPES:
        same(model, cells, shape)
    (tmp_path / "model.bin").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged"):
        load_exported(tmp_path / "model.xml")


@pytest.mark.slow
def test_no_trace_of_the_machine(cells_file: Path) -> None:
    data = cells_file.read_bytes()
    assert str(ROOT).encode() not in data
    assert b".py" not in data


@pytest.mark.slow
def test_a_file_for_one_size(cells_model: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "fixed.onnx").write_bytes(onnx_bytes(cells_model, make_record(size=(96, 96))))
    model = load_exported(tmp_path / "fixed.onnx")
    small = [noise(1, 40, 96)[0].permute(1, 2, 0).numpy()] * 2
    found = model.run(*stack(small, 3))
    assert len(found) == 2
    assert (found[0].boxes[:, 1] <= 40).all()
    with pytest.raises(UsageError, match="made for 96x96 pixels, given 100x96: export it with --dynamic"):
        model.run(*stack([np.zeros((96, 100, 3), np.uint8)], 3))


@pytest.mark.slow
def test_the_strangers_example(cells_file: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """The program in docs/export.md, as it stands there, without fledge."""
    import cv2

    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert "fledge" not in code
    (tmp_path / "model.onnx").write_bytes(cells_file.read_bytes())
    cv2.imwrite(str(tmp_path / "image.png"), noise(1, 60, 80)[0].permute(1, 2, 0).numpy())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "export.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.fullmatch(r"(red|green|blue) 0\.\d+ .*", line) for line in lines)


def test_openvinos_pytorch_reader_and_deformable_convolution() -> None:
    """Its ONNX reader has no DeformConv; a detector with torchvision's operator can go this way."""
    openvino = pytest.importorskip("openvino")
    from torchvision.ops import DeformConv2d

    class Deformed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset, self.conv = torch.nn.Conv2d(3, 18, 3, padding=1), DeformConv2d(3, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(x, self.offset(x))
            return out

    torch.manual_seed(0)
    module, image = Deformed().eval(), torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        program = torch.export.export(module, (image,))
        compiled = openvino.Core().compile_model(
            openvino.convert_model(program), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        other = torch.rand(1, 3, 12, 16)
        got = torch.tensor(next(iter(compiled([other.numpy()]).values())))
        torch.testing.assert_close(got, module(other), atol=1e-5, rtol=0)
