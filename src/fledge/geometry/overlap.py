"""Overlap of pairs of rotated boxes and its derivative, as tensor operations: on a GPU, and what the loops must equal.

Put box A in the frame of box B, where B is the axis-aligned slab |x| <= W, |y| <= H. By Green's theorem the area of the
intersection is minus the sum, over A's four directed edges, of the integral of ``clamp(y, -H, H) dx`` with x clamped to
[-W, W]. No vertices are sorted and nothing is compared with a tolerance, so boxes that coincide, share edges or touch
are no special cases.

The area changes only where its boundary moves: its derivative by a displacement of A is the integral of the outward
speed over the parts of A's sides that lie inside B. With the length L of each such part and the distance m of its
middle from the middle of the side, all five derivatives are sums of L and of L m; those of B by symmetry.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of a table: centre, half sides, cosine and sine of the angle, area, half sides of the horizontal hull.
CX, CY, W, H, COS, SIN, AREA, HULL_X, HULL_Y = range(9)


def table(boxes: Tensor) -> Tensor:
    """What the overlap needs of each box.

    Args:
        boxes: (N, 5) of any floating dtype; a side below zero counts as zero.

    Returns:
        (N, 9) float64 without gradient; all NaN for a box with a NaN or infinity, so that no hull can hide it.
    """
    boxes = boxes.detach().double()
    cx, cy, w, h, angle = (boxes + 0 * boxes.sum(dim=1, keepdim=True)).unbind(1)
    w, h = w.clamp(min=0) / 2, h.clamp(min=0) / 2
    cos, sin = angle.cos(), angle.sin()
    x, y = (w * cos).abs() + (h * sin).abs(), (w * sin).abs() + (h * cos).abs()
    return torch.stack([cx, cy, w, h, cos, sin, 4 * w * h, x, y], dim=1)


def hulls(boxes: Tensor) -> Tensor:
    """Horizontal hulls (N, 4), x1, y1, x2, y2, of a table (N, 9)."""
    centre, half = boxes[:, :2], boxes[:, HULL_X:]
    return torch.cat([centre - half, centre + half], dim=1)


def overlaps(first: Tensor, second: Tensor, iof: bool) -> Tensor:
    """IoU (P,) of the rows of two tables (P, 9), or the intersection over the first area; in [0, 1], 0 / 0 is 0."""
    area1, area2 = first[:, AREA], second[:, AREA]
    inter = _intersections(first, second)
    whole = area1 if iof else area1 + area2 - inter
    flat = (area1 == 0) | (area2 == 0)
    ratio = torch.where(flat, 0.0, inter / torch.where(flat, 1.0, whole)).clamp(0, 1)
    return ratio + 0 * (area1 + area2)  # the clamped heights have lost a NaN


def gradients(grad: Tensor, first: Tensor, second: Tensor, iof: bool) -> tuple[Tensor, Tensor]:
    """Gradients (P, 5) of both boxes from those (P,) of the overlaps of two tables (P, 9), row with row.

    Where boxes share a piece of boundary, these are one of the one-sided derivatives.
    """
    area1, area2 = first[:, AREA], second[:, AREA]
    inter = _intersections(first, second)
    flat = (area1 == 0) | (area2 == 0) | (grad == 0)
    grad = torch.where(flat, 0.0, grad)
    if iof:
        whole = torch.where(flat, 1.0, area1)
        by_inter, by_area1 = grad / whole, -grad * inter / whole / whole
        by_area2 = torch.zeros_like(by_area1)
    else:
        whole = torch.where(flat, 1.0, area1 + area2 - inter)
        by_inter = grad * (area1 + area2) / whole / whole
        by_area1 = by_area2 = -grad * inter / whole / whole
    own, other = _by_displacement(first, second), _by_displacement(second, first)
    x, y = own[0] * first[:, COS] - own[1] * first[:, SIN], own[0] * first[:, SIN] + own[1] * first[:, COS]
    return (
        _columns(by_inter, x, y, own, by_area1, first),
        _columns(by_inter, -x, -y, other, by_area2, second),
    )


def _columns(
    by_inter: Tensor, x: Tensor, y: Tensor, sides: tuple[Tensor, ...], by_area: Tensor, boxes: Tensor
) -> Tensor:
    _, _, w, h, turn = sides
    by_w, by_h = by_inter * w + by_area * 2 * boxes[:, H], by_inter * h + by_area * 2 * boxes[:, W]
    return torch.stack([by_inter * x, by_inter * y, by_w, by_h, by_inter * turn], dim=1)


def _placed(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres and half sides of the first boxes in the frames of the second: (P, 2) each, and half sides of those."""
    cos, sin = second[:, COS], second[:, SIN]
    dx, dy = first[:, CX] - second[:, CX], first[:, CY] - second[:, CY]
    c = first[:, COS] * cos + first[:, SIN] * sin
    s = first[:, SIN] * cos - first[:, COS] * sin
    centre = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin], dim=1)
    u = torch.stack([first[:, W] * c, first[:, W] * s], dim=1)
    v = torch.stack([first[:, H] * -s, first[:, H] * c], dim=1)
    return centre, u, v, second[:, W : H + 1]


