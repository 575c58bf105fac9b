"""The loops of rotated overlap and suppression on a CPU, compiled on first use and remembered on disk.

The arithmetic is that of ``fledge.geometry.overlap``, operation by operation, so that both give the same bits wherever
both run. This module imports numba, which takes a moment: import it inside functions only.

A box is a row of ``overlap.table``: cx, cy, half w, half h, cos, sin, area, half width and half height of its hull. In
what follows T1 (N, 9) and T2 (M, 9) are such tables, float64 and C-contiguous.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fledge.geometry.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MARGIN = 1 + 1e-9  # of upper bounds, against rounding


@compiled
def table(boxes: Floats, cos: Floats, sin: Floats) -> Floats:
    """The table (N, 9) of boxes (N, 5), given cosine and sine (N,) of their angles."""
    T = np.empty((len(boxes), 9))
    for k in range(len(boxes)):
        c, s = cos[k], sin[k]
        odd = 0 * (boxes[k, 0] + boxes[k, 1] + boxes[k, 2] + boxes[k, 3] + boxes[k, 4])
        w, h = boxes[k, 2] + odd, boxes[k, 3] + odd
        w, h = (0.0 if w < 0 else w) / 2, (0.0 if h < 0 else h) / 2
        T[k, 0], T[k, 1], T[k, 2], T[k, 3] = boxes[k, 0] + odd, boxes[k, 1] + odd, w, h
        T[k, 4], T[k, 5] = c + odd, s + odd
        T[k, 6], T[k, 7], T[k, 8] = 4 * w * h, abs(w * c) + abs(h * s), abs(w * s) + abs(h * c)
    return T


@compiled
def _edge(x0: float, y0: float, x1: float, y1: float, W: float, H: float) -> float:
    """Integral of clamp(y, -H, H) dx along a segment, with x clamped to [-W, W]."""
    xa = min(max(x0, -W), W)
    xb = min(max(x1, -W), W)
    if xa == xb:
        return 0.0
    dx, dy = x1 - x0, y1 - y0
    ya = y0 + (xa - x0) / dx * dy
    yb = y0 + (xb - x0) / dx * dy
    low, high = min(ya, yb), max(ya, yb)
    if high <= -H:
        height = -H
    elif low >= H:
        height = H
    elif low >= -H and high <= H:
        height = (ya + yb) / 2
    else:
        bottom, top = max(low, -H), min(high, H)
        rise = high - low
        height = ((top - bottom) / rise) * ((top + bottom) / 2) + H * ((high - top) / rise - (bottom - low) / rise)
    return (xb - xa) * height


@compiled
def _intersection(T1: Floats, a: int, T2: Floats, b: int) -> float:
    """Area of the intersection of two boxes, up to rounding of either sign."""
    W, H, cos, sin = T2[b, 2], T2[b, 3], T2[b, 4], T2[b, 5]
    dx, dy = T1[a, 0] - T2[b, 0], T1[a, 1] - T2[b, 1]
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    c = T1[a, 4] * cos + T1[a, 5] * sin
    s = T1[a, 5] * cos - T1[a, 4] * sin
    ux, uy = T1[a, 2] * c, T1[a, 2] * s
    vx, vy = T1[a, 3] * -s, T1[a, 3] * c
    x0, y0 = x - ux - vx, y - uy - vy
    x1, y1 = x + ux - vx, y + uy - vy
    x2, y2 = x + ux + vx, y + uy + vy
    x3, y3 = x - ux + vx, y - uy + vy
    return -(
        _edge(x0, y0, x1, y1, W, H)
        + _edge(x1, y1, x2, y2, W, H)
        + (_edge(x2, y2, x3, y3, W, H) + _edge(x3, y3, x0, y0, W, H))
    )


@compiled
def _ratio(T1: Floats, a: int, T2: Floats, b: int, iof: bool) -> float:
    """IoU in [0, 1], or the intersection over the first area; 0 / 0 is 0, NaN propagates."""
    area1, area2 = T1[a, 6], T2[b, 6]
    if area1 != area1 or area2 != area2:
        return math.nan
    if area1 == 0 or area2 == 0:
        return 0.0
    inter = _intersection(T1, a, T2, b)
    whole = area1 if iof else area1 + area2 - inter
    ratio: float = inter / whole
    return min(max(ratio, 0.0), 1.0)


@compiled
def _can_exceed(T1: Floats, a: int, T2: Floats, b: int, least: float, iof: bool) -> bool:
    """Whether the overlap of two boxes can exceed ``least``: the intersection lies in both boxes and both hulls.

    One comparison, since most boxes are far apart and which are near is hard to predict.
    """
    width = min(T1[a, 0] + T1[a, 7], T2[b, 0] + T2[b, 7]) - max(T1[a, 0] - T1[a, 7], T2[b, 0] - T2[b, 7])
    height = min(T1[a, 1] + T1[a, 8], T2[b, 1] + T2[b, 8]) - max(T1[a, 1] - T1[a, 8], T2[b, 1] - T2[b, 8])
    most = min(max(width, 0.0) * max(height, 0.0), min(T1[a, 6], T2[b, 6]))
    whole = T1[a, 6] if iof else T1[a, 6] + T2[b, 6] - most
    possible: bool = most * _MARGIN > least * whole
    return possible


@compiled
def aligned(T1: Floats, T2: Floats, iof: bool) -> Floats:
    """Overlaps (N,) of row with row."""
    values = np.empty(len(T1))
    for k in range(len(T1)):
        values[k] = _ratio(T1, k, T2, k, iof)
    return values


@compiled
def _ordered(j: Ints, v: Floats, start: int, end: int) -> None:
    """Sort the entries start…end of j, and v with them."""
    if end - start > 64:
        order = np.argsort(j[start:end])
        j[start:end] = j[start:end][order]
        v[start:end] = v[start:end][order]
        return
    for k in range(start + 1, end):
        key, value = j[k], v[k]
        m = k - 1
        while m >= start and j[m] > key:
            j[m + 1], v[m + 1] = j[m], v[m]
            m -= 1
        j[m + 1], v[m + 1] = key, value


@compiled
def pairs(
    T1: Floats,
    T2: Floats,
    least: float,
    iof: bool,
    axis: int,
    columns: Ints,
    odd: Ints,
    first: Ints,
    last: Ints,
    row: int,
    i: Ints,
    j: Ints,
    v: Floats,
) -> tuple[int, int]:
    """Pairs that overlap by more than ``least``, and those with a NaN, in the order of i, then j.

    Args:
        T1: (N, 9).
        T2: (M, 9).
        least: at least 0.
        iof: over the first area instead of the union.
        axis, columns, odd: of ``pairs.Sweep`` of the second boxes.
        first, last: (N,) of ``pairs.ranges``.
        row: of T1, to begin with.
        i, j, v: where to put the pairs and their overlaps; at least M long.

    Returns:
        The row to go on with, since the next one may find no room, and the number of pairs.
    """
    across = 1 - axis
    end2 = T2[columns, axis] + T2[columns, 7 + axis]
    low2, high2 = T2[columns, across] - T2[columns, 7 + across], T2[columns, across] + T2[columns, 7 + across]
    count = 0
    for a in range(row, len(T1)):
        begin = T1[a, axis] - T1[a, 7 + axis]
        low, high = T1[a, across] - T1[a, 7 + across], T1[a, across] + T1[a, 7 + across]
        bad = begin != begin
        if count + last[a] - first[a] + len(odd) > len(i):
            return a, count
        start = count
        for k in range(first[a], last[a]):
            if bad or ((end2[k] > begin) & (low2[k] < high) & (high2[k] > low)):
                b = columns[k]
                if bad or _can_exceed(T1, a, T2, b, least, iof):
                    value = _ratio(T1, a, T2, b, iof)
                    if not value <= least:
                        i[count], j[count], v[count] = a, b, value
                        count += 1
        for b in odd:
            i[count], j[count], v[count] = a, b, math.nan
            count += 1
        _ordered(j, v, start, count)
    return len(T1), count


@compiled
def _clip(p: float, d: float, R: float, t0: float, t1: float) -> tuple[float, float]:
    """The part of [t0, t1] in which |p + t d| <= R."""
    if d == 0:
        return (t0, t1) if -R <= p <= R else (t0, t0)
    enter, leave = (-R - p) / d, (R - p) / d
    return max(t0, min(enter, leave)), min(t1, max(enter, leave))


@compiled
def _side(x: float, y: float, dx: float, dy: float, length: float, W: float, H: float) -> tuple[float, float]:
    """Length of a side inside |x| <= W, |y| <= H, and that times the distance of its middle from the side's own."""
    t0, t1 = _clip(x, dx, W, 0.0, 1.0)
    t0, t1 = _clip(y, dy, H, t0, t1)
    inside = max(t1 - t0, 0.0) * length
    return inside, inside * ((t0 + t1 - 1) / 2 * length)


