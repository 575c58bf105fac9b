"""Average precision of oriented detections at exact rotated IoU.

The rule is the DOTA devkit's: detections of a class are taken by falling score; each is compared with the object of its
image that it overlaps most; it is a true positive if that IoU exceeds the threshold and the object is still free, and
a false positive otherwise (also when the best object is taken and another would do). Difficult objects are in neither
the recall nor the errors; neither are detections that lie at least half inside an ignored region.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.geometry.iou import rotated_iou
from fledge.types import Detections, Targets

Interpolation = Literal["area", "voc07"]
COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Average precisions of one evaluation, in 0…1; NaN where a class has no object to find.

    Attributes:
        classes: the K class names.
        thresholds: the T IoU thresholds.
        ap: (K, T) average precisions.
        objects: (K,) number of objects that count.
        images: number of images.
        interpolation: ``area`` (VOC12, under the whole curve) or ``voc07`` (11 points).
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    ap: Floats
    objects: NDArray[np.int64]
    images: int
    interpolation: Interpolation

    def mean(self, threshold: float | None = None) -> float:
        """Mean over the classes that have objects, at one threshold or over all of them; NaN without any object."""
        table = self.ap if threshold is None else self.ap[:, [self.thresholds.index(threshold)]]
        return float(np.nanmean(table)) if np.isfinite(table).any() else math.nan

    def per_class(self, threshold: float) -> dict[str, float]:
        """Average precision of each class at one threshold."""
        column = self.ap[:, self.thresholds.index(threshold)]
        return dict(zip(self.classes, column.tolist(), strict=True))

    def summary(self) -> dict[str, float]:
        """``AP50``, ``AP75`` and ``AP50:95`` in 0…1."""
        return {"AP50": self.mean(0.5), "AP75": self.mean(0.75), "AP50:95": self.mean()}


def evaluate(
    detections: Sequence[Detections],
    targets: Sequence[Targets],
    classes: Sequence[str],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    interpolation: Interpolation = "area",
) -> Metrics:
    """Average precision of the detections of some images against their labels.

    Args:
        detections: one per image, pixels of the image.
        targets: one per image, in the same order and pixels.
        classes: the K class names.
        thresholds: IoU thresholds; a match must exceed them.
        interpolation: how the precision-recall curve is integrated.
    """
    counts = [t.labels[~(t.difficult | t.ignore)].bincount(minlength=len(classes)) for t in targets]
    objects = torch.stack(counts).sum(0).numpy() if counts else np.zeros(len(classes), dtype=np.int64)
    ap = np.full((len(classes), len(thresholds)), math.nan)
    for k in range(len(classes)):
        if objects[k]:
            scores, outcome = _outcomes(detections, targets, k, thresholds)
            ap[k] = [_area(scores, row, int(objects[k]), interpolation) for row in outcome]
    return Metrics(tuple(classes), tuple(thresholds), ap, objects, len(targets), interpolation)


def average_precision(recall: Floats, precision: Floats, interpolation: Interpolation = "area") -> float:
    """Area under a precision-recall curve given by N points of rising recall.

    ``area`` takes the precision envelope over every change of recall (VOC 2010 and later); ``voc07`` the mean of the
    largest precision at recall 0, 0.1 … 1.
    """
    if interpolation == "voc07":
        reached = [precision[recall >= t] for t in np.linspace(0, 1, 11)]
        return sum(float(p.max()) for p in reached if p.size) / 11
    r = np.concatenate([[0.0], recall, [1.0]])
    p = np.concatenate([[0.0], precision, [0.0]])
    p = np.maximum.accumulate(p[::-1])[::-1]
    return float(np.sum(np.diff(r) * p[1:]))


def _outcomes(
    detections: Sequence[Detections], targets: Sequence[Targets], label: int, thresholds: Sequence[float]
) -> tuple[Floats, NDArray[np.int8]]:
    """Scores (D,) and outcomes (T, D) of one class over all images: 1 true, 0 false, -1 does not count."""
    scores, outcomes = [np.zeros(0)], [np.zeros((len(thresholds), 0), dtype=np.int8)]
    for found, truth in zip(detections, targets, strict=True):
        mine = found.select(found.labels == label)
        if len(mine):
            mine = mine.select(mine.scores.argsort(descending=True, stable=True))
            scores.append(mine.scores.double().numpy())
            outcomes.append(_match(mine, truth, label, thresholds))
    return np.concatenate(scores), np.concatenate(outcomes, axis=1)


def _match(found: Detections, truth: Targets, label: int, thresholds: Sequence[float]) -> NDArray[np.int8]:
    """Outcomes (T, D) of one image's detections of one class, best score first."""
    outcome = np.zeros((len(thresholds), len(found)), dtype=np.int8)
    if truth.ignore.any():
        inside = rotated_iou(found.boxes, truth.boxes[truth.ignore], mode="iof").amax(dim=1)
        outcome[:, inside.numpy() >= 0.5] = -1
    objects = truth.select((truth.labels == label) & ~truth.ignore)
    if not len(objects):
        return outcome
    overlap, best = rotated_iou(found.boxes.double(), objects.boxes.double()).max(dim=1)
    difficult = objects.difficult.numpy()
    for row, threshold in zip(outcome, thresholds, strict=True):
        taken = np.zeros(len(objects), dtype=bool)
        for d, (iou, g) in enumerate(zip(overlap.tolist(), best.tolist(), strict=True)):
            if iou > threshold:
                row[d] = -1 if difficult[g] else int(not taken[g])
                taken[g] = True
    return outcome


def _area(scores: Floats, outcome: NDArray[np.int8], objects: int, interpolation: Interpolation) -> float:
    """Average precision of one class at one threshold from scores (D,) and outcomes (D,)."""
    counted = outcome >= 0
    order = np.argsort(-scores[counted], kind="stable")
    hits = outcome[counted][order].astype(np.float64)
    true = np.cumsum(hits)
    return average_precision(true / objects, true / np.arange(1, len(hits) + 1), interpolation)
