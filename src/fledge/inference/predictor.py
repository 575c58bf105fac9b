"""A trained detector, ready to look at images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.raster import PixelRule, read_image
from fledge.data.transforms import fit_scale, resize
from fledge.errors import UsageError
from fledge.geometry.nms import rotated_nms
from fledge.inference.model import WindowModel, stack
from fledge.inference.windows import Window, windows
from fledge.types import Detections, Frame

Image = NDArray[np.uint8]
Source = str | Path | Image
Model = TypeVar("Model", bound=WindowModel, covariant=True)


@dataclass(frozen=True)
class Piece:
    """One window of one image, at the network's scale."""

    image: int
    pixels: Image
    window: Window


class Predictor(Generic[Model]):
    """Runs a detector on whole images, or on overlapping windows of large ones.

    An image is brought to the scale the detector was trained at. If it is then larger than ``image_size`` it is cut
    into overlapping windows; each detection is kept only by the window that owns its centre, and what is left doubled
    near the seams goes by class-aware rotated NMS, so the result does not depend on the order of the windows.

    Args:
        model: a trained detector and how it wants its windows.
        batch_size: windows computed at once.
    """

    def __init__(self, model: Model, batch_size: int = 4) -> None:
        self.model, self.batch_size = model, batch_size

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return self.model.classes

    @property
    def pixels(self) -> PixelRule:
        """How files are read."""
        return self.model.pixels

    def detect(self, source: Source, score_threshold: float = 0.05, scale: float | None = None) -> Detections:
        """Find the objects of one image.

        Args:
            source: a file, or an (H, W, C) uint8 array as ``read_image`` gives it (C = 3, red, green and blue, unless
                the detector was trained on other bands); (H, W), grey, for C = 1 or 3.
            score_threshold: detections below are left out.
            scale: network pixels for each pixel of this image; by default the scale of the training images.

        Returns:
            Detections in pixels of the image, best first, on the CPU.

        Raises:
            DataError: the file is no image, or has not the bands that the detector needs.
            UsageError: the array has another shape or type.
        """
        return self.detect_many([source], score_threshold, scale)[0]

    def detect_many(
        self,
        sources: Sequence[Source],
        score_threshold: float = 0.05,
        scale: float | None = None,
        advance: Callable[[int], Any] | None = None,
    ) -> list[Detections]:
        """``detect`` for several images, batching the windows of neighbouring ones that have the same size.

        ``advance`` is called with the number of images cut so far.
        """
        frames: list[Frame] = []
        scales: list[float] = []
        found: list[list[Detections]] = []

        def pieces() -> Iterator[Piece]:
            for i, source in enumerate(sources):
                image, name = _load(source, self.pixels)
                frames.append(Frame(image_id=name or str(i), size=image.shape[:2]))
                scales.append(scale or default_scale(self.model, *image.shape[:2]))
                found.append([])
                yield from self._cut(i, resized(image, scales[-1]))
                if advance is not None:
                    advance(i + 1)

        for batch in _batches(pieces(), self.batch_size):
            for piece, detections in zip(batch, self._run(batch), strict=True):
                found[piece.image].append(detections)
        merged = [self._merge(*row) for row in zip(found, frames, scales, strict=True)]
        return [d.above(score_threshold) for d in merged]

    def _cut(self, index: int, image: Image) -> Iterator[Piece]:
        height, width = image.shape[:2]
        for w in windows(height, width, self.model.image_size, self.model.overlap):
            yield Piece(index, image[w.y : w.y + w.height, w.x : w.x + w.width], w)

    def _run(self, pieces: Sequence[Piece]) -> list[Detections]:
        """Detections of each piece in pixels of its (scaled) image, those of the owned part only."""
        found = self.model.run(*stack([p.pixels for p in pieces], self.pixels.channels))
        return [_place(d, p.window) for d, p in zip(found, pieces, strict=True)]

    def _merge(self, parts: Sequence[Detections], frame: Frame, scale: float) -> Detections:
        """All windows of one image as one set, in pixels of the image."""
        boxes = torch.cat([p.boxes for p in parts])
        scores = torch.cat([p.scores for p in parts])
        labels = torch.cat([p.labels for p in parts])
        if len(parts) > 1:
            keep = rotated_nms(boxes, scores, self.model.nms_iou, labels)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        boxes = torch.cat([boxes[:, :4] / scale, boxes[:, 4:]], dim=1)
        return Detections(boxes, scores, labels, self.classes, frame)


def _place(found: Detections, window: Window) -> Detections:
    """Move detections from a window's pixels to its image's and keep those whose centre the window owns."""
    boxes = found.boxes.clone()
    boxes[:, 0] += window.x
    boxes[:, 1] += window.y
    x1, y1, x2, y2 = window.owned
    x, y = boxes[:, 0], boxes[:, 1]
    return replace(found, boxes=boxes).select((x >= x1) & (x < x2) & (y >= y1) & (y < y2))


def _batches(pieces: Iterator[Piece], size: int) -> Iterator[list[Piece]]:
    """Groups of at most ``size`` consecutive pieces of one shape."""
    group: list[Piece] = []
    for piece in pieces:
        if group and (len(group) == size or group[0].pixels.shape != piece.pixels.shape):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def default_scale(model: WindowModel, height: int, width: int) -> float:
    """Network pixels for each pixel of an image of that size, if nothing else is said."""
    if not model.fit:
        return model.pixel_scale
    whole = fit_scale(height, width, model.image_size, model.short_side)
    return whole if whole > model.pixel_scale / 1.5 else model.pixel_scale


def resized(image: Image, scale: float) -> Image:
    """An image (H, W, C) at ``scale`` times its size."""
    if scale == 1:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    # Given as factors, OpenCV uses the exact scale; a size would be rounded. One pixel is the least.
    fy, fx = (max(scale, 1 / side) for side in image.shape[:2])
    return resize(image, None, how, fx, fy)


def _load(source: Source, pixels: PixelRule) -> tuple[Image, str]:
    """Pixels (H, W, C) and the name of an image."""
    if not isinstance(source, np.ndarray):
        return read_image(Path(source), pixels), Path(source).stem
    channels = pixels.channels
    grey = source.ndim == 2 and channels in (1, 3)
    fits = grey or (source.ndim == 3 and source.shape[2] == channels)
    if source.dtype != np.uint8 or not source.size or not fits:
        form = "(H, W, 3) RGB" if channels == 3 else f"(H, W, {channels})"
        also = " or (H, W)" if channels in (1, 3) else ""
        raise UsageError(f"not an image: array of {source.dtype} {source.shape}: give uint8 {form}{also}")
    return (np.repeat(source[:, :, None], channels, axis=2) if grey else source), ""