@compiled
def _inner_sides(T1: Floats, a: int, T2: Floats, b: int) -> tuple[float, float, float, float, float]:
    """Lengths inside box b of the sides of box a that face -v, +u, +v and -u, and the derivative by its angle."""
    W, H, cos, sin = T2[b, 2], T2[b, 3], T2[b, 4], T2[b, 5]
    dx, dy = T1[a, 0] - T2[b, 0], T1[a, 1] - T2[b, 1]
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    c = T1[a, 4] * cos + T1[a, 5] * sin
    s = T1[a, 5] * cos - T1[a, 4] * sin
    ux, uy = T1[a, 2] * c, T1[a, 2] * s
    vx, vy = T1[a, 3] * -s, T1[a, 3] * c
    w, h = 2 * T1[a, 2], 2 * T1[a, 3]
    top, m0 = _side(x - ux - vx, y - uy - vy, 2 * ux, 2 * uy, w, W, H)
    right, m1 = _side(x + ux - vx, y + uy - vy, 2 * vx, 2 * vy, h, W, H)
    bottom, m2 = _side(x + ux + vx, y + uy + vy, -2 * ux, -2 * uy, w, W, H)
    left, m3 = _side(x - ux + vx, y - uy + vy, -2 * vx, -2 * vy, h, W, H)
    return top, right, bottom, left, -(m0 + m1 + (m2 + m3))


