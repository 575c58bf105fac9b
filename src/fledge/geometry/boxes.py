"""Rotated boxes: corners, canonical form, hulls, areas, and the smallest box around a quadrilateral.

Everywhere in fledge a box is (cx, cy, w, h, angle): pixels, radians, x right, y down; a positive angle turns +x towards
+y (clockwise on screen). The canonical form "le90" has ``w >= h`` and ``angle`` in [-pi/2, pi/2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_POINT_PAIRS = ((0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3))
_PROJECTIONS = 1 << 22  # points projected on directions at once: 64 MB


def corners(boxes: Tensor) -> Tensor:
    """Corner points of boxes, clockwise on screen.

    Args:
        boxes: (..., 5), pixels and radians, canonical or not.

    Returns:
        (..., 4, 2): the images of the local offsets (-w/2, -h/2), (w/2, -h/2), (w/2, h/2), (-w/2, h/2), same pixels.
    """
    centre, w, h, angle = boxes[..., :2], boxes[..., 2:3], boxes[..., 3:4], boxes[..., 4:5]
    along = torch.cat([angle.cos(), angle.sin()], dim=-1)
    across = torch.cat([-angle.sin(), angle.cos()], dim=-1)
    u, v = along * w / 2, across * h / 2
    return torch.stack([centre - u - v, centre + u - v, centre + u + v, centre - u + v], dim=-2)


def wrap_angle(angle: Tensor, low: float, period: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Reduce angles to [low, low + period), where the bounds are those numbers rounded to ``dtype``.

    An angle that already lies inside comes back unchanged, so that wrapping twice is wrapping once.

    Args:
        angle: (...) float64, radians.
        low: lower bound, included.
        period: length of the range.
        dtype: dtype of the result; rounding to it can reach the excluded bound, which is then wrapped once more.

    Returns:
        The reduced angles (...) in ``dtype``, differentiable, and the number of periods (...) float64 taken away.
    """
    direct = angle.to(dtype)
    inside = (direct >= low) & (direct < low + period)
    turns = torch.where(inside, 0.0, torch.floor((angle.detach() - low) / period))
    wrapped = (angle - turns * period).to(dtype)
    over = wrapped >= low + period
    return torch.where(over, wrapped - period, wrapped).clamp(min=low), turns + over


def canonicalize(boxes: Tensor) -> Tensor:
    """The same boxes in le90 form: ``w >= h``, angle in [-pi/2, pi/2); applying it twice changes nothing.

    The angle is reduced in float64, so that even an angle of 1e6 rad keeps its corners. A square keeps its angle modulo
    pi. Differentiable; NaN propagates.

    Args:
        boxes: (..., 5), any angle, sides in any order.

    Returns:
        (..., 5), same dtype.
    """
    cx, cy, w, h, angle = boxes.unbind(-1)
    swap = w < h
    angle, _ = wrap_angle(angle.double() + swap.double() * (math.pi / 2), -math.pi / 2, math.pi, boxes.dtype)
    return torch.stack([cx, cy, torch.where(swap, h, w), torch.where(swap, w, h), angle], dim=-1)


def hulls(boxes: Tensor) -> Tensor:
    """Horizontal hulls of boxes.

    Args:
        boxes: (..., 5), canonical or not.

    Returns:
        (..., 4): x1, y1, x2, y2 in the same pixels.
    """
    centre, w, h, angle = boxes[..., :2], boxes[..., 2], boxes[..., 3], boxes[..., 4]
    cos, sin = angle.cos(), angle.sin()
    x = (w * cos).abs() + (h * sin).abs()
    y = (w * sin).abs() + (h * cos).abs()
    half = torch.stack([x, y], dim=-1) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def areas(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 5) in square pixels; a negative side counts as 0, NaN propagates."""
    return boxes[..., 2].clamp(min=0) * boxes[..., 3].clamp(min=0)


def boxes_from_quads(quads: Tensor) -> Tensor:
    """The smallest enclosing box of each quadrilateral, exactly, whatever the order of its points.

    The smallest enclosing rectangle has a side along an edge of the convex hull (Freeman and Shapira, 1975), and every
    such edge joins two of the four points: the six directions between points are tried at once, in float64.

    Args:
        quads: (N, 4, 2) points in pixels; they may be collinear or equal, in any order.

    Returns:
        (N, 5) canonical boxes, same dtype; finite for finite points, with zero sides where the points are degenerate.
    """
    points = quads.double()
    origin = points.mean(dim=1, keepdim=True)
    local = points - origin
    first, second = zip(*_POINT_PAIRS, strict=True)
    boxes = smallest_rectangles(local, local[:, second] - local[:, first])
    return canonicalize(torch.cat([boxes[:, :2] + origin[:, 0], boxes[:, 2:]], dim=1).to(quads.dtype))


def smallest_rectangles(points: Tensor, along: Tensor) -> Tensor:
    """Of the enclosing rectangles with a side along one of the given directions, the one of least area.

    Args:
        points: (N, P, 2) float64, P > 0, near the origin for accuracy.
        along: (N, D, 2) directions of any length, D > 0; a zero vector stands for +x.

    Returns:
        (N, 5) boxes, not canonical: w along the chosen direction, the first one of equal areas.
    """
    length = along.norm(dim=-1, keepdim=True)
    fallback = torch.tensor([1.0, 0.0], dtype=along.dtype, device=along.device)
    along = torch.where(length > 0, along / length, fallback)
    axes = torch.stack([along, torch.stack([-along[..., 1], along[..., 0]], dim=-1)], dim=-2)  # (N, D, 2 axes, 2)
    step = max(1, _PROJECTIONS // max(1, points[..., 0].numel()))
    extents = [_extents(points, part) for part in torch.split(axes, step, dim=1)]
    low, high = (torch.cat(ends, dim=1) for ends in zip(*extents, strict=True))  # (N, D, 2 axes)
    best = (high - low).prod(dim=-1).argmin(dim=1)
    rows = torch.arange(len(points), device=points.device)
    axes, low, high = axes[rows, best], low[rows, best], high[rows, best]
    centre = torch.einsum("na,nax->nx", (low + high) / 2, axes)
    angle = torch.atan2(axes[:, 0, 1], axes[:, 0, 0])
    return torch.cat([centre, high - low, angle[:, None]], dim=1)


def _extents(points: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest projections (N, D, 2 axes) of points (N, P, 2) on unit axes (N, D, 2 axes, 2)."""
    projected = torch.einsum("npax,nkx->npak", axes, points)
    return projected.amin(dim=-1), projected.amax(dim=-1)
