"""Exported files from strangers and damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.conftest import make_record

import fledge
from fledge.errors import DataError, NumericError, UsageError
from fledge.export.model import load_exported
from fledge.export.onnx_file import onnx_bytes
from fledge.inference.model import stack


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
    """ONNX files with external data (in weights, loops, constants), custom operators, functions, other outputs:
    refused, though sealed; no file beside them is opened or made."""
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


def test_exported_files_that_are_damaged_or_foreign(hand_model: Any, hand_made: Path, tmp_path: Path) -> None:
    """An exported file that is cut, flipped, doubled or by another program, an OpenVINO pair that does not fit, a .pt2:
    refused with one error before any runtime sees it."""
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


def test_numbers_that_are_not_finite(hand_made: Path) -> None:
    """Outputs of an exported network that are not finite: the graph says so, and the reader stops."""
    pytest.importorskip("onnxruntime")
    model = load_exported(hand_made)
    model.runner = lambda images: [np.zeros((1, 0, 5)), np.zeros((1, 0)), np.zeros((1, 0)), np.array([-1])]
    with pytest.raises(NumericError, match="not finite"):
        model.run(*stack([np.zeros((32, 32, 3), np.uint8)], 3))
