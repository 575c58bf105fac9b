"""Slow evaluators, written from the protocols' descriptions alone: plain loops, polygons clipped edge by edge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.protocols import Protocol
from fledge.geometry.boxes import boxes_from_quads, corners

Point = tuple[float, float]
Polygon = list[Point]


def case(
    objects: Sequence[tuple[int, int, Any, str]],
    found: Sequence[tuple[int, int, float, Any]],
    images: int,
    classes: int,
) -> Case:
    """A case from objects (image, label, quad, "difficult", "ignore" or "") and (image, label, score, quad)."""
    quads = np.array([o[2] for o in objects], dtype=np.float64).reshape(-1, 4, 2)
    found_quads = np.array([f[3] for f in found], dtype=np.float64).reshape(-1, 4, 2)
    return Case(
        tuple(f"P{i:04d}" for i in range(images)),
        tuple(f"c{k}" for k in range(classes)),
        Objects(
            np.array([o[0] for o in objects], dtype=np.int64),
            np.array([o[1] for o in objects], dtype=np.int64),
            quads,
            boxes_from_quads(torch.from_numpy(quads)).numpy(),
            np.array([o[3] == "difficult" for o in objects], dtype=np.bool_),
            np.array([o[3] == "ignore" for o in objects], dtype=np.bool_),
        ),
        Found(
            np.array([f[0] for f in found], dtype=np.int64),
            np.array([f[1] for f in found], dtype=np.int64),
            np.array([f[2] for f in found], dtype=np.float64),
            found_quads,
            boxes_from_quads(torch.from_numpy(found_quads)).numpy(),
        ),
    )


# ---- overlap


def cross(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def area(polygon: Polygon) -> float:
    first = polygon[0] if polygon else (0.0, 0.0)
    return sum(cross(first, b, c) for b, c in pairwise(polygon)) / 2


def triangles(quad: Polygon) -> list[Polygon]:
    """Triangles that tile the quad: two of four corners, or the two lobes of a bow-tie."""
    a, b, c, d = quad
    for p, q, r, s in ((a, b, c, d), (b, c, d, a)):  # do p q and r s cross?
        if cross(p, q, r) * cross(p, q, s) < 0 and cross(r, s, p) * cross(r, s, q) < 0:
            t = cross(r, s, p) / (cross(r, s, p) - cross(r, s, q))
            x = (p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]))
            return [[q, r, x], [s, p, x]]
    # The diagonal that lies inside: both triangles turn the same way.
    if cross(a, b, c) * cross(a, c, d) >= 0:
        return [[a, b, c], [a, c, d]]
    return [[b, c, d], [b, d, a]]


def clip(polygon: Polygon, p: Point, q: Point) -> Polygon:
    """The part of a polygon to the left of the line from p to q."""
    kept: Polygon = []
    for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        inside, following = cross(p, q, a), cross(p, q, b)
        if inside >= 0:
            kept.append(a)
        if inside * following < 0:
            t = inside / (inside - following)
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
    return kept


def common(first: Polygon, second: Polygon) -> float:
    """Area of the intersection of two triangles."""
    if area(second) < 0:
        second = second[::-1]
    part = first
    for p, q in zip(second, second[1:] + second[:1], strict=True):
        part = clip(part, p, q)
    return abs(area(part)) if len(part) > 2 else 0.0


def overlap(first: Polygon, second: Polygon, over_first: bool = False) -> float:
    pieces, others = triangles(first), triangles(second)
    one, two = sum(abs(area(t)) for t in pieces), sum(abs(area(t)) for t in others)
    if one == 0 or two == 0:
        return 0.0
    shared = sum(common(t, u) for t in pieces for u in others)
    return shared / (one if over_first else one + two - shared)


def hull(quad: Polygon) -> tuple[float, float, float, float]:
    xs, ys = [p[0] for p in quad], [p[1] for p in quad]
    return min(xs), min(ys), max(xs), max(ys)


def upright(first: Polygon, second: Polygon, pixel: float, over_first: bool = False) -> float:
    (a, b, c, d), (e, f, g, h) = hull(first), hull(second)
    w, h_ = min(c, g) - max(a, e) + pixel, min(d, h) - max(b, f) + pixel
    if w <= 0 or h_ <= 0:
        return 0.0
    one, two = (c - a + pixel) * (d - b + pixel), (g - e + pixel) * (h - f + pixel)
    return w * h_ / (one if over_first else one + two - w * h_)


def shapes(whose: Objects | Found, protocol: Protocol) -> list[Polygon]:
    quads = corners(torch.from_numpy(whose.boxes)).numpy() if protocol.iou == "box" else whose.quads
    return [[(x, y) for x, y in quad] for quad in quads.tolist()]


def measure(protocol: Protocol) -> Callable[[Polygon, Polygon, bool], float]:
    if protocol.iou == "horizontal":
        return lambda a, b, over_first: upright(a, b, protocol.pixel, over_first)
    return overlap


# ---- average precision


def devkit_ap(recall: list[float], precision: list[float]) -> float:
    """Eleven points: at each the largest precision among the recalls that reach it."""
    ap = 0.0
    for t in np.arange(0.0, 1.1, 0.1):
        ap += max((p for r, p in zip(recall, precision, strict=True) if r >= t), default=0.0) / 11
    return ap


def area_ap(recall: list[float], precision: list[float]) -> float:
    ap, last = 0.0, 0.0
    for i, r in enumerate(recall):
        if r > last:
            ap += (r - last) * max(precision[i:])
            last = r
    return ap


def coco_ap(recall: list[float], precision: list[float]) -> float:
    ap = 0.0
    for t in np.linspace(0, 1, 101):
        ap += max((p for r, p in zip(recall, precision, strict=True) if r >= t), default=0.0) / 101
    return ap


RULES = {"voc07": devkit_ap, "voc12": area_ap, "coco101": coco_ap}


def slow_ap(the: Case, protocol: Protocol) -> list[list[float]]:
    """Average precision (K, T) by the plain reading of a protocol."""
    return [[class_ap(the, protocol, k, t) for t in protocol.thresholds] for k in range(len(the.classes))]


def class_ap(the: Case, protocol: Protocol, label: int, threshold: float) -> float:
    truth = the.objects
    mine = [g for g in range(len(truth)) if truth.label[g] == label and not truth.ignore[g]]
    counted = [g for g in mine if not (truth.difficult[g] and protocol.honours_difficult)]
    if not counted:
        return math.nan
    fates = fates_best(the, protocol, label, threshold, mine, set(counted))
    recall, precision, true, n = [], [], 0, 0
    for fate in fates:
        if fate < 0:
            continue
        true, n = true + fate, n + 1
        recall.append(true / len(counted))
        precision.append(true / n)
    return RULES[protocol.interpolation](recall, precision)


def ranked(the: Case, label: int, most: int | None) -> list[int]:
    """Detections of a class, best score first, at most so many of an image."""
    found = the.found
    rows = sorted((d for d in range(len(found)) if found.label[d] == label), key=lambda d: -found.score[d])
    seen: dict[int, int] = {}
    kept = []
    for d in rows:
        image = int(found.image[d])
        seen[image] = seen.get(image, 0) + 1
        if most is None or seen[image] <= most:
            kept.append(d)
    return kept


def fates_best(
    the: Case, protocol: Protocol, label: int, threshold: float, mine: list[int], counted: set[int]
) -> list[int]:
    """1, 0 or -1 for the detections of a class, best score first."""
    truth, found = the.objects, the.found
    iou = measure(protocol)
    boxes, others = shapes(truth, protocol), shapes(found, protocol)
    taken: set[int] = set()
    fates = []
    for d in ranked(the, label, protocol.max_detections):
        here = [g for g in mine if truth.image[g] == found.image[d]]
        ious = {g: iou(others[d], boxes[g], False) for g in here}
        regions = [g for g in range(len(truth)) if truth.ignore[g] and truth.image[g] == found.image[d]]
        covered = max((iou(others[d], boxes[g], True) for g in regions), default=0.0)
        excused = covered >= (threshold if protocol.ignored_iof is None else protocol.ignored_iof)
        if protocol.matching == "free":
            fates.append(free(ious, counted, taken, threshold, covered if excused else 0.0))
            continue
        best = max(here, key=lambda g: ious[g], default=None)  # the first of equals
        if best is not None and (ious[best] > threshold or (ious[best] == threshold and not protocol.strict)):
            fates.append(-1 if best not in counted else int(best not in taken))
            taken.add(best)
        else:
            fates.append(-1 if excused else 0)
    return fates


def free(ious: dict[int, float], counted: set[int], taken: set[int], threshold: float, covered: float) -> int:
    """COCO: of the objects left the best one, the last of equals; others and crowds only where none is."""
    for rest in (False, True):
        left = [g for g in ious if g not in taken and (g not in counted) == rest and ious[g] >= threshold]
        if left:
            best = max(left, key=lambda g: (ious[g], g))
            if not rest or covered < ious[best]:
                taken.add(best)
            return -1 if rest else 1
    return -1 if covered > 0 else 0
