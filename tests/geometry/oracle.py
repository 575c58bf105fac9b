"""Slow, independent references in plain Python floats: a polygon clipper, and greedy suppression by the book."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def corner_points(box: Sequence[float], origin: Point = (0.0, 0.0)) -> list[Point]:
    cx, cy, w, h, angle = box
    c, s = math.cos(angle), math.sin(angle)
    offsets = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(cx - origin[0] + u * c - v * s, cy - origin[1] + u * s + v * c) for u, v in offsets]


def polygon_area(points: Sequence[Point]) -> float:
    following = [*points[1:], *points[:1]]
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(points, following, strict=True)) / 2


def _clip(points: list[Point], a: Point, b: Point) -> list[Point]:
    """Sutherland and Hodgman: the part of a convex polygon to the inner side of the directed line from a to b."""

    def side(p: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    kept: list[Point] = []
    for p, q in zip(points, [*points[1:], *points[:1]], strict=True):
        sp, sq = side(p), side(q)
        if sp >= 0:
            kept.append(p)
        if sp * sq < 0:
            t = sp / (sp - sq)
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return kept


def slow_intersection(box1: Sequence[float], box2: Sequence[float]) -> float:
    origin = (box1[0], box1[1])
    points, clipper = corner_points(box1, origin), corner_points(box2, origin)
    for a, b in zip(clipper, [*clipper[1:], *clipper[:1]], strict=True):
        points = _clip(points, a, b)
        if not points:
            return 0.0
    return polygon_area(points)


def slow_iou(box1: Sequence[float], box2: Sequence[float]) -> float:
    inter = slow_intersection(box1, box2)
    return inter / (box1[2] * box1[3] + box2[2] * box2[3] - inter)


def slow_nms(ious: Sequence[Sequence[float]], scores: Sequence[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda k: -scores[k]):
        if all(ious[i][k] <= threshold for k in kept):
            kept.append(i)
    return kept
