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
        crosses[i] = _crosses_itself(quads, i)
    origins, hulls = quads[:, 0].copy(), np.empty((n, 4))
    edges, areas = np.zeros((n, 6 if crosses.any() else 4, 5)), np.empty(n)
    for i in range(n):
        total, left, top, right, bottom = 0.0, math.inf, math.inf, -math.inf, -math.inf
        for k in range(4):
            x, y = quads[i, k, 0], quads[i, k, 1]
            left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
            total += x + y
        area = _lobes(quads, edges, i) if crosses[i] else _loop(quads, edges, i)
        extent = max(right - left, bottom - top)
        areas[i] = 0.0 if area <= _FLAT * extent * extent else area
        if not math.isfinite(total):
            areas[i] = left = top = right = bottom = math.nan
        hulls[i, 0], hulls[i, 1], hulls[i, 2], hulls[i, 3] = left, top, right, bottom
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
def _turn(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> float:
    """Twice the signed area of a, b, c."""
    return (bx - ax) * (cy - by) - (by - ay) * (cx - bx)


# Numbers are passed one by one, and rows by their index: a view of a row costs more than what is done with it.
@compiled
def _turns(quads: Floats, i: int) -> tuple[float, float, float, float]:
    """Twice the signed areas of the corners 012, 230, 123 and 301 of quad i."""
    ax, ay, bx, by = quads[i, 0, 0], quads[i, 0, 1], quads[i, 1, 0], quads[i, 1, 1]
    cx, cy, dx, dy = quads[i, 2, 0], quads[i, 2, 1], quads[i, 3, 0], quads[i, 3, 1]
    return (
        _turn(ax, ay, bx, by, cx, cy),
        _turn(cx, cy, dx, dy, ax, ay),
        _turn(bx, by, cx, cy, dx, dy),
        _turn(dx, dy, ax, ay, bx, by),
    )


@compiled
def _crosses_itself(quads: Floats, i: int) -> bool:
    abc, cda, bcd, dab = _turns(quads, i)
    return (abc < 0) != (cda < 0) and (bcd < 0) != (dab < 0)


@compiled
def _edge(x1: float, y1: float, x2: float, y2: float, sign: float, edges: Floats, i: int, k: int) -> float:
    """Write edge k of quad i as the strip below it; its part of twice the area inside."""
    run, rise = x2 - x1, y2 - y1
    if run > 0:
        edges[i, k, 0], edges[i, k, 1], edges[i, k, 2] = x1, x2, y1
    else:
        edges[i, k, 0], edges[i, k, 1], edges[i, k, 2] = x2, x1, y2
    edges[i, k, 3] = 0.0 if abs(run) <= _STEEP * abs(rise) else rise / run
    edges[i, k, 4] = -sign if run > 0 else (sign if run < 0 else 0.0 * run)
    return sign * (x1 * y2 - y1 * x2)


@compiled
def _loop(quads: Floats, edges: Floats, i: int) -> float:
    """Write the four edges of a quad that does not cross itself; its area."""
    abc, cda, _, _ = _turns(quads, i)
    sign = -1.0 if abc + cda < 0 else 1.0
    twice = 0.0
    x, y = quads[i, 0, 0], quads[i, 0, 1]
    for k in range(4):
        m = (k + 1) % 4
        x1, y1, x2, y2 = quads[i, k, 0] - x, quads[i, k, 1] - y, quads[i, m, 0] - x, quads[i, m, 1] - y
        twice += _edge(x1, y1, x2, y2, sign, edges, i, k)
    return twice / 2


@compiled
def _lobes(quads: Floats, edges: Floats, i: int) -> float:
    """Write the six edges of the two triangles of a quad that crosses itself; their area."""
    # Start at the next point where needed, so that the edges 0-1 and 2-3 are the ones that cross.
    abc, _, _, dab = _turns(quads, i)
    shift = 1 if (abc < 0) == (dab < 0) else 0
    quad = quads[i]
    a, b = quad[shift] - quad[0], quad[shift + 1] - quad[0]
    c, d = quad[shift + 2] - quad[0], quad[(shift + 3) % 4] - quad[0]
    side_c = _turn(a[0], a[1], b[0], b[1], c[0], c[1])  # twice the areas of a b c and a b d: of different signs
    side_d = _turn(d[0], d[1], a[0], a[1], b[0], b[1])
    x = c + (d - c) * (side_c / (side_c - side_d))
    sign = -1.0 if side_c < 0 else 1.0
    twice = _edge(x[0], x[1], b[0], b[1], sign, edges, i, 0)
    twice += _edge(b[0], b[1], c[0], c[1], sign, edges, i, 1)
    twice += _edge(c[0], c[1], x[0], x[1], sign, edges, i, 2)
    twice += _edge(x[0], x[1], d[0], d[1], -sign, edges, i, 3)
    twice += _edge(d[0], d[1], a[0], a[1], -sign, edges, i, 4)
    twice += _edge(a[0], a[1], x[0], x[1], -sign, edges, i, 5)
    return twice / 2
