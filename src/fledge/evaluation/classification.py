"""Scene classification: top-1 accuracy, overall and by class, and its mean and spread over runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fledge.errors import UsageError
from fledge.evaluation.confusion import confusion_matrix


@dataclass(frozen=True, eq=False)
class Classification:
    """What a classifier did on one split.

    Attributes:
        classes: the K names.
        confusion: (K, K) images, row the true class and column the predicted one.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def images(self) -> int:
        """How many there were."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float | None:
        """The share of images with the right class: overall accuracy; None without images."""
        return float(np.trace(self.confusion)) / self.images if self.images else None

    @property
    def by_class(self) -> dict[str, float | None]:
        """The same among the images of each class; None for a class without any."""
        totals, right = self.confusion.sum(axis=1).tolist(), np.diag(self.confusion).tolist()
        shares = [hits / total if total else None for hits, total in zip(right, totals, strict=True)]
        return dict(zip(self.classes, shares, strict=True))

    @property
    def mean_by_class(self) -> float | None:
        """The mean over the classes that have images: all count alike, however many images they have."""
        known = [share for share in self.by_class.values() if share is not None]
        return sum(known) / len(known) if known else None

    @property
    def empty(self) -> tuple[str, ...]:
        """The classes without images, which no figure speaks about."""
        return tuple(name for name, share in self.by_class.items() if share is None)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "images": self.images,
            "top1": self.top1,
            "mean by class": self.mean_by_class,
            "by class": self.by_class,
            "classes without images": list(self.empty),
            "confusion": self.confusion.tolist(),
        }


def classification(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> Classification:
    """Score predicted classes (n,) against the true ones (n,), both 0…K-1.

    Where a classifier gives scores (n, K), its prediction is their ``argmax``: the first of equal ones.

    Raises:
        UsageError: as ``confusion_matrix``.
    """
    return Classification(tuple(classes), confusion_matrix(truth, predicted, len(classes)))


@dataclass(frozen=True)
class OverRuns:
    """One figure of several runs, such as training with several seeds.

    Attributes:
        values: of each run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of the runs."""
        return math.fsum(self.values) / len(self.values)

    @property
    def std(self) -> float | None:
        """The standard deviation of a run, estimated from this sample (divided by n - 1); None for a single run."""
        if len(self.values) < 2:
            return None
        return math.sqrt(math.fsum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1))

    def __str__(self) -> str:
        if self.std is None:
            return f"{100 * self.mean:.2f} (one run)"
        return f"{100 * self.mean:.2f} ± {100 * self.std:.2f} ({len(self.values)} runs)"


def over_runs(values: Sequence[float]) -> OverRuns:
    """Shares 0…1 of several runs, to be shown in percent.

    Raises:
        UsageError: there are none, or one is no finite number.
    """
    if not values or not all(map(math.isfinite, values)):
        raise UsageError(f"runs: {list(values)}: give the finite figure of at least one")
    return OverRuns(tuple(map(float, values)))
