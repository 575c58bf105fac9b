"""The loops of an evaluation, compiled. Importing this module imports numba: do it where the loops are needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fledge.geometry.compiled import compiled
from fledge.geometry.quad_kernels import Outlines, overlap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@compiled
def best_overlaps(
    first: Outlines,
    second: Outlines,
    visit: Ints,
    wanted: Ints,
    keys: Ints,
    upright: bool,
    pixel: float,
    over_first: bool,
    least: float,
) -> tuple[Floats, Ints, Ints, Ints, Floats]:
    """For each of D shapes the one of G others, of those with its key, that it overlaps most.

    Args:
        first: the D shapes.
        second: the G others.
        visit: (V,) rows of the D shapes to look at, by rising key.
        wanted: (V,) their keys.
        keys: (G,) those of the others, rising.
        upright: compare the horizontal hulls.
        pixel: added to their widths and heights.
        over_first: take the share of the first shape that is covered instead of IoU.
        least: also list the pairs that overlap at least so much, above 0; above 1 for none.

    Returns:
        (D,) best overlaps, 0 where there is none; (D,) rows of the others, the first of equals, or -1; (2, D) where the
        listed pairs of a shape begin and how many there are; (P,) their rows of the others; (P,) their overlaps.
    """
    best, chosen = np.zeros(len(first[2])), np.full(len(first[2]), -1, np.int64)
    spans = np.zeros((2, len(best)), np.int64)
    rows, values, used = np.empty(1024, np.int64), np.empty(1024), 0
    hulls = _columns(second[3])
    near, begin, end = np.empty(len(keys), np.int64), 0, 0
    for v in range(len(visit)):
        i = visit[v]
        spans[0, i] = used
        if end == 0 or wanted[v] != wanted[v - 1]:
            begin, end = _next_range(keys, wanted[v], end)
        for j in near[: _near(first[3], i, hulls, begin, end, pixel, near)]:
            bound = _bound(first, second, i, j, upright, pixel, over_first)
            if bound <= best[i] and bound < least:
                continue
            value = bound if upright else overlap(first, second, i, j, over_first)
            if value > best[i]:
                best[i], chosen[i] = value, j
            if value >= least:
                if used == len(rows):
                    rows, values = np.append(rows, rows), np.append(values, values)
                rows[used], values[used] = j, value
                used += 1
        spans[1, i] = used - spans[0, i]
    return best, chosen, spans, rows[:used], values[:used]


@compiled
def _next_range(keys: Ints, wanted: int, start: int) -> tuple[int, int]:
    """First row from ``start`` on with a key that is wanted, and the row after the last one."""
    while start < len(keys) and keys[start] < wanted:
        start += 1
    end = start
    while end < len(keys) and keys[end] == wanted:
        end += 1
    return start, end


@compiled
def _columns(hulls: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Left, top, right and bottom of (N, 4) hulls, each on its own so that a loop over them reads what it needs."""
    return hulls[:, 0].copy(), hulls[:, 1].copy(), hulls[:, 2].copy(), hulls[:, 3].copy()


@compiled
def _near(
    hulls: Floats,
    i: int,
    others: tuple[Floats, Floats, Floats, Floats],
    begin: int,
    end: int,
    pixel: float,
    near: Ints,
) -> int:
    """Write the rows, of a range, whose hulls may meet hull ``i``; how many there are.

    Most pairs end here, so it is comparisons only, without a branch. Those left out are apart by comparison (with a
    pixel to spare, where pixels are added); what is not a number is kept.
    """
    left, top, right, bottom = others
    slack = 2 * pixel
    x1, y1, x2, y2 = hulls[i, 0] - slack, hulls[i, 1] - slack, hulls[i, 2] + slack, hulls[i, 3] + slack
    count = 0
    for j in range(begin, end):
        near[count] = j
        count += not ((left[j] >= x2) | (right[j] <= x1) | (top[j] >= y2) | (bottom[j] <= y1))
    return count


