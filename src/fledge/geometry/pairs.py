"""Which of many boxes can overlap: a sweep over their horizontal hulls, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1 << 19  # hull comparisons held at once: 4 MB an index


class Sweep(NamedTuple):
    """Hulls sorted along the axis on which they are shorter for the ground they cover.

    Attributes:
        axis: 0 for x, 1 for y.
        columns: (S,) int64 the finite hulls, by where they begin.
        starts: (S,) where they begin, rising.
        reach: (S,) how far those up to here reach, rising.
        odd: (R,) int64 the hulls with a NaN.
    """

    axis: int
    columns: Tensor
    starts: Tensor
    reach: Tensor
    odd: Tensor


def sweep(hulls: Tensor) -> Sweep:
    """Sort hulls (M, 4) for ``candidate_pairs``."""
    good = hulls.isfinite().all(dim=1)
    columns, odd = good.nonzero()[:, 0], (~good).nonzero()[:, 0]
    low, high = hulls[columns, :2], hulls[columns, 2:]
    axis = 0
    if len(columns) > 1:
        share = (high - low).mean(dim=0) / (high.amax(dim=0) - low.amin(dim=0))
        axis = int(share[1] < share[0])
    starts, order = low[:, axis].sort()
    reach = high[order, axis].cummax(dim=0).values if len(order) else starts
    return Sweep(axis, columns[order], starts, reach, odd)


def ranges(order: Sweep, hulls: Tensor) -> tuple[Tensor, Tensor]:
    """Where in ``order.columns`` those that may overlap each hull (N, 4) begin and end, (N,) each; all, for a NaN."""
    begin, end = hulls[:, order.axis].contiguous(), hulls[:, order.axis + 2].contiguous()
    first, last = torch.searchsorted(order.reach, begin, right=True), torch.searchsorted(order.starts, end)
    bad = ~hulls.isfinite().all(dim=1)
    first, last = first.masked_fill(bad, 0), last.masked_fill(bad, len(order.columns))
    return first, torch.maximum(first, last)


def candidate_pairs(hulls1: Tensor, hulls2: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of index pairs (i, j) of horizontal hulls (N, 4) and (M, 4) that are not provably disjoint.

    Hulls that only touch count as disjoint; one with a NaN is disjoint from none. i rises over all chunks.
    """
    order = sweep(hulls2)
    columns = torch.cat([order.columns, order.odd])
    first, last = ranges(order, hulls1)
    count = last - first + len(order.odd)  # of columns to look at, the odd ones last
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _CHUNK):
        place = torch.arange(start, min(start + _CHUNK, total), device=hulls1.device)
        i = torch.searchsorted(ends, place, right=True)
        k = place - ends[i] + count[i] + first[i]
        j = columns[torch.where(k < last[i], k, k - last[i] + len(order.columns))]
        near = ~((hulls1[i, :2] >= hulls2[j, 2:]) | (hulls1[i, 2:] <= hulls2[j, :2])).any(dim=1)
        yield i[near], j[near]


def upper_bound(hulls1: Tensor, hulls2: Tensor, areas1: Tensor, areas2: Tensor, iof: bool) -> Tensor:
    """What the overlap of aligned pairs cannot exceed, (P,), since the intersection lies in both boxes and both hulls.

    A little high, against rounding; NaN where a box is NaN or no area is left to divide by.

    Args:
        hulls1: (P, 4) float64 horizontal hulls that are not disjoint from ``hulls2`` (P, 4).
        hulls2: (P, 4).
        areas1: (P,) areas of the boxes themselves.
        areas2: (P,).
        iof: over the first area instead of the union.
    """
    low = torch.maximum(hulls1[:, :2], hulls2[:, :2])
    high = torch.minimum(hulls1[:, 2:], hulls2[:, 2:])
    most = torch.minimum((high - low).prod(dim=1), torch.minimum(areas1, areas2))
    return most * (1 + 1e-9) / (areas1 if iof else areas1 + areas2 - most)
