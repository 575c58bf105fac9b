"""From the fates of ranked detections to precision, recall and the area between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fledge.evaluation.protocols import Interpolation

Floats = NDArray[np.float64]

# As the VOC and DOTA evaluators have them: 0.30000000000000004 is not reached by three of ten.
VOC07_POINTS = np.arange(0.0, 1.1, 0.1)
COCO_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Curve:
    """Precision against recall after each detection that counts, best score first.

    Attributes:
        scores: (N,) falling.
        recall: (N,) share of the objects found so far, rising.
        precision: (N,) share of the detections so far that found one.
    """

    scores: Floats
    recall: Floats
    precision: Floats


def average_precision(recall: Floats, precision: Floats, interpolation: Interpolation) -> float:
    """Area under a precision-recall curve given by N points of rising recall.

    Args:
        recall: (N,) in 0…1.
        precision: (N,) in 0…1.
        interpolation: ``voc12`` takes the precision envelope over every change of recall; ``voc07`` and ``coco101``
            the mean of the largest precision at or above 11 and 101 recalls, 0 where none is so high.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "voc12":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    points = VOC07_POINTS if interpolation == "voc07" else COCO_POINTS
    reached = envelope[np.searchsorted(recall, points[points <= recall[-1]])] if len(recall) else envelope
    return float(reached.sum() / len(points))


def average_precisions(outcome: NDArray[np.int8], objects: int, interpolation: Interpolation) -> Floats:
    """Average precision (T,) of one class from the fates (T, N) of its detections, best score first.

    Args:
        outcome: 1 true positive, 0 false positive, -1 does not count.
        objects: how many were to be found, at least one.
        interpolation: see ``average_precision``.
    """
    from fledge.evaluation.kernels import counted_at_hits

    ap = np.empty(len(outcome))
    for t, row in enumerate(outcome):
        # The envelope changes at true positives only.
        counted = counted_at_hits(row)
        true = np.arange(1, len(counted) + 1)
        ap[t] = average_precision(true / objects, true / counted, interpolation)
    return ap


def curve(scores: Floats, outcome: NDArray[np.int8], objects: int) -> Curve:
    """The curve of one class at one threshold from scores (N,) and fates (N,), best score first."""
    counted = outcome >= 0
    true = np.cumsum(outcome[counted] == 1)
    return Curve(scores[counted], true / max(objects, 1), true / np.arange(1, len(true) + 1))
