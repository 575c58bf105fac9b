"""Which detections found an object, which were wrong, and which do not count.

Pairs are compared within an image and class only, in compiled loops (``evaluation.kernels``). No pair is kept
but, where a protocol may want the second best, those that reach the least threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.protocols import IouKind, Protocol
from fledge.geometry.boxes import corners

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """The fate of every detection of a case; rows are those of ``Case.found`` and ``Case.objects``.

    Attributes:
        order: (D,) rows of ``found`` by class, then falling score; equal scores in input order.
        best_iou: (D,) largest IoU with an object of its class and image, difficult ones included; 0 without any.
        best_object: (D,) that object, the first one of equal overlaps, or -1 where the detection overlaps none.
        outcome: (T, D) int8 by threshold: 1 true positive, 0 false positive, -1 does not count.
    """

    order: Ints
    best_iou: Floats
    best_object: Ints
    outcome: NDArray[np.int8]


@dataclass(frozen=True)
class Scope:
    """Part of the objects to be found; what lies outside counts neither way.

    Attributes:
        objects: (G,) which of them are asked for.
        found: (D,) which detections would be errors if they found nothing.
    """

    objects: Flags
    found: Flags


@dataclass(frozen=True)
class Overlaps:
    """What any matching rule needs to know of a case.

    Attributes:
        order: as in ``Matches``.
        best_iou: as in ``Matches``.
        best_object: as in ``Matches``.
        spans: (2, D) where the pairs of a detection begin, and how many there are.
        rows: (P,) objects of the pairs that reach the least threshold; none where the rule needs the best one only.
        values: (P,) their IoU.
        covered: (D,) largest share of a detection inside an ignored region of its image.
        passed_over: (D,) which detections come after the largest number the protocol looks at.
    """

    order: Ints
    best_iou: Floats
    best_object: Ints
    spans: Ints
    rows: Ints
    values: Floats
    covered: Floats
    passed_over: Flags


def match(case: Case, protocol: Protocol, scope: Scope | None = None) -> Matches:
    """Compare the detections of a case with its objects by the rules of a protocol.

    Args:
        case: objects and detections.
        protocol: the rules.
        scope: part of the objects (of a size, say); by default all.
    """
    return assign(case, protocol, find_overlaps(case, protocol), scope)


def assign(case: Case, protocol: Protocol, overlaps: Overlaps, scope: Scope | None = None) -> Matches:
    """``match`` once the overlaps are known: they are the same for every scope."""
    from fledge.evaluation.kernels import assign_best, assign_free

    thresholds = np.array(protocol.thresholds, dtype=np.float64)
    limits = thresholds if protocol.ignored_iof is None else np.full(len(thresholds), protocol.ignored_iof)
    neutral = case.objects.difficult & protocol.honours_difficult
    excused = overlaps.covered >= limits[:, None]
    if scope is not None:
        neutral, excused = neutral | ~scope.objects, excused | ~scope.found
    outcome = np.full(excused.shape, -1, dtype=np.int8)
    order = overlaps.order[~overlaps.passed_over[overlaps.order]]
    rule = (thresholds, protocol.strict, outcome)
    if protocol.matching == "best":
        assign_best(order, overlaps.best_iou, overlaps.best_object, neutral, excused, *rule)
    else:
        pairs = (overlaps.spans, overlaps.rows, overlaps.values)
        assign_free(order, *pairs, neutral, excused, overlaps.covered, *rule)
    return Matches(overlaps.order, overlaps.best_iou, overlaps.best_object, outcome)


def find_overlaps(case: Case, protocol: Protocol) -> Overlaps:
    """Detections in the order of their scores, and what each overlaps among the objects of its class and image."""
    found, objects, classes = case.found, case.objects, max(len(case.classes), 1)
    least = min(protocol.thresholds) * (1 - 1e-9) if protocol.matching == "free" else 2.0
    shapes, others = _shapes(found, protocol.iou), _shapes(objects, protocol.iou)
    real, regions = np.flatnonzero(~objects.ignore), np.flatnonzero(objects.ignore)
    groups = found.image * classes + found.label, objects.image * classes + objects.label
    best, chosen, spans, rows, values = _scan(shapes, others, groups, real, protocol, least)
    covered = np.zeros(len(found))
    if len(regions):
        covered = _scan(shapes, others, (found.image, objects.image), regions, protocol, 2.0, over_found=True)[0]
    order = falling(found.score, found.label)
    return Overlaps(order, best, chosen, spans, rows, values, covered, _passed_over(order, groups[0], protocol))


def falling(scores: Floats, labels: Ints) -> Ints:
    """Rows (D,) by label, then falling score; equal scores in input order."""
    order = np.argsort(-scores, kind="stable")
    return order[_by(labels[order])]


def _by(keys: Ints) -> Ints:
    """Rows (N,) by key (N,), none of them negative; equal keys in input order."""
    # Numbers of 16 bits are sorted by radix, which takes no comparisons.
    return np.argsort(keys.astype(np.uint16) if len(keys) and keys.max() < 1 << 16 else keys, kind="stable")


def _scan(
    shapes: Floats,
    others: Floats,
    groups: tuple[Ints, Ints],
    rows: Ints,
    protocol: Protocol,
    least: float,
    over_found: bool = False,
) -> tuple[Floats, Ints, Ints, Ints, Floats]:
    """Largest overlaps of (D, 4, 2) shapes with those of the ``rows`` of (G, 4, 2) others that are in their group.

    Returns:
        What ``kernels.best_overlaps`` does, in rows of the others.
    """
    from fledge.evaluation.kernels import best_overlaps
    from fledge.geometry.quad_kernels import outlines

    rows = rows[_by(groups[1][rows])]
    visit = _by(groups[0])  # neighbours in an image one after the other
    keys = (groups[0][visit], groups[1][rows])
    rule = (protocol.iou == "horizontal", protocol.pixel, over_found, least)
    best, chosen, spans, pairs, values = best_overlaps(outlines(shapes), outlines(others[rows]), visit, *keys, *rule)
    return best, np.where(chosen >= 0, rows[chosen] if len(rows) else -1, -1), spans, rows[pairs], values


def _shapes(shapes: Found | Objects, iou: IouKind) -> Floats:
    """What is compared: (N, 4, 2) float64."""
    if iou == "box":
        return np.ascontiguousarray(corners(torch.from_numpy(shapes.boxes)).numpy())
    return np.ascontiguousarray(shapes.quads)


def _passed_over(order: Ints, groups: Ints, protocol: Protocol) -> Flags:
    """Which of (D,) detections come after the largest number of their image and class, given the order by score."""
    late = np.zeros(len(order), dtype=np.bool_)
    if protocol.max_detections is not None and len(order):
        together = order[_by(groups[order])]
        first = np.flatnonzero(np.diff(groups[together], prepend=groups[together[0]] - 1))
        sizes = np.diff(first, append=len(order))
        place = np.arange(len(order)) - np.repeat(first, sizes)
        late[together] = place >= protocol.max_detections
    return late
