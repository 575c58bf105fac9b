"""Semantic segmentation: intersection over union of each class over all pixels of a split, and their mean (mIoU).

Pixels are summed over all images before any ratio is taken, so that each pixel of the split counts alike. Pixels
without data are not scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fledge.evaluation.confusion import confusion_matrix


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmenter did on one split.

    Attributes:
        classes: the K names.
        confusion: (K, K) pixels, row the true class and column the predicted one.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def pixels(self) -> int:
        """How many were scored."""
        return int(self.confusion.sum())

    @property
    def iou(self) -> dict[str, float | None]:
        """The IoU of each class; None for one that neither truth nor prediction has. One only predicted has 0."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - both
        shares = [hit / all_ if all_ else None for hit, all_ in zip(both.tolist(), either.tolist(), strict=True)]
        return dict(zip(self.classes, shares, strict=True))

    @property
    def mean_iou(self) -> float | None:
        """The mean over the classes that truth or prediction has: mIoU; None without pixels."""
        known = [value for value in self.iou.values() if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def accuracy(self) -> float | None:
        """The share of pixels with the right class; None without pixels."""
        return float(np.trace(self.confusion)) / self.pixels if self.pixels else None

    @property
    def empty(self) -> tuple[str, ...]:
        """The classes without a true pixel: of these, an IoU says nothing or 0."""
        totals = self.confusion.sum(axis=1).tolist()
        return tuple(name for name, total in zip(self.classes, totals, strict=True) if not total)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pixels": self.pixels,
            "mIoU": self.mean_iou,
            "accuracy": self.accuracy,
            "IoU": self.iou,
            "classes without pixels": list(self.empty),
            "confusion": self.confusion.tolist(),
        }


def segmentation(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]], classes: Sequence[str], no_data: int | None = 255
) -> Segmentation:
    """Score the masks of a split, one pair in memory at a time.

    Args:
        pairs: of each image the true and the predicted class of its pixels, 0…K-1, both (H, W).
        classes: the K names.
        no_data: the value of true masks that is not scored.

    Raises:
        UsageError: as ``confusion_matrix``.
    """
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for truth, predicted in pairs:
        total += confusion_matrix(truth, predicted, len(classes), no_data)
    return Segmentation(tuple(classes), total)
