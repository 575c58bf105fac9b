"""Exported files in the runtimes, and files that are not what they should be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fledge
from fledge.errors import DataError, NumericError, UsageError
from fledge.export.graph import DetectorGraph
from fledge.export.model import ExportedModel, load_exported
from fledge.export.onnx_file import onnx_bytes
from fledge.export.openvino_file import converted, openvino_bytes
from fledge.inference.model import stack

from .conftest import make_record, noise

ROOT = Path(__file__).parents[2]
SHAPES = ((1, 33, 65), (4, 96, 96), (2, 150, 40), (1, 8, 8))


def same(model: ExportedModel, graph: DetectorGraph, shape: tuple[int, int, int]) -> None:
    images = noise(*shape, seed=shape[1])
    pixels = [image.permute(1, 2, 0).numpy() for image in images]
    boxes, scores, labels, counts = graph(images)
    for b, found in enumerate(model.run(*stack(pixels, 3))):
        n = int(counts[b])
        assert found.labels.tolist() == labels[b, :n].tolist()
        torch.testing.assert_close(found.boxes, boxes[b, :n], atol=1e-3, rtol=0)
        torch.testing.assert_close(found.scores, scores[b, :n], atol=1e-5, rtol=0)
        assert found.frame.size == shape[1:]


@pytest.mark.slow
def test_onnxruntime_at_other_sizes_than_the_traced_one(cells_file: Path, cells: DetectorGraph) -> None:
    pytest.importorskip("onnxruntime")
    model = load_exported(cells_file)
    assert model.classes == ("red", "green", "blue")
    assert re.fullmatch("[0-9a-f]{64}", model.fingerprint)
    for shape in SHAPES:
        same(model, cells, shape)


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


def test_numbers_that_are_not_finite(hand_made: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = load_exported(hand_made)
    model.runner = lambda images: [np.zeros((1, 0, 5)), np.zeros((1, 0)), np.zeros((1, 0)), np.array([-1])]
    with pytest.raises(NumericError, match="not finite"):
        model.run(*stack([np.zeros((32, 32, 3), np.uint8)], 3))


@pytest.fixture
def hand_model() -> Any:
    """The smallest model with the face of a detector, a stored tensor and a loop: it finds nothing."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def value(name: str, kind: int, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    stored = {"boxes0": (1, 0, 5), "scores0": (1, 0), "labels0": (1, 0), "counts0": (1,)}
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT64]
    weights = [
        helper.make_tensor(n, k, d, [0] * int(np.prod(d))) for (n, d), k in zip(stored.items(), kinds, strict=True)
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [value("step", TensorProto.INT64), value("going", TensorProto.BOOL), value("c", TensorProto.INT64, 1)],
        [value("on", TensorProto.BOOL), value("d", TensorProto.INT64, 1)],
    )
    nodes = [helper.make_node("Identity", [f"{n}0"], [n]) for n in ("boxes", "scores", "labels")]
    weights += [
        helper.make_tensor("times", TensorProto.INT64, (), [1]),
        helper.make_tensor("yes", TensorProto.BOOL, (), [1]),
    ]
    nodes.append(helper.make_node("Loop", ["times", "yes", "counts0"], ["counts"], body=body))
    shapes = [("b", "n", 5), ("b", "n"), ("b", "n"), ("b",)]
    outputs = [value(n, k, *d) for n, k, d in zip(("boxes", "scores", "labels", "counts"), kinds, shapes, strict=True)]
    graph = helper.make_graph(nodes, "g", [value("images", TensorProto.UINT8, "b", 3, "h", "w")], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def hand_made(hand_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``hand_model`` as ``fledge export`` would write it."""
    path = tmp_path_factory.mktemp("hand") / "hand.onnx"
    path.write_bytes(onnx_bytes(hand_model, make_record()))
    return path


def test_a_sound_file_is_read(hand_made: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = fledge.load(hand_made).detect(np.zeros((50, 60, 3), np.uint8))
    assert (len(found), found.classes, found.frame.size) == (0, ("red", "green", "blue"), (50, 60))


def _external(model: Any) -> None:
    import onnx

    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _external_in_a_loop(model: Any) -> None:
    loop = next(node for node in model.graph.node if node.op_type == "Loop")
    body = next(a.g for a in loop.attribute if a.HasField("g"))
    body.initializer.add(name="x", data_type=1, data_location=1)


def _external_in_a_constant(model: Any) -> None:
    node = model.graph.node.add(op_type="Constant", output=["y"])
    node.attribute.add(name="value", type=4).t.data_location = 1


def _custom(model: Any) -> None:
    model.opset_import.add(domain="evil", version=1)


def _function(model: Any) -> None:
    model.functions.add(name="f", domain="")


def _renamed(model: Any) -> None:
    model.graph.output[0].name = "other"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_external, "other files"), (_external_in_a_loop, "other files"), (_external_in_a_constant, "other files"),
        (_custom, "not standard"), (_function, "not standard"), (_renamed, "inputs and outputs"),
    ],
)  # fmt: skip
def test_hostile_files_that_are_sealed(
    hand_model: Any, tmp_path: Path, harm: Callable[[Any], None], words: str
) -> None:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(hand_model)
    harm(model)
    (tmp_path / "secret").write_bytes(bytes(4))
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "model.onnx"
    path.write_bytes(onnx_bytes(model, make_record()))
    with pytest.raises(DataError, match=words):
        fledge.load(path)
    assert {p.name for p in tmp_path.rglob("*")} == {"in", "model.onnx", "secret"}


def test_files_that_fledge_did_not_write(hand_model: Any, hand_made: Path, tmp_path: Path) -> None:
    whole = hand_made.read_bytes()
    bare = type(hand_model)()
    bare.CopyFrom(hand_model)
    del bare.metadata_props[:]
    middle = bytearray(whole)
    middle[len(middle) // 2] ^= 4
    contents = {
        "foreign": bare.SerializeToString(), "empty": b"", "png": b"\x89PNG\r\n\x1a\n" + bytes(50), "flipped": middle,
        "cut": whole[: len(whole) // 2], "longer": whole + b"\0", "twice": whole + whole,
    }  # fmt: skip
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(bytes(content))
        with pytest.raises(DataError, match=rf"cannot read exported model: .*{name}\.onnx: .*export it again"):
            fledge.load(path)
        path.with_suffix(".xml").write_bytes(bytes(content))
        path.with_suffix(".bin").write_bytes(b"")
        with pytest.raises(DataError):
            fledge.load(path.with_suffix(".xml"))
    (tmp_path / "program.pt2").write_bytes(b"PK")
    with pytest.raises(UsageError, match="can run code"):
        fledge.load(tmp_path / "program.pt2")
    with pytest.raises(UsageError, match=r"runs on the CPU|no CUDA"):
        fledge.load(hand_made, "cuda")


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
