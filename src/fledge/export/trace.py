"""A detector's graph, recorded by ``torch.export`` and written in ONNX's operators."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from fledge.errors import UsageError
from fledge.export.graph import NAMES, DetectorGraph

INPUT = "images"
# Sides of the image that a graph for any size is recorded with: no level of a pyramid up to stride 128 has a single
# row or column, which would be taken for a constant.
_HEIGHT, _WIDTH = 288, 352
# Of images and of their sides: without it the recorder notes bounds of products that no 64-bit integer holds.
_MOST = 1 << 15


def record_graph(graph: DetectorGraph, channels: int, size: tuple[int, int] | None, batch: bool = True) -> Any:
    """Record the graph on an image of noise.

    Args:
        graph: in eval mode, on the CPU; left as it is.
        channels: of the images.
        size: (height, width) that every image will have, one at a time; None: any size.
        batch: with any size, also any number of images.

    Returns:
        The ``ExportedProgram``.
    """
    graph = copy.deepcopy(graph).eval().to(memory_format=torch.contiguous_format).requires_grad_(False)
    height, width = size or (_HEIGHT, _WIDTH)
    shape = (2 if batch and size is None else 1, channels, height, width)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    side = Dim.DYNAMIC(max=_MOST)
    free: dict[int, Any] = {2: side, 3: side} if size is None else {}
    if shape[0] > 1:
        free[0] = Dim.DYNAMIC(max=_MOST)
    with quiet():
        return torch.export.export(graph, (noise,), dynamic_shapes=(free or None,), strict=False)


def to_onnx(program: ExportedProgram) -> Any:
    """The ``onnx.ModelProto`` of a recorded graph, without names of the files of the machine that made it."""
    need("onnx", "onnxscript")
    with quiet():
        made: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(NAMES)
        )
    model = made.model_proto
    model.doc_string = ""
    _strip(model.graph)
    return model


def need(*packages: str) -> None:
    """Import packages of the extra ``export``.

    Raises:
        UsageError: one is not installed.
    """
    for package in packages:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                __import__(package)
        except ImportError:
            raise UsageError(f"{package} is not installed: run `pip install fledge[export]`") from None


def _strip(graph: Any) -> None:
    """Remove what the exporter notes of source files and stacks, in bodies of loops, too."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    for value in (*graph.value_info, *graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters say of their own deprecations and of names they change."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
