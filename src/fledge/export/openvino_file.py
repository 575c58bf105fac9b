"""Exported detectors as OpenVINO models: an XML file with the graph, and a ``.bin`` file with the weights beside it."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.export.graph import NAMES
from fledge.export.onnx_file import Arrays
from fledge.export.record import KEY, Record, check_seal, read_bytes, read_record, refusal, sealed
from fledge.export.trace import need, quiet

Image = NDArray[np.uint8]
_MAX_XML = 64 << 20
# What normalisation, decoding and suppression are made of: in 8 bits a coordinate would be off by pixels.
_ARITHMETIC = [
    "Add", "Subtract", "Multiply", "Divide", "MatMul", "Maximum", "Minimum", "Power", "Sqrt", "Exp", "Sigmoid",
    "Sin", "Cos", "ReduceSum", "MVN",
]  # fmt: skip


def openvino_bytes(model: Any, record: Record, folder: Path) -> tuple[bytes, bytes]:
    """The XML and the weights of an ``openvino.Model`` with its record, sealed over both.

    With the precision fp16 the weights are stored in half precision; with bf16 the reader asks the CPU for it.
    ``folder`` takes the temporary files.
    """
    import openvino

    model.set_rt_info(record.text(), [KEY])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=record.precision == "fp16")
    xml, weights = (folder / "model.xml").read_bytes(), (folder / "model.bin").read_bytes()
    return sealed(xml, weights), weights


def converted(data: bytes) -> Any:
    """The ``openvino.Model`` of an ONNX file's bytes.

    Through ONNX and not straight from PyTorch, whose while loop (the suppression) OpenVINO cannot read.
    """
    need("openvino")
    import openvino

    model = openvino.convert_model(io.BytesIO(data))
    for port, name in zip(model.outputs, NAMES, strict=True):
        port.get_tensor().set_names({name})
    return model


def quantised_openvino(model: Any, images: Iterable[Image]) -> Any:
    """The model with its convolutions in 8-bit integers by NNCF, scales measured on images (1, C, H, W)."""
    need("nncf")
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    found = list(images)
    scope = nncf.IgnoredScope(types=_ARITHMETIC, validate=False)
    with quiet():  # a clone, for NNCF looks nodes up by names that a model just converted does not keep
        return nncf.quantize(model.clone(), nncf.Dataset(found), subset_size=len(found), ignored_scope=scope)


def read_openvino(path: Path) -> tuple[Record, tuple[bytes, bytes]]:
    """The record of an OpenVINO model, and the bytes of its XML and its weights.

    Raises:
        DataError: fledge did not write the files, or they are damaged or do not belong together.
    """
    xml, weights = read_bytes(path, _MAX_XML), read_bytes(path.with_suffix(".bin"))
    check_seal(path, xml, weights)
    found = re.findall(rb'<%s value="([^"]*)"' % KEY.encode(), xml)
    if len(found) != 1 or b"<!" in xml:
        raise refusal(path, "it has no record of fledge")
    text = found[0].decode("utf-8", "replace")
    for entity, sign in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return read_record(text, path), (xml, weights)


class OpenVINORunner:
    """An OpenVINO detector on the CPU: images (B, C, H, W) uint8 to the four outputs of the graph."""

    def __init__(self, path: Path, record: Record, files: tuple[bytes, bytes], threads: int) -> None:
        need("openvino")
        import openvino

        # Without the hint OpenVINO takes bfloat16 by itself wherever the CPU has it.
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if record.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        xml, weights = files
        try:
            core = openvino.Core()
            tensor = openvino.Tensor(np.frombuffer(weights, np.uint8).copy())
            model = core.read_model(xml, tensor)
            self._compiled = core.compile_model(model, "CPU", hints)
        except Exception as error:  # openvino raises RuntimeError for everything
            raise refusal(path, f"OpenVINO refuses it: {(str(error).splitlines() or [''])[0][:200]}") from None

    def __call__(self, images: Image) -> Arrays:
        """Run; see ``DetectorGraph.forward``."""
        return [np.array(value) for value in self._compiled([images]).values()]
