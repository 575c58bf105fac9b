"""The loops of deformable sampling on a CPU, compiled on first use and remembered on disk.

This module imports numba, which takes a moment: import it inside functions only. The cells of all maps are the rows of
a table (B · S · heads, D), the cell (b, s, head) being row (b · S + s) · heads + head. Work is divided by image and
head, into "units" b · heads + head: no two touch the same row, so that they may run side by side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.geometry.compiled import compiled_loosely

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@compiled_loosely
def _axis(position: float, size: int) -> tuple[int, int, float, float, float]:
    """The two cells around a position, bounded to the map, the upper one's share, and whether each is on the map."""
    if position != position:
        return 0, 0, position, 0.0, 0.0
    if position <= -1 or position >= size:
        return 0, 0, 0.0, 0.0, 0.0
    low = math.floor(position)
    return max(low, 0), min(low + 1, size - 1), position - low, 1.0 * (low >= 0), 1.0 * (low < size - 1)


@compiled_loosely
def forward(table: Floats, locations: Floats, weights: Floats, sizes: Ints, out: Floats, first: int, last: int) -> None:
    """Weighted sums of bilinear samples, for the units first to last - 1.

    Args:
        table: (B · S · heads, D).
        locations: (B, Q, heads, L, P, 2) x, y, 0 to 1 across each map.
        weights: (B, Q, heads, L, P).
        sizes: (L, 2) heights and widths.
        out: (B, Q, heads, D), written.
        first: the first unit.
        last: one more than the last unit.
    """
    images, queries, heads, levels, points = weights.shape
    cells, channels = table.shape[0] // (images * heads), table.shape[1]
    share = np.empty(4, table.dtype)
    for unit in range(first, last):
        b, head = unit // heads, unit % heads
        for q in range(queries):
            total = out[b, q, head]
            total[:] = 0
            start = b * cells
            for level in range(levels):
                H, W = sizes[level]
                for p in range(points):
                    weight = weights[b, q, head, level, p]
                    left, right, fx, x0, x1 = _axis(locations[b, q, head, level, p, 0] * W - 0.5, W)
                    top, bottom, fy, y0, y1 = _axis(locations[b, q, head, level, p, 1] * H - 0.5, H)
                    odd = fx + fy + weight
                    if (x0 + x1) * (y0 + y1) == 0 and odd == odd:
                        continue  # beyond the map lies nothing, though a NaN stays one
                    x0, x1, y0, y1 = x0 * (1 - fx), x1 * fx, y0 * (1 - fy) * weight, y1 * fy * weight
                    share[0], share[1], share[2], share[3] = x0 * y0, x1 * y0, x0 * y1, x1 * y1
                    upper, lower = start + top * W, start + bottom * W
                    one = table[(upper + left) * heads + head]
                    two = table[(upper + right) * heads + head]
                    three = table[(lower + left) * heads + head]
                    four = table[(lower + right) * heads + head]
                    for d in range(channels):
                        total[d] += share[0] * one[d] + share[1] * two[d] + share[2] * three[d] + share[3] * four[d]
                start += H * W


@compiled_loosely
def backward(
    grad: Floats,
    table: Floats,
    locations: Floats,
    weights: Floats,
    sizes: Ints,
    grad_table: Floats,
    grad_locations: Floats,
    grad_weights: Floats,
    first: int,
    last: int,
) -> None:
    """Gradients from ``grad`` (B, Q, heads, D), added to three arrays of zeros shaped as what they belong to."""
    images, queries, heads, levels, points = weights.shape
    cells, channels = table.shape[0] // (images * heads), table.shape[1]
    rows, share, zero = np.empty(4, np.int64), np.empty(4, table.dtype), table.dtype.type(0)
    for unit in range(first, last):
        b, head = unit // heads, unit % heads
        for q in range(queries):
            g = grad[b, q, head]
            start = b * cells
            for level in range(levels):
                H, W = sizes[level]
                for p in range(points):
                    weight = weights[b, q, head, level, p]
                    left, right, fx, x0, x1 = _axis(locations[b, q, head, level, p, 0] * W - 0.5, W)
                    top, bottom, fy, y0, y1 = _axis(locations[b, q, head, level, p, 1] * H - 0.5, H)
                    odd = fx + fy + weight
                    if (x0 + x1) * (y0 + y1) == 0 and odd == odd:
                        continue
                    u0, u1, v0, v1 = x0 * (1 - fx), x1 * fx, y0 * (1 - fy), y1 * fy
                    share[0], share[1], share[2], share[3] = u0 * v0, u1 * v0, u0 * v1, u1 * v1
                    upper, lower = start + top * W, start + bottom * W
                    rows[0], rows[1] = (upper + left) * heads + head, (upper + right) * heads + head
                    rows[2], rows[3] = (lower + left) * heads + head, (lower + right) * heads + head
                    one, two, three, four = table[rows[0]], table[rows[1]], table[rows[2]], table[rows[3]]
                    g1 = g2 = g3 = g4 = zero
                    for d in range(channels):
                        g1 += g[d] * one[d]
                        g2 += g[d] * two[d]
                        g3 += g[d] * three[d]
                        g4 += g[d] * four[d]
                    for k in range(4):
                        cell, part = grad_table[rows[k]], share[k]
                        part *= weight
                        for d in range(channels):
                            cell[d] += part * g[d]
                    grad_weights[b, q, head, level, p] = share[0] * g1 + share[1] * g2 + share[2] * g3 + share[3] * g4
                    across = v0 * (x1 * g2 - x0 * g1) + v1 * (x1 * g4 - x0 * g3)
                    down = u0 * (y1 * g3 - y0 * g1) + u1 * (y1 * g4 - y0 * g2)
                    grad_locations[b, q, head, level, p, 0] = across * W * weight
                    grad_locations[b, q, head, level, p, 1] = down * H * weight
                start += H * W
