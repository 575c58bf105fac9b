"""The objects of one scene as flat arrays, and their merge across windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.errors import NumericError
from fledge.geometry.georeference import corner_points
from fledge.geometry.nms import rotated_nms
from fledge.inference.windows import Window, WindowGrid
from fledge.types import Detections, Frame

Floats = NDArray[np.float64]


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
    """What the windows of a scene saw, N boxes in no particular order.

    Attributes:
        boxes: (N, 5) float64, pixels of the scene.
        scores, labels: (N,).
        windows: (N,) int64, numbers of windows.
        cut: how many boxes reach beyond an inner border of their window, and are longer than the overlap.
    """

    boxes: Floats
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    windows: NDArray[np.int64]
    cut: int


def owned(boxes: NDArray[np.float32], window: Window, scale: float) -> tuple[Floats, NDArray[np.bool_], int]:
    """Boxes (N, 5) of a window at the network's scale, in pixels of the scene.

    Returns:
        (N, 5) boxes, (N,) whether the window owns their centres, and how many of those reach an inner border.
    """
    placed = boxes.astype(np.float64)
    placed[:, :4] /= scale
    placed[:, :2] += (window.x, window.y)
    x1, y1, x2, y2 = window.owned
    x, y = placed[:, 0], placed[:, 1]
    mine = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    quads = corner_points(placed[mine])
    low, high = quads.min(axis=1), quads.max(axis=1)
    inner = np.isfinite(window.owned)
    edges = np.array([window.x, window.y, window.x + window.width, window.y + window.height])
    reach = np.concatenate([low <= edges[:2] + 1, high >= edges[2:] - 1], axis=1) & inner
    return placed, mine, int(reach.any(axis=1).sum())


def gather(parts: Iterable[tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]],
           grid: WindowGrid, scale: float) -> Seen:  # fmt: skip
    """The boxes that windows own: ``parts`` are numbers of windows with boxes, scores and labels."""
    boxes, scores, labels, numbers, cut = [np.zeros((0, 5))], [np.zeros(0, np.float32)], [np.zeros(0, np.int32)], [], 0
    for number, box, score, label in parts:
        placed, mine, reaching = owned(box, grid[number], scale)
        boxes.append(placed[mine])
        scores.append(score[mine])
        labels.append(label[mine])
        numbers.append(np.full(int(mine.sum()), number))
        cut += reaching
    windows = np.concatenate([np.zeros(0, np.int64), *numbers])
    return Seen(np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels), windows, cut)


def merge(seen: Seen, grid: WindowGrid, nms_iou: float, classes: Sequence[str], frame: Frame,
          holes: Sequence[Hole] = ()) -> Found:  # fmt: skip
    """One set of objects from those that the windows own: exact rotated suppression over seams, on a spatial grid.

    The order of the boxes and so of the result is a property of the boxes alone, not of how the windows came.

    Raises:
        NumericError: a box or score is not finite.
    """
    if not (np.isfinite(seen.boxes).all() and np.isfinite(seen.scores).all()):
        raise NumericError(f"not finite: a score or box in {frame.image_id}: the detector's weights are damaged")
    order = np.lexsort((*seen.boxes.T[::-1], seen.windows, seen.labels, -seen.scores))
    boxes, scores, labels, windows = seen.boxes[order], seen.scores[order], seen.labels[order], seen.windows[order]
    if len(grid) > 1 and len(boxes):
        tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
        keep = rotated_nms(*tensors, nms_iou, torch.from_numpy(labels).to(torch.int64)).numpy()
        boxes, scores, labels, windows = boxes[keep], scores[keep], labels[keep], windows[keep]
    origins = np.array([grid.origin(int(n)) for n in np.unique(windows)], np.int32).reshape(-1, 2)
    places = origins[np.unique(windows, return_inverse=True)[1].reshape(-1)]
    return Found(boxes, scores, labels, places, tuple(classes), frame, tuple(holes))
