"""Exported detectors as single ONNX files: writing, int8, and reading what may come from a stranger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.export.graph import NAMES
from fledge.export.record import KEY, Record, check_seal, read_bytes, read_record, refusal, sealed
from fledge.export.trace import INPUT, need, quiet

Image = NDArray[np.uint8]
Arrays = list[NDArray[Any]]


def onnx_bytes(model: Any, record: Record) -> bytes:
    """The file's bytes: the model with its record as metadata, sealed.

    ``fledge`` holds everything; ``names`` the class names alone, for programs that only label boxes.
    """
    labelled = type(model)()
    labelled.CopyFrom(model)
    del labelled.metadata_props[:]
    for key, text in ((KEY, record.text()), ("names", json.dumps(list(record.classes)))):
        entry = labelled.metadata_props.add()
        entry.key, entry.value = key, text
    return sealed(labelled.SerializeToString())


def read_onnx(path: Path) -> tuple[Record, bytes]:
    """The record of an ONNX file and its bytes, which are safe to hand to onnxruntime: nothing in them names a file.

    Raises:
        DataError: fledge did not write the file, or it is damaged, refers to other files, or holds operators that are
            not standard.
        UsageError: onnx is not installed.
    """
    data = read_bytes(path)
    check_seal(path, data)
    need("onnx")
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # of the protocol buffer library's own classes
        raise refusal(path, f"it is no ONNX file: {type(error).__name__}") from None
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(texts) != 1:
        raise refusal(path, "it has no record of fledge")
    if model.functions or any(i.domain not in ("", "ai.onnx") for i in model.opset_import):
        raise refusal(path, "it holds operators that are not standard")
    if model.training_info or any(_foreign(tensor) for tensor in _tensors(model.graph)):
        raise refusal(path, "parts of it lie in other files, which fledge never opens")
    _check_face(path, model.graph)
    return read_record(texts[0], path), data


class OnnxRunner:
    """An ONNX detector in onnxruntime on the CPU: images (B, C, H, W) uint8 to the four outputs of the graph."""

    def __init__(self, path: Path, data: bytes, threads: int) -> None:
        need("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # what goes wrong comes as an exception, too
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's classes have no common base
            raise refusal(path, f"onnxruntime refuses it: {_first_line(error)}") from None

    def __call__(self, images: Image) -> Arrays:
        """Run; see ``DetectorGraph.forward``."""
        try:
            return list(self._session.run(list(NAMES), {INPUT: images}))
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(_first_line(error)) from error
            raise


def quantised(model: Any, images: Iterator[Image], folder: Path) -> Any:
    """The model with its convolutions in 8-bit integers (QDQ form), scales measured on images (1, C, H, W).

    Everything after the convolutions (decoding, suppression) stays in float32. ``folder`` takes the temporary files.
    """
    need("onnxruntime")
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Image] | None:
            image = next(images, None)
            return None if image is None else {INPUT: image}

    plain, small = folder / "plain.onnx", folder / "int8.onnx"
    onnx.save_model(model, plain)
    with quiet():
        quantize_static(
            plain,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return onnx.load_model(small)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every stored tensor of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for inner in (attribute.g, *attribute.graphs):
            if inner.node or inner.initializer:
                yield from _tensors(inner)


def _foreign(tensor: Any) -> bool:
    return bool(tensor.data_location or len(tensor.external_data))


def _check_face(path: Path, graph: Any) -> None:
    """One image input, and the four outputs."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights]
    if inputs != [INPUT] or [value.name for value in graph.output] != list(NAMES):
        raise refusal(path, "its inputs and outputs are not those of a detector of fledge")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