@compiled
def backward(G: Floats, T1: Floats, T2: Floats, i: Ints, j: Ints, iof: bool, grad1: Floats, grad2: Floats) -> None:
    """Add to grad1 (N, 5) and grad2 (M, 5) what the gradients G (P,) of the overlaps of the pairs i, j give the boxes.

    Where the boundary of the intersection runs along a box, moving the box moves it.
    """
    for k in range(len(G)):
        a, b, g = i[k], j[k], G[k]
        area1, area2 = T1[a, 6], T2[b, 6]
        if g == 0 or area1 == 0 or area2 == 0:
            continue
        inter = _intersection(T1, a, T2, b)
        if iof:
            by_inter, by_area1, by_area2 = g / area1, -g * inter / area1 / area1, 0.0
        else:
            union = area1 + area2 - inter
            by_area = -g * inter / union / union
            by_inter, by_area1, by_area2 = g * (area1 + area2) / union / union, by_area, by_area
        top, right, bottom, left, turn = _inner_sides(T1, a, T2, b)
        u, v = right - left, bottom - top
        x, y = by_inter * (u * T1[a, 4] - v * T1[a, 5]), by_inter * (u * T1[a, 5] + v * T1[a, 4])
        grad1[a, 0] += x
        grad1[a, 1] += y
        grad1[a, 2] += by_inter * (right + left) / 2 + by_area1 * 2 * T1[a, 3]
        grad1[a, 3] += by_inter * (bottom + top) / 2 + by_area1 * 2 * T1[a, 2]
        grad1[a, 4] += by_inter * turn
        top, right, bottom, left, turn = _inner_sides(T2, b, T1, a)
        grad2[b, 0] -= x
        grad2[b, 1] -= y
        grad2[b, 2] += by_inter * (right + left) / 2 + by_area2 * 2 * T2[b, 3]
        grad2[b, 3] += by_inter * (bottom + top) / 2 + by_area2 * 2 * T2[b, 2]
        grad2[b, 4] += by_inter * turn


