"""Exact, differentiable overlap of rotated boxes.

Put box A in the frame of box B, where B is the axis-aligned slab |x| <= W, |y| <= H. By Green's theorem the area of the
intersection is minus the sum, over A's four directed edges, of the integral of ``clamp(y, -H, H) dx`` with x clamped to
[-W, W]. No vertices are sorted and nothing is compared with a tolerance, so boxes that coincide, share edges or touch
are no special cases. Everything is computed in float64 from centre differences: few pairs are left after the
horizontal hulls have ruled out the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from fledge.geometry.boxes import areas, corners, hulls

Mode = Literal["iou", "iof"]

_HULL_CHUNK = 1 << 20  # hull comparisons held at once: 1 MB per mask
_PAIR_CHUNK = 1 << 16  # pairs intersected at once: 2 MB per intermediate
_TINY = 1e-150  # an extent whose square still has a finite inverse in float64


def rotated_iou(boxes1: Tensor, boxes2: Tensor, aligned: bool = False, mode: Mode = "iou") -> Tensor:
    """Intersection over union of rotated boxes, exact up to rounding, differentiable in both inputs.

    Boxes need not be canonical. A box with a side of zero or below has no area and overlaps nothing (0, not NaN); a NaN
    or infinity in a box makes all its overlaps NaN. A rounding error outside [0, 1] is cut off without touching the
    gradient.

    Args:
        boxes1: (N, 5), pixels and radians.
        boxes2: (M, 5), or (N, 5) when aligned; same frame.
        aligned: compare row with row instead of all pairs.
        mode: "iou", or "iof" for the intersection over the area of ``boxes1``.

    Returns:
        (N, M), or (N,) when aligned, in the inputs' dtype; float32 for half-precision inputs. Beyond the result itself
        the memory is bounded by the number of pairs whose hulls overlap.
    """
    dtype = result_dtype(boxes1, boxes2)
    first, second = _poisoned(boxes1), _poisoned(boxes2)
    if aligned:
        return _overlap(first, second, mode).to(dtype)
    i, j, values = _overlapping(first, second, 0.0, mode)
    rows, columns = first.shape[0], second.shape[0]
    dense = torch.zeros(rows * columns, dtype=dtype, device=first.device)
    return dense.scatter(0, i * columns + j, values.to(dtype)).view(rows, columns)


def rotated_iou_pairs(
    boxes1: Tensor, boxes2: Tensor, min_iou: float = 0.0, mode: Mode = "iou"
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of boxes whose overlap exceeds ``min_iou``; differentiable like ``rotated_iou``.

    Args:
        boxes1: (N, 5), pixels and radians.
        boxes2: (M, 5), same frame.
        min_iou: pairs at or below it are left out; at least 0. Pairs with a box that is not finite are
            reported, as NaN.
        mode: "iou", or "iof" for the intersection over the area of ``boxes1``.

    Returns:
        i (P,) int64 rows of ``boxes1``, j (P,) int64 rows of ``boxes2``, and the overlaps (P,) in the inputs' dtype
        (float32 for half-precision inputs).
    """
    i, j, values = _overlapping(_poisoned(boxes1), _poisoned(boxes2), min_iou, mode)
    return i, j, values.to(result_dtype(boxes1, boxes2))


