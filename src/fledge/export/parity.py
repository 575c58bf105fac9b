"""Whether two runs of one detector found the same boxes, and if not, where they differ."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fledge.geometry.iou import rotated_iou
from fledge.types import Detections

MIN_IOU = 0.99
MAX_SCORE = 1e-3
_EDGE = 1e-4  # of overlaps and scores: closer to a threshold, rounding decides
_SHOWN = 5


@dataclass
class Agreement:
    """How two lists of detections compare.

    Attributes:
        images: compared images.
        boxes: boxes of the reference.
        matched: of them, those with a box of the same class, an IoU of at least 0.99 and a score within 0.001.
        on_edge: boxes of either side without a match that rounding may have decided: their score, or an overlap with a
            box of the other side, is within 0.0001 of the detector's threshold.
        worst_iou: the least IoU of a matched pair (1 without any).
        worst_score: the largest difference of scores of a matched pair.
        differences: what is missing or too many, in words, best score first.
    """

    images: int = 0
    boxes: int = 0
    matched: int = 0
    on_edge: int = 0
    worst_iou: float = 1.0
    worst_score: float = 0.0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        edge = f", {self.on_edge} on the edge of a threshold" if self.on_edge else ""
        return (
            f"{self.matched} of {self.boxes} boxes in {self.images} images matched{edge}; worst IoU "
            f"{self.worst_iou:.6f}, worst score difference {self.worst_score:.1e}"
        )

    def first(self) -> str:
        """The first few differences."""
        more = len(self.differences) - _SHOWN
        return "; ".join(self.differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")

    def add(self, name: str, expected: Detections, found: Detections, score_threshold: float, nms_iou: float) -> None:
        """Compare one image; ``name`` says which in ``differences``."""
        self.images += 1
        self.boxes += len(expected)
        iou = rotated_iou(expected.boxes.double(), found.boxes.double())
        iou = iou * (expected.labels[:, None] == found.labels)
        gap = (expected.scores[:, None] - found.scores).abs()
        rows, columns = _pairs(torch.where(gap <= MAX_SCORE, iou, 0.0))
        self.matched += len(rows)
        if len(rows):
            self.worst_iou = min(self.worst_iou, float(iou[rows, columns].min()))
            self.worst_score = max(self.worst_score, float(gap[rows, columns].max()))
        missing, extra = _others(len(expected), rows), _others(len(found), columns)
        for side, mine, matrix, these in (
            ("missing", expected, iou, missing),
            ("too many", found, iou.T, extra),
        ):
            near_score = (mine.scores[these] - score_threshold).abs() <= _EDGE
            near_overlap = ((matrix[these] - nms_iou).abs() <= _EDGE).any(dim=1)
            excused = near_score | near_overlap
            self.on_edge += int(excused.sum())
            for i in these[~excused].tolist():
                self.differences.append(f"{name}: {side}: {_in_words(mine, i, matrix[i])}")


def _pairs(iou: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of pairs of at least 0.99, each row and column once, best first."""
    rows, columns = (iou >= MIN_IOU).nonzero(as_tuple=True)
    order = iou[rows, columns].argsort(descending=True).tolist()
    taken: tuple[set[int], set[int]] = (set(), set())
    chosen: list[tuple[int, int]] = []
    for k in order:
        i, j = int(rows[k]), int(columns[k])
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            chosen.append((i, j))
    pairs = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _others(count: int, chosen: Tensor) -> Tensor:
    rest = torch.ones(count, dtype=torch.bool)
    rest[chosen] = False
    return rest.nonzero()[:, 0]


def _in_words(found: Detections, i: int, iou: Tensor) -> str:
    numbers = ", ".join(f"{v:.2f}" for v in found.boxes[i].tolist())
    near = f"nearest IoU {float(iou.max()):.4f}" if len(iou) else "the other side has none"
    return f"{found.names[i]} {float(found.scores[i]):.4f} at ({numbers}), {near}"