_LEVELS = 64  # sizes of boxes, each twice the one before
_FAR = 2.0**50  # cells beyond it are no longer told apart


@compiled
def _hash(level: int, x: int, y: int, label: int, mask: int) -> int:
    return (x * 73856093 ^ y * 19349663 ^ level * 83492791 ^ label * 6542989) & mask


@compiled
def _suppresses(T: Floats, kept: int, k: int, labels: Ints, threshold: float) -> bool:
    possible = _can_exceed(T, kept, T, k, threshold, False) & (labels[kept] == labels[k])
    return possible and _ratio(T, kept, T, k, False) > threshold


@compiled
def greedy_nms(T: Floats, labels: Ints, threshold: float) -> NDArray[np.bool_]:
    """Mask (N,) of the boxes that greedy suppression keeps, of a table whose best box comes first.

    Kept boxes lie in grids, one for each doubling of the size, each in the cell of its centre; a cell is at least as
    large as the hulls in it. A box is compared with those in the cells around it, or with all of a level that has fewer
    boxes than it would have cells.
    """
    keep = np.ones(len(T), np.bool_)
    base = np.inf
    for k in range(len(T)):
        if T[k, 6] > 0:
            base = min(base, max(T[k, 7], T[k, 8]))
    base *= 2
    mask = 1
    while mask < 2 * len(T):
        mask *= 2
    mask -= 1
    # Row numbers in 32 bits: a table of 2^31 rows would take 144 GiB.
    heads, following = np.full(mask + 1, -1, np.int32), np.empty(len(T), np.int32)  # of the boxes in a cell
    first, after = np.full(_LEVELS, -1, np.int32), np.empty(len(T), np.int32)  # of the boxes in a level
    counts, largest, smallest = np.zeros(_LEVELS, np.int64), np.zeros(_LEVELS), np.full(_LEVELS, np.inf)
    for k in range(len(T)):
        area = T[k, 6]
        if not area > 0:
            continue
        x, y, half_x, half_y = T[k, 0], T[k, 1], T[k, 7], T[k, 8]
        for level in range(_LEVELS):
            # The smaller area over the larger one bounds the overlap.
            if counts[level] == 0 or largest[level] * _MARGIN <= threshold * area:
                continue
            if area * _MARGIN <= threshold * smallest[level]:
                continue
            cell = base * 2.0**level
            x0, x1 = math.floor((x - half_x) / cell - 0.5), math.floor((x + half_x) / cell + 0.5)
            y0, y1 = math.floor((y - half_y) / cell - 0.5), math.floor((y + half_y) / cell + 0.5)
            few = float(x1 - x0 + 1) * float(y1 - y0 + 1) <= counts[level]
            near = max(abs(x0), abs(x1), abs(y0), abs(y1)) < _FAR
            if few and near:
                for cx in range(int(x0), int(x1) + 1):
                    for cy in range(int(y0), int(y1) + 1):
                        other = heads[_hash(level, cx, cy, labels[k], mask)]
                        while other >= 0 and keep[k]:
                            keep[k] = not _suppresses(T, other, k, labels, threshold)
                            other = following[other]
                    if not keep[k]:
                        break
            else:
                other = first[level]
                while other >= 0 and keep[k]:
                    keep[k] = not _suppresses(T, other, k, labels, threshold)
                    other = after[other]
            if not keep[k]:
                break
        if keep[k]:
            level = min(max(math.ceil(math.log2(2 * max(half_x, half_y) / base)), 0), _LEVELS - 1)
            cell = base * 2.0**level
            after[k], first[level] = first[level], k
            counts[level] += 1
            largest[level], smallest[level] = max(largest[level], area), min(smallest[level], area)
            fx, fy = math.floor(x / cell), math.floor(y / cell)
            if max(abs(fx), abs(fy)) < _FAR:
                place = _hash(level, int(fx), int(fy), labels[k], mask)
                following[k], heads[place] = heads[place], k
    return keep
