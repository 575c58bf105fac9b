"""Average precision of the detections of a split by the rules of a protocol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fledge.errors import UsageError
from fledge.evaluation.case import Case, case_of
from fledge.evaluation.curves import Curve, average_precisions, curve
from fledge.evaluation.matching import Matches, Scope, match
from fledge.evaluation.protocols import COCO_THRESHOLDS, PROTOCOLS, Protocol
from fledge.types import Detections, Targets

Floats = NDArray[np.float64]
DEFAULT = PROTOCOLS["box_area"]


@dataclass(frozen=True)
class Ranking:
    """The detections of all classes, one class after the other, best score first.

    Attributes:
        starts: (K + 1,) int64, where each class begins; the last is D.
        scores: (D,).
        outcome: (T, D) int8 by threshold: 1 true positive, 0 false positive, -1 does not count.
    """

    starts: NDArray[np.int64]
    scores: Floats
    outcome: NDArray[np.int8]


@dataclass(frozen=True)
class Metrics:
    """Average precisions of one evaluation, in 0…1; NaN where a class has no object to find.

    Attributes:
        classes: the K class names.
        ap: (K, T) average precisions.
        objects: (K,) number of objects that count.
        images: number of images.
        protocol: the rules, with the T thresholds.
        ranking: what the curves are made of, or None where it was not kept.
    """

    classes: tuple[str, ...]
    ap: Floats
    objects: NDArray[np.int64]
    images: int
    protocol: Protocol = DEFAULT
    ranking: Ranking | None = None

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The T IoU thresholds."""
        return self.protocol.thresholds

    def mean(self, threshold: float | None = None) -> float:
        """Mean over the classes that have objects, at one threshold or over all of them; NaN without any object."""
        table = self.ap if threshold is None else self.ap[:, [self.thresholds.index(threshold)]]
        return float(np.nanmean(table)) if np.isfinite(table).any() else math.nan

    def per_class(self, threshold: float) -> dict[str, float]:
        """Average precision of each class at one threshold."""
        column = self.ap[:, self.thresholds.index(threshold)]
        return dict(zip(self.classes, column.tolist(), strict=True))

    def figures(self) -> dict[str, Floats]:
        """Those of ``AP50``, ``AP75`` and ``AP50:95`` that the thresholds allow, (K,) each, in 0…1."""
        single = {"AP50": 0.5, "AP75": 0.75}
        columns = {name: self.ap[:, self.thresholds.index(t)] for name, t in single.items() if t in self.thresholds}
        return {**columns, "AP50:95": self.ap.mean(axis=1)} if self.thresholds == COCO_THRESHOLDS else columns

    def summary(self) -> dict[str, float]:
        """Means of ``figures`` over the classes that have objects."""
        return {n: float(np.nanmean(v)) if np.isfinite(v).any() else math.nan for n, v in self.figures().items()}

    def curve(self, name: str, threshold: float) -> Curve:
        """Precision against recall of one class at one threshold.

        Raises:
            UsageError: the ranking was not kept.
        """
        if self.ranking is None:
            raise UsageError("no curve: metrics: only the averages were kept: use `score`")
        k, t = self.classes.index(name), self.thresholds.index(threshold)
        part = slice(*self.ranking.starts[k : k + 2])
        return curve(self.ranking.scores[part], self.ranking.outcome[t, part], int(self.objects[k]))


def score(case: Case, protocol: Protocol = DEFAULT) -> Metrics:
    """Average precision of a case by the rules of a protocol.

    Example:
        >>> score(case, PROTOCOLS["dota"]).mean(0.5)  # doctest: +SKIP
    """
    metrics = summarize(case, protocol, match(case, protocol))
    if protocol.library == "pycocotools":
        from fledge.evaluation.coco import library_ap

        return Metrics(
            metrics.classes, library_ap(case, protocol), metrics.objects, metrics.images, protocol, metrics.ranking
        )
    return metrics


def summarize(case: Case, protocol: Protocol, matches: Matches, scope: Scope | None = None) -> Metrics:
    """Average precisions from what became of each detection, of all objects or those in a scope."""
    truth, classes = case.objects, len(case.classes)
    counts = ~truth.ignore & ~(truth.difficult & protocol.honours_difficult)
    if scope is not None:
        counts = counts & scope.objects
    objects = np.bincount(truth.label[counts], minlength=classes)
    starts = np.concatenate([[0], np.cumsum(np.bincount(case.found.label, minlength=classes))])
    outcome = matches.outcome[:, matches.order]
    ap = np.full((classes, len(protocol.thresholds)), math.nan)
    for k in range(classes):
        if objects[k]:
            part = outcome[:, starts[k] : starts[k + 1]]
            ap[k] = average_precisions(part, int(objects[k]), protocol.interpolation)
    ranking = Ranking(starts, case.found.score[matches.order], outcome)
    return Metrics(case.classes, ap, objects, len(case.images), protocol, ranking)


def evaluate(
    detections: Sequence[Detections],
    targets: Sequence[Targets],
    classes: Sequence[str],
    protocol: Protocol = DEFAULT,
) -> Metrics:
    """Average precision of the detections of some images against their labels.

    Args:
        detections: one per image, pixels of the image.
        targets: one per image, in the same order and pixels.
        classes: the K class names.
        protocol: the rules.
    """
    return score(case_of(detections, targets, classes), protocol)
