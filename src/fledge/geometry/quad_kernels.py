"""Overlaps of quadrilaterals pair by pair, as compiled loops over NumPy arrays on one CPU core.

The formulas and rules of ``fledge.geometry.quads``, which see; compiled because an evaluation asks for millions of
pairs, each of which needs little arithmetic. Importing this module imports numba: do it where the loops are needed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fledge.geometry.compiled import compiled

Floats = NDArray[np.float64]
Outlines = tuple[Floats, Floats, Floats, Floats]
"""(N, 2) first points; (N, E, 5) edges relative to them: left x, right x, y at the left, slope, sign; (N,) areas, 0 for
flat quads; (N, 4) hulls x1, y1, x2, y2. E is 4, or 6 when a quad crosses itself."""

_STEEP = 1e-18  # as in quads.py
_FLAT = 1e-12
_TINY = 1e-300


@compiled
def outlines(quads: Floats) -> Outlines:
    """Quads (N, 4, 2) float64, in pixels, ready to be intersected."""
    n = len(quads)
    crosses = np.empty(n, np.bool_)
    for i in range(n):
        crosses[i] = _crosses_itself(quads[i])
    origins, hulls = quads[:, 0].copy(), np.empty((n, 4))
    edges, areas = np.zeros((n, 6 if crosses.any() else 4, 5)), np.empty(n)
    for i in range(n):
        quad, hull = quads[i], hulls[i]
        total = 0.0
        hull[0] = hull[1] = math.inf
        hull[2] = hull[3] = -math.inf
        for k in range(4):
            x, y = quad[k, 0], quad[k, 1]
            hull[0], hull[1] = min(hull[0], x), min(hull[1], y)
            hull[2], hull[3] = max(hull[2], x), max(hull[3], y)
            total += x + y
        area = _lobes(quad, edges[i]) if crosses[i] else _loop(quad, edges[i])
        extent = max(hull[2] - hull[0], hull[3] - hull[1])
        areas[i] = 0.0 if area <= _FLAT * extent * extent else area
        if not math.isfinite(total):
            areas[i], hull[:] = math.nan, math.nan
    return origins, edges, areas, hulls


@compiled
def overlap(first: Outlines, second: Outlines, i: int, j: int, over_first: bool) -> float:
    """Intersection of quad i of one set with quad j of another over their union, or over the first area."""
    area1, area2 = first[2][i], second[2][j]
    if math.isnan(area1) or math.isnan(area2):
        return math.nan
    dx, dy = second[0][j, 0] - first[0][i, 0], second[0][j, 1] - first[0][i, 1]
    area = _intersection(first[1][i], second[1][j], dx, dy)
    inter = min(max(area, 0.0), min(area1, area2))
    whole = area1 if over_first else area1 + area2 - inter
    return float(inter / whole if whole != 0 else inter)


@compiled
def overlaps(first: Outlines, second: Outlines, i: NDArray[np.int64], j: NDArray[np.int64], over_first: bool) -> Floats:
    """Overlaps (P,) of the quads ``i`` (P,) of one set with the quads ``j`` (P,) of another; see ``quad_iou``."""
    values = np.empty(len(i))
    for p in range(len(i)):
        values[p] = overlap(first, second, i[p], j[p], over_first)
    return values


@compiled
def _intersection(edges1: Floats, edges2: Floats, dx: float, dy: float) -> float:
    """Area of the intersection, up to rounding of either sign; (dx, dy) leads from the first origin to the second."""
    total = 0.0
    for f in range(len(edges2)):
        left2, right2, y2 = edges2[f, 0] + dx, edges2[f, 1] + dx, edges2[f, 2] + dy
        slope2, sign2 = edges2[f, 3], edges2[f, 4]
        if sign2 == 0:
            continue
        for e in range(len(edges1)):
            left = max(edges1[e, 0], left2)
            width = min(edges1[e, 1], right2) - left
            if width <= 0 or edges1[e, 4] == 0:
                continue
            begin = (left - edges1[e, 0]) * edges1[e, 3] + edges1[e, 2] - ((left - left2) * slope2 + y2)
            end = (edges1[e, 3] - slope2) * width + begin
            span = abs(begin) + abs(end)
            distance = 0.5 * span + min(begin * end, 0.0) / (span + _TINY)
            total += distance * width * edges1[e, 4] * sign2
    return -0.5 * total


@compiled
def _turn(a: Floats, b: Floats, c: Floats) -> float:
    """Twice the signed area of a, b, c."""
    return float((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]))


@compiled
def _crosses_itself(quad: Floats) -> bool:
    a, b, c, d = quad[0], quad[1], quad[2], quad[3]
    return (_turn(a, b, c) < 0) != (_turn(c, d, a) < 0) and (_turn(b, c, d) < 0) != (_turn(d, a, b) < 0)


@compiled
def _edge(x1: float, y1: float, x2: float, y2: float, sign: float, out: Floats) -> float:
    """Write an edge as the strip below it; its part of twice the area inside."""
    run, rise = x2 - x1, y2 - y1
    if run > 0:
        out[0], out[1], out[2] = x1, x2, y1
    else:
        out[0], out[1], out[2] = x2, x1, y2
    out[3] = 0.0 if abs(run) <= _STEEP * abs(rise) else rise / run
    out[4] = -sign if run > 0 else (sign if run < 0 else 0.0 * run)
    return sign * (x1 * y2 - y1 * x2)


@compiled
def _loop(quad: Floats, out: Floats) -> float:
    """Write the four edges of a quad that does not cross itself; its area."""
    sign = -1.0 if _turn(quad[0], quad[1], quad[2]) + _turn(quad[2], quad[3], quad[0]) < 0 else 1.0
    twice = 0.0
    x, y = quad[0, 0], quad[0, 1]
    for k in range(4):
        p, q = quad[k], quad[(k + 1) % 4]
        twice += _edge(p[0] - x, p[1] - y, q[0] - x, q[1] - y, sign, out[k])
    return twice / 2


@compiled
def _lobes(quad: Floats, out: Floats) -> float:
    """Write the six edges of the two triangles of a quad that crosses itself; their area."""
    # Start at the next point where needed, so that the edges 0-1 and 2-3 are the ones that cross.
    shift = 1 if (_turn(quad[0], quad[1], quad[2]) < 0) == (_turn(quad[3], quad[0], quad[1]) < 0) else 0
    a, b = quad[shift] - quad[0], quad[shift + 1] - quad[0]
    c, d = quad[shift + 2] - quad[0], quad[(shift + 3) % 4] - quad[0]
    side_c, side_d = _turn(a, b, c), _turn(d, a, b)  # twice the areas of a b c and a b d: of different signs
    x = c + (d - c) * (side_c / (side_c - side_d))
    sign = -1.0 if side_c < 0 else 1.0
    twice = _edge(x[0], x[1], b[0], b[1], sign, out[0])
    twice += _edge(b[0], b[1], c[0], c[1], sign, out[1])
    twice += _edge(c[0], c[1], x[0], x[1], sign, out[2])
    twice += _edge(x[0], x[1], d[0], d[1], -sign, out[3])
    twice += _edge(d[0], d[1], a[0], a[1], -sign, out[4])
    twice += _edge(a[0], a[1], x[0], x[1], -sign, out[5])
    return twice / 2
