"""The objects of one scene as flat arrays, and their merge across windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.errors import NumericError
from fledge.geometry.georeference import corner_points
from fledge.geometry.nms import ranked_nms
from fledge.inference.windows import Window, WindowGrid
from fledge.types import Detections, Frame

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_AT_ONCE = 1 << 18  # boxes that are placed in the scene at once


@dataclass(frozen=True)
class Hole:
    """A window that could not be read: its place in pixels, and why."""

    x: int
    y: int
    width: int
    height: int
    reason: str


@dataclass(frozen=True)
class Found:
    """The objects of one scene, best score first.

    Attributes:
        boxes: (N, 5) float64, le90, pixels of the scene: float32 would round the far corners of large ones.
        scores: (N,) float32.
        labels: (N,) int32, index into ``classes``.
        windows: (N, 2) int32, column and row of the first pixel of the window that saw each.
        classes: the K class names.
        frame: the scene.
        holes: windows that could not be read; the objects in them are missing.
    """

    boxes: Floats
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    windows: NDArray[np.int32]
    classes: tuple[str, ...]
    frame: Frame
    holes: tuple[Hole, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def corners(self) -> Floats:
        """(N, 4, 2) corner points, clockwise on screen, pixels."""
        return corner_points(self.boxes)

    def part(self, start: int, end: int) -> Found:
        """The objects ``start`` to ``end``."""
        rows = slice(start, end)
        return Found(
            self.boxes[rows], self.scores[rows], self.labels[rows], self.windows[rows], self.classes, self.frame,
            self.holes,
        )  # fmt: skip

    def detections(self) -> Detections:
        """The same as tensors in float32, without the windows."""
        boxes, scores = torch.from_numpy(self.boxes).float(), torch.from_numpy(self.scores)
        return Detections(boxes, scores, torch.from_numpy(self.labels).to(torch.int64), self.classes, self.frame)

    @staticmethod
    def of(detections: Detections) -> Found:
        """Detections of one image, seen as one window."""
        return Found(
            detections.boxes.double().numpy(),
            detections.scores.float().numpy(),
            detections.labels.to(torch.int32).numpy(),
            np.zeros((len(detections), 2), np.int32),
            detections.classes,
            detections.frame,
        )


@dataclass(frozen=True)
class Seen:
    """What the windows of a scene saw, N boxes in no particular order: 36 bytes each, for there may be many.

    Attributes:
        boxes: (N, 5) float32, pixels of their windows at the network's scale.
        scores: (N,) float32.
        labels: (N,) int32.
        windows: (N,) int64, numbers of windows.
        scale: network pixels for each pixel of the scene.
        cut: how many boxes reach beyond an inner border of their window, and are longer than the overlap.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    windows: NDArray[np.int64]
    scale: float
    cut: int

    def __len__(self) -> int:
        return len(self.scores)

    def placed(self, rows: Rows, grid: WindowGrid) -> Floats:
        """Some of the boxes (M, 5) in float64, pixels of the scene."""
        return _placed(self.boxes[rows], grid.origins(self.windows[rows]), self.scale)


def _placed(boxes: NDArray[np.float32], origins: NDArray[np.int32], scale: float) -> Floats:
    placed = boxes.astype(np.float64)
    placed[:, :4] /= scale
    placed[:, :2] += origins
    return placed


def owned(boxes: NDArray[np.float32], window: Window, scale: float) -> tuple[NDArray[np.bool_], int]:
    """Which boxes (N, 5) of a window, at the network's scale, have a centre that it owns: a mask (N,).

    Returns:
        The mask, and how many of those reach an inner border.
    """
    placed = _placed(boxes, np.array([window.x, window.y], np.int32), scale)
    x1, y1, x2, y2 = window.owned
    x, y = placed[:, 0], placed[:, 1]
    mine = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    quads = corner_points(placed[mine])
    low, high = quads.min(axis=1), quads.max(axis=1)
    inner = np.isfinite(window.owned)
    edges = np.array([window.x, window.y, window.x + window.width, window.y + window.height])
    reach = np.concatenate([low <= edges[:2] + 1, high >= edges[2:] - 1], axis=1) & inner
    return mine, int(reach.any(axis=1).sum())


def gather(parts: Iterable[tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]],
           grid: WindowGrid, scale: float) -> Seen:  # fmt: skip
    """The boxes that windows own: ``parts`` are numbers of windows with boxes, scores and labels."""
    boxes, scores, labels = [np.zeros((0, 5), np.float32)], [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    numbers, counts, cut = [0], [0], 0
    for number, box, score, label in parts:
        mine, reaching = owned(box, grid[number], scale)
        if mine.any():
            boxes.append(box[mine])
            scores.append(score[mine])
            labels.append(label[mine])
            numbers.append(number)
            counts.append(len(boxes[-1]))
            cut += reaching
    windows = np.repeat(np.array(numbers, np.int64), counts)
    return Seen(np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels), windows, scale, cut)


def merge(seen: Seen, grid: WindowGrid, nms_iou: float, classes: Sequence[str], frame: Frame,
          holes: Sequence[Hole] = ()) -> Found:  # fmt: skip
    """One set of objects from those that the windows own: exact rotated suppression over seams, on a spatial grid.

    The order of the boxes and so of the result is a property of the boxes alone, not of how the windows came. Needs
    about 110 bytes a box beside ``seen``: what suppression needs of each, and later the result.

    Raises:
        NumericError: a box or score is not finite.
    """
    if not (np.isfinite(seen.boxes).all() and np.isfinite(seen.scores).all()):
        raise NumericError(f"not finite: a score or box in {frame.image_id}: the detector's weights are damaged")
    rows = _ranked(seen, grid)
    if len(grid) > 1 and len(rows):
        parts = (torch.from_numpy(seen.placed(some, grid)) for some in _some(rows))
        rows = rows[ranked_nms(parts, torch.from_numpy(seen.labels[rows]).to(torch.int64), nms_iou).numpy()]
    boxes = np.empty((len(rows), 5))
    for place, some in zip(_some(boxes), _some(rows), strict=True):
        place[:] = seen.placed(some, grid)
    places = grid.origins(seen.windows[rows])
    return Found(boxes, seen.scores[rows], seen.labels[rows], places, tuple(classes), frame, tuple(holes))


def _ranked(seen: Seen, grid: WindowGrid) -> Rows:
    """All rows (N,), best score first; of equal scores by label, window and box.

    Sorted by one key after another, the least first, so that only one is in memory.
    """
    rows = np.arange(len(seen))
    for column in (4, 3, 2, 1, 0):
        rows = rows[np.concatenate([seen.placed(some, grid)[:, column] for some in _some(rows)]).argsort(kind="stable")]
    for key in (seen.windows, seen.labels, -seen.scores):
        rows = rows[key[rows].argsort(kind="stable")]
    return rows


def _some(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array in parts, at least one."""
    for start in range(0, max(1, len(rows)), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]
