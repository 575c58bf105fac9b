"""An exported file as a ``WindowModel``: what predictors, scenes and services run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.raster import PixelRule
from fledge.errors import NumericError, UsageError
from fledge.export.onnx_file import OnnxRunner, read_onnx
from fledge.export.openvino_file import OpenVINORunner, read_openvino
from fledge.export.record import Record
from fledge.types import Detections, Frame

Image = NDArray[np.uint8]
Runner = Callable[[Image], list[NDArray[Any]]]

EXPORTED = (".onnx", ".xml", ".pt2")
"""The endings of exported files."""


class ExportedModel:
    """An exported detector.

    Args:
        record: what the file says of itself.
        runner: computes the graph.
        fingerprint: see ``WindowModel``.
        path: named in errors.
    """

    def __init__(self, record: Record, runner: Runner, fingerprint: str, path: Path) -> None:
        self.record, self.runner, self.fingerprint, self.path = record, runner, fingerprint, path
        self.classes: tuple[str, ...] = record.classes
        self.image_size, self.overlap = record.image_size, record.overlap
        self.fit, self.short_side = record.fit, record.short_side
        self.pixel_scale, self.nms_iou = record.pixel_scale, record.nms_iou
        self.pixels: PixelRule = record.pixels

    def run(self, images: Image, sizes: NDArray[np.int64]) -> list[Detections]:
        """See ``WindowModel``. The graph pads by itself, so it is given the true pixels only.

        A file for one size is given images of at most that size, padded to it, one at a time.

        Raises:
            UsageError: the file is for one size, and an image is larger.
        """
        found: dict[int, Detections] = {}
        shapes = [(int(h), int(w)) for h, w in sizes.tolist()]
        for size in dict.fromkeys(shapes):
            members = [i for i, shape in enumerate(shapes) if shape == size]
            pixels = images[members, : size[0], : size[1]]
            fixed = self.record.size
            parts = [pixels] if fixed is None else [self._canvas(image, fixed) for image in pixels]
            rows = [row for part in parts for row in self._detect(part, size)]
            found.update(zip(members, rows, strict=True))
        return [found[i] for i in range(len(shapes))]

    def _canvas(self, image: Image, size: tuple[int, int]) -> Image:
        """An image (h, w, C) padded to the file's size: (1, H, W, C)."""
        (height, width), (h, w) = size, image.shape[:2]
        if h > height or w > width:
            raise UsageError(
                f"wrong size: {self.path}: made for {width}x{height} pixels, given {w}x{h}: export it with --dynamic"
            )
        canvas = np.empty((1, height, width, image.shape[2]), np.uint8)
        canvas[:] = self.record.padding
        canvas[0, :h, :w] = image
        return canvas

    def _detect(self, images: Image, size: tuple[int, int]) -> list[Detections]:
        """Detections in images (B, H, W, C) whose true size is ``size``."""
        outputs = self.runner(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        boxes, scores, labels, counts = outputs
        if (counts < 0).any():
            raise NumericError(f"not finite: outputs of {self.path}: the file or the image is damaged: check both")
        rows = zip(boxes, scores, labels, counts.tolist(), strict=True)
        return [self._one(b[:n], s[:n], k[:n], size) for b, s, k, n in rows]

    def _one(
        self, boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], size: tuple[int, int]
    ) -> Detections:
        found = Detections(
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor(scores, dtype=torch.float32),
            torch.tensor(labels, dtype=torch.int64),
            self.classes,
            Frame(size=size),
        )
        return found.select((found.boxes[:, 0] <= size[1]) & (found.boxes[:, 1] <= size[0]))


def load_exported(path: str | Path, threads: int | None = None) -> ExportedModel:
    """An exported detector from its file (ONNX, or the XML file of OpenVINO), run on the CPU.

    Args:
        path: the file; what OpenVINO keeps in a ``.bin`` file lies beside it.
        threads: of the runtime; by default as many as PyTorch uses.

    Raises:
        DataError: fledge did not write the file, or it is damaged or refers to others.
        UsageError: the runtime is not installed, or the file is a ``.pt2``, which can run code when it is opened.
    """
    path = Path(path)
    count = threads or torch.get_num_threads()
    if path.suffix == ".pt2":
        raise UsageError(
            f"not opened: {path}: a torch.export file can run code when it is opened, so fledge does not: open "
            "your own with torch.export.load, and export with --to onnx or openvino for fledge"
        )
    if path.suffix == ".xml":
        record, files = read_openvino(path)
        return ExportedModel(record, OpenVINORunner(path, record, files, count), _hash(*files), path)
    record, data = read_onnx(path)
    return ExportedModel(record, OnnxRunner(path, data, count), _hash(data), path)


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