@compiled
def _bound(first: Outlines, second: Outlines, i: int, j: int, upright: bool, pixel: float, over_first: bool) -> float:
    """Overlap of two horizontal hulls, or what the overlap of the quads inside cannot exceed."""
    hull1, hull2 = first[3][i], second[3][j]
    width = min(hull1[2], hull2[2]) - max(hull1[0], hull2[0]) + pixel
    height = min(hull1[3], hull2[3]) - max(hull1[1], hull2[1]) + pixel
    if width <= 0 or height <= 0:
        return 0.0
    if upright:
        area1 = (hull1[2] - hull1[0] + pixel) * (hull1[3] - hull1[1] + pixel)
        area2 = (hull2[2] - hull2[0] + pixel) * (hull2[3] - hull2[1] + pixel)
        most = width * height
    else:
        area1, area2 = first[2][i], second[2][j]
        most = min(width * height, area1, area2) * (1 + 1e-9)  # a little high, against rounding
    whole = area1 if over_first else area1 + area2 - most
    return most / whole if whole != 0 else 0.0


@compiled
def assign_best(
    order: Ints,
    best: Floats,
    chosen: Ints,
    neutral: Flags,
    excused: Flags,
    thresholds: Floats,
    strict: bool,
    outcome: NDArray[np.int8],
) -> None:
    """Fates of detections that may match the object they overlap most, and no other.

    Args:
        order: (N,) detections, best score first.
        best: (D,) their largest IoU.
        chosen: (D,) the object it is with, or -1.
        neutral: (G,) objects that count neither way.
        excused: (T, D) detections that are no errors where they match nothing.
        thresholds: (T,) of the IoU.
        strict: a threshold has to be exceeded.
        outcome: (T, D), written for the detections in ``order``: 1 true positive, 0 false positive, -1 neither.
    """
    taken = np.zeros((len(thresholds), len(neutral)), np.bool_)
    for n in range(len(order)):
        d = order[n]
        j = chosen[d]
        for t in range(len(thresholds)):
            hit = j >= 0 and (best[d] > thresholds[t] or (best[d] == thresholds[t] and not strict))
            if not hit:
                outcome[t, d] = -1 if excused[t, d] else 0
            elif neutral[j]:
                outcome[t, d] = -1
            else:
                outcome[t, d] = 0 if taken[t, j] else 1
                taken[t, j] = True


@compiled
def assign_free(
    order: Ints,
    spans: Ints,
    rows: Ints,
    values: Floats,
    neutral: Flags,
    excused: Flags,
    covered: Floats,
    thresholds: Floats,
    strict: bool,
    outcome: NDArray[np.int8],
) -> None:
    """Fates of detections that match, of the objects no earlier one has taken, the one they overlap most.

    Objects that count come first, and the last one of equal overlaps wins, as in COCOeval.

    Args:
        order: (N,) detections, best score first.
        spans: (2, D) where the pairs of a detection begin and how many there are.
        rows: (P,) objects of the pairs.
        values: (P,) their IoU.
        neutral: (G,) objects that count neither way.
        excused: (T, D) detections that are no errors where they match nothing.
        covered: (D,) their share inside an ignored region, which any number of them may match.
        thresholds: (T,) of the IoU.
        strict: a threshold has to be exceeded.
        outcome: (T, D), written for the detections in ``order``: 1 true positive, 0 false positive, -1 neither.
    """
    for t in range(len(thresholds)):
        taken = np.zeros(len(neutral), np.bool_)
        limit = thresholds[t] if strict else min(thresholds[t], 1 - 1e-10)
        for n in range(len(order)):
            d = order[n]
            match, most = _best_free(d, spans, rows, values, neutral, taken, limit, strict)
            if match < 0:
                outcome[t, d] = -1 if excused[t, d] else 0
            elif neutral[match]:
                outcome[t, d] = -1
                taken[match] = not (excused[t, d] and covered[d] >= most)
            else:
                outcome[t, d] = 1
                taken[match] = True


@compiled
def _best_free(
    d: int, spans: Ints, rows: Ints, values: Floats, neutral: Flags, taken: Flags, limit: float, strict: bool
) -> tuple[int, float]:
    """Object, or -1, and IoU of the best match of detection ``d`` that is left."""
    match, most = -1, limit
    for wanted in (False, True):
        for p in range(spans[0, d], spans[0, d] + spans[1, d]):
            j = rows[p]
            fits = values[p] > most if strict and match < 0 else values[p] >= most
            if fits and neutral[j] == wanted and not taken[j]:
                match, most = j, values[p]
        if match >= 0:
            break
    return match, most


@compiled
def counted_at_hits(outcome: NDArray[np.int8]) -> Ints:
    """How many of the detections up to each true positive count, it included, from their fates (N,) as above."""
    counted, hits, total = np.empty(len(outcome) + 1, np.int64), 0, 0
    for fate in outcome:
        total += fate >= 0
        counted[hits] = total
        hits += fate == 1
    return counted[:hits]