def _intersections(first: Tensor, second: Tensor) -> Tensor:
    """Areas (P,) of the intersections, up to rounding of either sign."""
    centre, u, v, half = _placed(first, second)
    points = [centre - u - v, centre + u - v, centre + u + v, centre - u + v]
    edges = [_edge(points[k], points[(k + 1) % 4], half) for k in range(4)]
    return -(edges[0] + edges[1] + (edges[2] + edges[3]))


def _edge(start: Tensor, end: Tensor, half: Tensor) -> Tensor:
    """Integrals (P,) of clamp(y, -H, H) dx along segments (P, 2), with x clamped to [-W, W]."""
    (x0, y0), (x1, y1), (w, h) = start.unbind(1), end.unbind(1), half.unbind(1)
    xa, xb = x0.clamp(-w, w), x1.clamp(-w, w)
    dx, dy = torch.where(xa == xb, 1.0, x1 - x0), y1 - y0
    ya, yb = y0 + (xa - x0) / dx * dy, y0 + (xb - x0) / dx * dy
    low, high = torch.minimum(ya, yb), torch.maximum(ya, yb)
    bottom, top = torch.maximum(low, -h), torch.minimum(high, h)
    rise = torch.where(high == low, 1.0, high - low)
    mixed = (top - bottom) / rise * ((top + bottom) / 2) + h * ((high - top) / rise - (bottom - low) / rise)
    height = torch.where((low >= -h) & (high <= h), (ya + yb) / 2, mixed)
    height = torch.where(low >= h, h, height)
    height = torch.where(high <= -h, -h, height)
    return torch.where(xa == xb, 0.0, (xb - xa) * height)


def _by_displacement(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """Derivatives (P,) of the area by the first box's shift along u and along v, its sides w and h, and its angle."""
    centre, u, v, half = _placed(first, second)
    w, h = 2 * first[:, W], 2 * first[:, H]
    top, m0 = _side(centre - u - v, 2 * u, w, half)
    right, m1 = _side(centre + u - v, 2 * v, h, half)
    bottom, m2 = _side(centre + u + v, -2 * u, w, half)
    left, m3 = _side(centre - u + v, -2 * v, h, half)
    return right - left, bottom - top, (right + left) / 2, (bottom + top) / 2, -(m0 + m1 + (m2 + m3))


def _side(start: Tensor, along: Tensor, length: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Length (P,) of a side inside |x| <= W, |y| <= H, and that times the distance of its middle from the side's own.

    Args:
        start: (P, 2).
        along: (P, 2) from its start to its end.
        length: (P,) of it.
        half: (P, 2) W and H.
    """
    still = along == 0
    step = torch.where(still, 1.0, along)
    enter, leave = (-half - start) / step, (half - start) / step
    enter, leave = torch.minimum(enter, leave), torch.maximum(enter, leave)
    beside = still & (start.abs() > half)
    enter, leave = torch.where(still, 0.0, enter), torch.where(still, 1.0, leave)
    leave = torch.where(beside, 0.0, leave)
    t0, t1 = enter.amax(dim=1).clamp(min=0), leave.amin(dim=1).clamp(max=1)
    inside = (t1 - t0).clamp(min=0) * length
    return inside, inside * ((t0 + t1 - 1) / 2 * length)
