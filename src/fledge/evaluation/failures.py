"""Why detections are wrong, and what each kind of error costs.

Every false positive gets the first reason that holds; t is the IoU threshold, b = 0.1, overlaps are the protocol's.

1. duplicate: it overlaps an object of its class enough (t), but a better detection took that one.
2. classification: it overlaps an object of another class enough.
3. angle: it would overlap an object of its class, which it crosses, enough if its rectangle were turned about the
   centre to that object's angle. Not for horizontal boxes. (A thin object that is crossed has little overlap.)
4. localisation: it overlaps an object of its class by b or more.
5. both: it overlaps an object of another class by b or more.
6. background: none of these.

An object is missed if no detection found it and none with reason 2, 3 or 4 points to it. What a kind of error costs is
the mean average precision gained if all errors of that kind were put right and nothing else: those of reason 2, 3 and 4
become right detections of the object they point to, the best first, if that object counts and was not found otherwise;
the others are removed; missed objects are not asked for. After D. Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors" (ECCV 2020, https://arxiv.org/abs/2008.08115); the angle as a reason is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.curves import average_precisions
from fledge.evaluation.matching import Matches, falling, match
from fledge.evaluation.protocols import Protocol
from fledge.evaluation.results.listing import corners_of_hulls
from fledge.geometry.boxes import canonicalize, corners
from fledge.geometry.quads import quad_iou, quad_iou_pairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

REASONS = ("duplicate", "classification", "angle", "localisation", "both", "background")
MISSED = "missed"
BACKGROUND_IOU = 0.1
_POINTING = ("classification", "angle", "localisation")


@dataclass(frozen=True, eq=False)
class Failures:
    """The errors of a case at one IoU threshold.

    Attributes:
        threshold: t.
        fate: (D,) int8: an index into ``REASONS`` for false positives, -1 for others.
        object: (D,) the object an error points to, or -1.
        found: (G,) whether a detection found the object.
        missed: (G,) whether it is missed.
        counts: (G,) whether the object is asked for.
        gain: AP gained by putting one kind right, by ``REASONS`` and ``missed``, in 0…1.
    """

    threshold: float
    fate: NDArray[np.int8]
    object: Ints
    found: Flags
    missed: Flags
    counts: Flags
    gain: dict[str, float]

    def total(self, reason: str) -> int:
        """How many errors of a kind there are."""
        return int(self.missed.sum() if reason == MISSED else (self.fate == REASONS.index(reason)).sum())


def find_failures(
    case: Case,
    protocol: Protocol,
    threshold: float | None = None,
    advance: Callable[[int, str], None] = lambda *_: None,
) -> Failures:
    """A reason for every false positive, and what each kind costs.

    Args:
        case: objects and detections.
        protocol: the rules.
        threshold: one of the protocol's; by default its least.
        advance: called with the number of images done.
    """
    matches = match(case, protocol)
    row = protocol.thresholds.index(protocol.thresholds[0] if threshold is None else threshold)
    outcome, limit = matches.outcome[row], protocol.thresholds[row]
    fate = np.full(len(case.found), -1, dtype=np.int8)
    points = np.full(len(case.found), -1, dtype=np.int64)
    images = len(case.images)
    near = _by_image(case.objects.image, np.flatnonzero(~case.objects.ignore), images)
    for image, wrong in enumerate(_by_image(case.found.image, np.flatnonzero(outcome == 0), images)):
        if len(wrong):
            fate[wrong], points[wrong] = _reasons(case, protocol, limit, matches, wrong, near[image])
        advance(image + 1, case.images[image])
    objects = case.objects
    counts = ~objects.ignore & ~(objects.difficult & protocol.honours_difficult)
    found = _found(case, protocol, limit, matches, outcome)
    pointed = np.zeros(len(objects), dtype=np.bool_)
    pointed[points[np.isin(fate, [REASONS.index(reason) for reason in _POINTING])]] = True
    missed = counts & ~found & ~pointed
    failures = Failures(limit, fate, points, found, missed, counts, {})
    return _with_gains(case, protocol, outcome, failures)


def _reasons(
    case: Case, protocol: Protocol, limit: float, matches: Matches, wrong: Ints, near: Ints
) -> tuple[NDArray[np.int8], Ints]:
    """Reasons and objects of the false positives ``wrong`` of one image with the objects ``near``."""
    mine, theirs = _shapes(case.found, wrong, protocol), _shapes(case.objects, near, protocol)
    i, j, iou = (x.numpy() for x in quad_iou_pairs(mine, theirs))
    same = case.found.label[wrong[i]] == case.objects.label[near[j]]
    own, own_at = _best(i[same], j[same], iou[same], len(wrong))
    other, other_at = _best(i[~same], j[~same], iou[~same], len(wrong))
    turned, turned_at = np.zeros(len(wrong)), np.full(len(wrong), -1)
    if protocol.iou != "horizontal" and same.any():
        boxes = case.found.boxes[wrong[i[same]]].copy()
        boxes[:, 4] = case.objects.boxes[near[j[same]], 4]
        quads = corners(canonicalize(torch.from_numpy(boxes)))
        turned, turned_at = _best(i[same], j[same], quad_iou(quads, theirs[j[same]], aligned=True).numpy(), len(wrong))

    def reached(values: Floats) -> Flags:
        return values > limit if protocol.strict else values >= limit

    rules = [
        (reached(matches.best_iou[wrong]), own_at),
        (reached(other), other_at),
        (reached(turned), turned_at),
        (own >= BACKGROUND_IOU, own_at),
        (other >= BACKGROUND_IOU, other_at),
    ]
    fate = np.select([holds for holds, _ in rules], list(range(len(rules))), len(rules)).astype(np.int8)
    at = np.select([holds for holds, _ in rules], [place for _, place in rules], -1)
    return fate, np.where(at >= 0, near[at] if len(near) else -1, -1)


def _by_image(image: Ints, rows: Ints, count: int) -> list[Ints]:
    """The ``rows`` of each image, in their order."""
    order = rows[np.argsort(image[rows], kind="stable")]
    return np.split(order, np.searchsorted(image[order], np.arange(1, count))) if count else []


def _best(rows: Ints, columns: Ints, values: Floats, count: int) -> tuple[Floats, Ints]:
    """The largest value of each of ``count`` rows and its first column; 0 and -1 without any."""
    order = np.lexsort((columns, -values, rows))
    first = order[np.flatnonzero(np.diff(rows[order], prepend=-1))]
    best, at = np.zeros(count), np.full(count, -1, dtype=np.int64)
    best[rows[first]], at[rows[first]] = values[first], columns[first]
    return best, at


def _shapes(shapes: Found | Objects, rows: Ints, protocol: Protocol) -> torch.Tensor:
    """What the protocol compares, as quads (N, 4, 2)."""
    if protocol.iou == "box":
        return corners(torch.from_numpy(shapes.boxes[rows]))
    quads = shapes.quads[rows]
    if protocol.iou == "horizontal":
        quads = corners_of_hulls(quads.min(axis=1), quads.max(axis=1) + protocol.pixel)
    return torch.from_numpy(quads)


def _found(case: Case, protocol: Protocol, limit: float, matches: Matches, outcome: NDArray[np.int8]) -> Flags:
    """The objects that a true positive took; where it may be another than the best, the best of those still free."""
    found = np.zeros(len(case.objects), dtype=np.bool_)
    right = np.flatnonzero(outcome == 1)
    if protocol.matching == "best":
        found[matches.best_object[right]] = True
        return found
    images = len(case.images)
    objects = _by_image(case.objects.image, np.flatnonzero(~case.objects.ignore), images)
    ranked = _by_image(case.found.image, matches.order[outcome[matches.order] == 1], images)
    for mine, near in zip(ranked, objects, strict=True):
        if not len(mine):
            continue
        iou = quad_iou(_shapes(case.found, mine, protocol), _shapes(case.objects, near, protocol)).numpy()
        iou = np.where(case.found.label[mine][:, None] == case.objects.label[near], iou, 0)
        for values in iou:
            values = np.where(found[near], 0, values)
            if values.max(initial=0) >= limit - 1e-9:
                found[near[values.argmax()]] = True
    return found


def _with_gains(case: Case, protocol: Protocol, outcome: NDArray[np.int8], failures: Failures) -> Failures:
    before = _mean(case, protocol, case.found.label, outcome, failures.counts)
    gain = {}
    for k, reason in enumerate(REASONS):
        labels, mended = _mended(case, outcome, failures, failures.fate == k, reason in _POINTING)
        gain[reason] = _mean(case, protocol, labels, mended, failures.counts) - before
    rest = failures.counts & ~failures.missed
    gain[MISSED] = _mean(case, protocol, case.found.label, outcome, rest) - before
    return Failures(
        failures.threshold, failures.fate, failures.object, failures.found, failures.missed, failures.counts, gain
    )


def _mended(
    case: Case, outcome: NDArray[np.int8], failures: Failures, wrong: Flags, pointing: bool
) -> tuple[Ints, NDArray[np.int8]]:
    """Labels and outcomes once the errors ``wrong`` are put right."""
    labels, mended = case.found.label.copy(), outcome.copy()
    mended[wrong] = -1
    if not pointing:
        return labels, mended
    free = failures.counts & ~failures.found
    rows = np.flatnonzero(wrong)
    for d in rows[np.argsort(-case.found.score[rows], kind="stable")]:
        g = failures.object[d]
        if free[g]:
            free[g] = False
            labels[d], mended[d] = case.objects.label[g], 1
    return labels, mended


def _mean(case: Case, protocol: Protocol, labels: Ints, outcome: NDArray[np.int8], counts: Flags) -> float:
    """Mean average precision at one threshold of detections with these labels and outcomes; 0 without objects."""
    order = falling(case.found.score, labels)
    objects = np.bincount(case.objects.label[counts], minlength=len(case.classes))
    values = [
        average_precisions(outcome[order[labels[order] == k]][None], int(count), protocol.interpolation)[0]
        for k, count in enumerate(objects.tolist())
        if count
    ]
    return float(np.mean(values)) if values else 0.0


def confusion(case: Case, failures: Failures, outcome: NDArray[np.int8], score: float) -> Ints:
    """(K + 1, K + 1) counts of objects by their class (rows) and what they were taken for (columns).

    The last column counts objects that were not found, the last row detections that are wrong in another way. Only
    detections with a score of at least ``score`` are looked at; ``outcome`` (D,) is that of the failures' threshold.
    """
    classes = len(case.classes)
    table = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    shown = case.found.score >= score
    right = shown & (outcome == 1)
    np.add.at(table, (case.found.label[right], case.found.label[right]), 1)
    confused = shown & (failures.fate == REASONS.index("classification"))
    np.add.at(table, (case.objects.label[failures.object[confused]], case.found.label[confused]), 1)
    others = shown & (outcome == 0) & ~confused
    np.add.at(table, (np.full(int(others.sum()), classes), case.found.label[others]), 1)
    asked = np.bincount(case.objects.label[failures.counts], minlength=classes)
    found = np.bincount(case.found.label[right], minlength=classes)
    pointed = np.unique(failures.object[confused])
    pointed = pointed[failures.counts[pointed] & ~failures.found[pointed]]
    taken = np.bincount(case.objects.label[pointed], minlength=classes)
    table[:classes, classes] = np.maximum(asked - found - taken, 0)
    return table


def best_f1(case: Case, outcome: NDArray[np.int8], objects: int) -> tuple[float, float]:
    """The score from which on F1 over all classes is largest, and that F1; (1, 0) without a right detection."""
    counted = np.flatnonzero(outcome >= 0)
    order = counted[np.argsort(-case.found.score[counted], kind="stable")]
    true = np.cumsum(outcome[order] == 1)
    f1 = 2 * true / (np.arange(1, len(order) + 1) + max(objects, 1))
    last = np.flatnonzero(np.diff(case.found.score[order], append=-1))  # equal scores stay together
    if not len(last) or not true[-1]:
        return 1.0, 0.0
    best = last[f1[last].argmax()]
    return float(case.found.score[order[best]]), float(f1[best])
