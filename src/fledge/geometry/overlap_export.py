"""Overlap of rotated boxes in the standard operators of an exported graph, in the dtype it is given.

The method is that of ``fledge.geometry.overlap``. Nothing here depends on the data, so a graph holds for any number of
boxes. In float32 an overlap is off by up to some 3e-6, where boxes coincide after half a turn.
"""

from __future__ import annotations

import torch
from torch import Tensor


def dense_overlap(boxes1: Tensor, boxes2: Tensor, iof: bool) -> Tensor:
    """Overlap (N, M) of boxes (N, 5) with boxes (M, 5)."""
    return _overlap(boxes1[:, None], boxes2[None], iof)


def row_overlap(boxes1: Tensor, boxes2: Tensor, iof: bool) -> Tensor:
    """Overlap (N,) of boxes (N, 5), row with row."""
    return _overlap(boxes1, boxes2, iof)


def _overlap(first: Tensor, second: Tensor, iof: bool) -> Tensor:
    """Overlap (...) of boxes (..., 5) that broadcast."""
    x1, y1, w1, h1, angle1 = first.unbind(-1)
    x2, y2, w2, h2, angle2 = second.unbind(-1)
    w1, h1, w2, h2 = (side.clamp(min=0) / 2 for side in (w1, h1, w2, h2))
    cos, sin = angle2.cos(), angle2.sin()
    turn = angle1 - angle2
    ux, uy = w1 * turn.cos(), w1 * turn.sin()
    vx, vy = -h1 * turn.sin(), h1 * turn.cos()
    dx, dy = x1 - x2, y1 - y2
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    xs = [x - ux - vx, x + ux - vx, x + ux + vx, x - ux + vx]
    ys = [y - uy - vy, y + uy - vy, y + uy + vy, y - uy + vy]
    edges = [_edge(xs[k], ys[k], xs[(k + 1) % 4], ys[(k + 1) % 4], w2, h2) for k in range(4)]
    area1, area2 = 4 * w1 * h1, 4 * w2 * h2
    inter = torch.minimum((-(edges[0] + edges[1] + edges[2] + edges[3])).clamp(min=0), torch.minimum(area1, area2))
    whole = area1 + 0 * area2 if iof else area1 + area2 - inter
    flat = torch.minimum(area1, area2) <= 0
    return torch.where(flat, torch.zeros_like(inter), inter / torch.where(flat, torch.ones_like(whole), whole))


def _edge(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Integrals of clamp(y, -h, h) dx along segments, with x clamped to [-w, w]."""
    xa, xb = torch.minimum(torch.maximum(x0, -w), w), torch.minimum(torch.maximum(x1, -w), w)
    outside = xa == xb
    dx, dy = torch.where(outside, torch.ones_like(x0), x1 - x0), y1 - y0
    ya, yb = y0 + (xa - x0) / dx * dy, y0 + (xb - x0) / dx * dy
    low, high = torch.minimum(ya, yb), torch.maximum(ya, yb)
    bottom, top = torch.minimum(torch.maximum(low, -h), h), torch.minimum(torch.maximum(high, -h), h)
    rise = high - low
    flat = rise <= 0
    rise = torch.where(flat, torch.ones_like(rise), rise)
    beyond = (high - torch.maximum(low, h)).clamp(min=0) - (torch.minimum(high, -h) - low).clamp(min=0)
    mixed = (top - bottom) / rise * ((top + bottom) / 2) + h * (beyond / rise)
    return torch.where(outside, torch.zeros_like(xa), (xb - xa) * torch.where(flat, bottom, mixed))
