"""Overlaps of the anchors with the objects, a few objects at a time, in memory that does not grow with their number.

Anchors come in the order of their grid, so 64 in a row lie close together: one comparison with their common hull rules
out most of them for most objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fledge.geometry.boxes import areas, hulls
from fledge.geometry.iou import Mode, pair_overlap
from fledge.geometry.pairs import upper_bound

_BLOCK = 64  # anchors compared as one
_HULLS = 1 << 18  # hulls compared at once, 2 MB a coordinate: first of blocks, then of their anchors

Pairs = tuple[Tensor, Tensor, Tensor]


class Overlaps:
    """Finds the overlaps of one set of anchors with any objects.

    Args:
        anchors: (A, 5), pixels and radians; any, but quick to search only where neighbours in the list lie together.
    """

    def __init__(self, anchors: Tensor) -> None:
        self.dtype = anchors.dtype
        self.boxes = anchors.double()
        self.hulls, self.areas = hulls(self.boxes), areas(self.boxes)
        gap = -len(anchors) % _BLOCK
        nowhere = self.hulls.new_tensor([torch.inf, torch.inf, -torch.inf, -torch.inf]).expand(gap, 4)
        self.cells = [x.contiguous() for x in torch.cat([self.hulls, nowhere]).view(-1, _BLOCK, 4).unbind(-1)]
        self.blocks = [x.amin(dim=1) for x in self.cells[:2]] + [x.amax(dim=1) for x in self.cells[2:]]
        self.smallest = torch.cat([self.areas, self.areas.new_full((gap,), torch.inf)]).view(-1, _BLOCK).amin(dim=1)
        self.largest = torch.cat([self.areas, self.areas.new_zeros(gap)]).view(-1, _BLOCK).amax(dim=1)

    def above(self, boxes: Tensor, least: float, mode: Mode = "iou") -> Iterator[Pairs]:
        """All overlaps above ``least``, in the order of the objects (N, 5); those of one object come together.

        Yields:
            Chunks of anchor (P,) int64, object (P,) int64 and overlap (P,) in the dtype of the anchors: IoU, or with
            ``iof`` the intersection over the anchor's area.
        """
        exact = boxes.double()
        for a, g, bound in self._candidates(exact, least, mode):
            yield self._measured(exact, a, g, ~(bound <= least), least, mode)

    def best(self, boxes: Tensor) -> Iterator[Pairs]:
        """As ``above``, but only the overlaps above zero that may be an object's best IoU, ties included."""
        exact = boxes.double()
        for a, g, bound in self._candidates(exact, 0.0, "iou"):
            # The pair of the highest bound shows what an object reaches at least.
            _, row = torch.unique_consecutive(g, return_inverse=True)
            highest = torch.zeros_like(bound).scatter_reduce(0, row, bound, "amax")
            top = (bound == highest[row]).nonzero()[:, 0]
            one = top[row[top].diff(prepend=row.new_full((1,), -1)) > 0]
            reached = torch.zeros_like(bound)
            reached[row[one]] = pair_overlap(self.boxes, exact, a[one], g[one], "iou")
            # What ties after rounding to the anchors' dtype stays.
            slack = 1 - 4 * torch.finfo(self.dtype).eps
            yield self._measured(exact, a, g, ~(bound < reached[row] * slack), 0.0, "iou")

    def _measured(self, exact: Tensor, a: Tensor, g: Tensor, keep: Tensor, least: float, mode: Mode) -> Pairs:
        a, g = a[keep], g[keep]
        values = pair_overlap(self.boxes, exact, a, g, mode)
        above = ~(values <= least)
        return a[above], g[above], values[above].to(self.dtype)

    def _candidates(self, exact: Tensor, least: float, mode: Mode) -> Iterator[Pairs]:
        """Pairs whose hulls overlap, in chunks of whole objects, with an upper bound of their overlap."""
        extents, sizes = hulls(exact), areas(exact)
        step = max(_HULLS // max(len(self.smallest), 1), 1)
        for start in range(0, len(exact), step):
            part = slice(start, start + step)
            near = ~_apart(extents[part], self.blocks)
            if least > 0:
                near &= ~(sizes[part, None] < least * self.smallest)
                if mode == "iou":
                    near &= ~(self.largest < least * sizes[part, None])
            for row, block in _groups(near, _HULLS // _BLOCK):
                k, slot = (~_apart(extents[start + row], [x[block] for x in self.cells])).nonzero(as_tuple=True)
                a, g = block[k] * _BLOCK + slot, start + row[k]
                yield a, g, upper_bound(self.hulls[a], extents[g], self.areas[a], sizes[g], mode == "iof")


def _apart(extents: Tensor, hulls: Sequence[Tensor]) -> Tensor:
    """Which hulls, four coordinates (R, C) or (C,), are disjoint from ``extents`` (R, 4) or only touch; no NaN is."""
    x1, y1, x2, y2 = hulls
    apart = x1 >= extents[:, 2:3]
    apart |= x2 <= extents[:, 0:1]
    apart |= y1 >= extents[:, 3:4]
    apart |= y2 <= extents[:, 1:2]
    return apart


def _groups(near: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and columns of the True entries of ``near`` (R, C), whole rows together, in parts of about ``size``."""
    row, column = near.nonzero(as_tuple=True)
    part = near.sum(dim=1).cumsum(0) // size
    lengths = torch.unique_consecutive(part[row], return_counts=True)[1].tolist()
    return zip(torch.split(row, lengths), torch.split(column, lengths), strict=True)