def candidate_pairs(hulls1: Tensor, hulls2: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of index pairs (i, j) of horizontal hulls (N, 4) and (M, 4) that are not provably disjoint.

    Written as a negation so that a NaN never rules a pair out. Hulls that only touch count as disjoint.
    """
    for left in range(0, hulls2.shape[0], _HULL_CHUNK):
        x1, y1, x2, y2 = hulls2[left : left + _HULL_CHUNK].T.contiguous()
        step = _HULL_CHUNK // len(x1)
        # Written into again and again: fresh masks between results that are kept would leave holes in the memory.
        masks = torch.empty(2, step, len(x1), dtype=torch.bool, device=hulls2.device)
        for top in range(0, hulls1.shape[0], step):
            rows = hulls1[top : top + step, :, None]
            apart, test = masks[:, : len(rows)]
            torch.ge(rows[:, 0], x2, out=apart)
            apart |= torch.le(rows[:, 2], x1, out=test)
            apart |= torch.ge(rows[:, 1], y2, out=test)
            apart |= torch.le(rows[:, 3], y1, out=test)
            i, j = torch.nonzero(apart.logical_not_(), as_tuple=True)
            yield i + top, j + left


def pair_iou(boxes: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """IoU (P,) of the boxes i with the boxes j, int64 (P,), of one set of float64 boxes (N, 5)."""
    return pair_overlap(boxes, boxes, i, j, "iou")


def pair_overlap(first: Tensor, second: Tensor, i: Tensor, j: Tensor, mode: Mode) -> Tensor:
    """Overlap (P,) of the float64 boxes ``first[i]`` (N, 5) with ``second[j]`` (M, 5), gathered in chunks."""
    chunks = zip(torch.split(i, _PAIR_CHUNK), torch.split(j, _PAIR_CHUNK), strict=True)
    return torch.cat([_ratio(first[a], second[b], mode) for a, b in chunks])


def upper_bound(hulls1: Tensor, hulls2: Tensor, areas1: Tensor, areas2: Tensor, mode: Mode) -> Tensor:
    """What the overlap of aligned pairs cannot exceed, (P,), since the intersection lies in both boxes and both hulls.

    A little high, against rounding; NaN where a box is NaN or no area is left to divide by.

    Args:
        hulls1: (P, 4) float64 horizontal hulls that are not disjoint from ``hulls2`` (P, 4).
        hulls2: (P, 4).
        areas1: (P,) areas of the boxes themselves.
        areas2: (P,).
        mode: of the overlap.
    """
    low = torch.maximum(hulls1[:, :2], hulls2[:, :2])
    high = torch.minimum(hulls1[:, 2:], hulls2[:, 2:])
    most = torch.minimum((high - low).prod(dim=1), torch.minimum(areas1, areas2))
    return most * (1 + 1e-9) / (areas1 + areas2 - most if mode == "iou" else areas1)


def _overlapping(first: Tensor, second: Tensor, least: float, mode: Mode) -> tuple[Tensor, Tensor, Tensor]:
    """Index pairs and values of all overlaps above ``least``, and of the NaN ones, from float64 boxes."""
    empty = torch.zeros(0, dtype=torch.int64, device=first.device)
    found = [(empty, empty, _overlap(first[:0], second[:0], mode))]
    hulls1, hulls2 = hulls(first.detach()), hulls(second.detach())
    areas1, areas2 = areas(first.detach()), areas(second.detach())
    for i, j in candidate_pairs(hulls1, hulls2):
        if least > 0:
            possible = ~(upper_bound(hulls1[i], hulls2[j], areas1[i], areas2[j], mode) <= least)
            i, j = i[possible], j[possible]
        values = pair_overlap(first, second, i, j, mode)
        keep = ~(values.detach() <= least)
        if keep.any():
            found.append((i[keep], j[keep], values[keep]))
    i, j, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return i, j, values


def _overlap(first: Tensor, second: Tensor, mode: Mode) -> Tensor:
    """Overlap (N,) of aligned float64 boxes (N, 5), in chunks."""
    chunks = zip(torch.split(first, _PAIR_CHUNK), torch.split(second, _PAIR_CHUNK), strict=True)
    return torch.cat([_ratio(a, b, mode) for a, b in chunks])


def _ratio(first: Tensor, second: Tensor, mode: Mode) -> Tensor:
    """Intersection over union, or over the first area; 0 / 0 is 0."""
    area1, area2 = areas(first), areas(second)
    inter = intersection_area(first, second)
    # A flat box leaves rounding noise, not exactly zero; multiplying keeps a NaN.
    inter = torch.where((area1 == 0) | (area2 == 0), inter * 0, inter)
    whole = area1 + area2 - inter if mode == "iou" else area1
    ratio = inter / torch.where(whole == 0, 1.0, whole)
    return ratio + (ratio.clamp(0, 1) - ratio).detach()


def intersection_area(first: Tensor, second: Tensor) -> Tensor:
    """Area (N,) of the intersection of aligned boxes (N, 5), float64, sides below zero taken as zero.

    Differentiable once in both inputs; where boxes share a boundary the gradient is one of the one-sided ones.
    """
    points, W, H = _local_corners(first, second)
    x0, y0 = points.unbind(-1)
    x1, y1 = x0.roll(-1, dims=1), y0.roll(-1, dims=1)
    dx, dy = x1 - x0, y1 - y0
    xa, xb = x0.clamp(-W, W), x1.clamp(-W, W)
    steep = dx.abs() < _TINY
    run = torch.where(steep, 1.0, dx)
    ya = y0 + dy * torch.where(steep, 0.0, (xa - x0) / run)
    yb = y0 + dy * torch.where(steep, 0.0, (xb - x0) / run)
    inside, middle, outside = _shares(ya.detach(), yb.detach(), H.detach())
    # The clamped height is continuous where the edge crosses |y| = H, so moving those crossings does not change the
    # integral to first order: they are constants, and no division by dy enters the gradient.
    height = H * outside + inside * torch.lerp(ya, yb, middle)
    return -((xb - xa) * height).sum(dim=1)


def _local_corners(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Corners (N, 4, 2) of the first boxes in the frames of the second, whose half sides (N, 1) come with them."""
    cos, sin = second[:, 4].cos(), second[:, 4].sin()
    dx, dy = (first[:, :2] - second[:, :2]).unbind(-1)
    w, h = first[:, 2].clamp(min=0), first[:, 3].clamp(min=0)
    local = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin, w, h, first[:, 4] - second[:, 4]], dim=-1)
    half = second[:, 2:4].clamp(min=0) / 2
    return corners(local), half[:, 0:1], half[:, 1:2]


def _shares(ya: Tensor, yb: Tensor, H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How segments from height ya to yb lie to the slab |y| <= H, as parts of their length.

    Returns:
        The share inside the slab, the position in [0, 1] of the middle of that part, and the share above minus the
        share below.
    """
    dy = yb - ya
    flat = dy.abs() < _TINY
    rise = torch.where(flat, 1.0, dy)
    low, high = ((-H - ya) / rise).clamp(0, 1), ((H - ya) / rise).clamp(0, 1)
    enter, leave = torch.minimum(low, high), torch.maximum(low, high)
    side = (ya > H).to(ya.dtype) - (ya < -H).to(ya.dtype)
    inside = torch.where(flat, 1 - side.abs(), leave - enter)
    outside = torch.where(flat, side, (1 - enter - leave) * rise.sign())
    return inside, (enter + leave) / 2, outside


def _poisoned(boxes: Tensor) -> Tensor:
    """Boxes (N, 5) in float64, where one NaN or infinity makes the whole box NaN, so that no hull can hide it."""
    exact = boxes.double()
    return exact + 0 * exact.detach().sum(dim=1, keepdim=True)


def result_dtype(boxes1: Tensor, boxes2: Tensor) -> torch.dtype:
    """The common dtype of both inputs, at least float32."""
    return torch.promote_types(torch.promote_types(boxes1.dtype, boxes2.dtype), torch.float32)
