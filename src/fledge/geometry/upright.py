"""Upright (horizontal) boxes: the hulls of oriented ones, their deltas, and their suppression.

An upright box is (cx, cy, w, h) in pixels, sides in the axes' directions and in any order; its extents are (x1, y1, x2,
y2). Where detections leave a detector they are le90 boxes like all others: a tall one has the angle -pi/2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from fledge.geometry.boxes import canonicalize, hulls
from fledge.geometry.coder import MAX_LOG_RATIO, MIN_SIDE


def upright_hulls(boxes: Tensor) -> Tensor:
    """The horizontal hulls (N, 5) of boxes (N, 5) in their pixels, with the angle 0: not canonical where h > w."""
    return F.pad(from_extents(hulls(boxes)), (0, 1))


def extents(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 (..., 4) of upright boxes (..., 4), or (..., 5) with the angle 0."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def from_extents(corners: Tensor) -> Tensor:
    """Upright boxes (..., 4) of extents (..., 4)."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def as_le90(boxes: Tensor) -> Tensor:
    """Upright boxes (..., 4) as canonical boxes (..., 5): the angle is 0, or -pi/2 where h > w."""
    return canonicalize(F.pad(boxes, (0, 1)))


def encode_upright(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The deltas that lead from upright anchors to upright boxes.

    Ren et al., "Faster R-CNN", NeurIPS 2015, https://arxiv.org/abs/1506.01497, eq. 2.

    Args:
        anchors: (..., 4) or (..., 5) with the angle 0, pixels.
        boxes: (..., 4) or (..., 5) likewise.

    Returns:
        (..., 4) dx, dy over the anchor's sides, and the logarithms dw, dh of the side ratios; differentiable in both.
    """
    sides, own = anchors[..., 2:4].clamp(min=MIN_SIDE), boxes[..., 2:4].clamp(min=MIN_SIDE)
    return torch.cat([(boxes[..., :2] - anchors[..., :2]) / sides, (own / sides).log()], dim=-1)


def decode_upright(anchors: Tensor, deltas: Tensor) -> Tensor:
    """The upright boxes that deltas lead to from anchors; the inverse of ``encode_upright``.

    Args:
        anchors: (..., 4) or (..., 5) with the angle 0, pixels.
        deltas: (..., 4); dw and dh are limited to ``MAX_LOG_RATIO`` either way.

    Returns:
        (..., 4) in the wider dtype of both, at least float32; differentiable. NaN propagates.
    """
    deltas = deltas.to(torch.promote_types(anchors.dtype, torch.promote_types(deltas.dtype, torch.float32)))
    sides = anchors[..., 2:4].clamp(min=MIN_SIDE)
    grown = sides * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return torch.cat([anchors[..., :2] + deltas[..., :2] * sides, grown.clamp(min=MIN_SIDE)], dim=-1)


def greedy_mask(corners: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Which boxes of each group survive greedy suppression: unless a better survivor overlaps them more.

    In an exported graph the choice is the fixed point of that rule, found in standard operators for any sizes, with a
    matrix of all overlaps in a group.

    Args:
        corners: (G, N, 4) extents, best first.
        valid: (G, N) bool; the others do not survive and suppress nothing.
        threshold: an intersection over union above it suppresses.

    Returns:
        (G, N) bool.
    """
    if torch.compiler.is_exporting():
        return _fixed_point(corners, valid, threshold)
    kept = torch.zeros_like(valid)
    for group, (boxes, real) in enumerate(zip(corners, valid, strict=True)):
        rows = real.nonzero()[:, 0]
        rank = torch.arange(len(rows), 0, -1, dtype=boxes.dtype, device=boxes.device)
        kept[group, rows[nms(boxes[rows], rank, threshold)]] = True
    return kept


def _fixed_point(corners: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """``greedy_mask`` as a loop that a graph can hold; each round settles one more rank of every chain."""
    x1, y1, x2, y2 = corners.unbind(-1)
    area = (x2 - x1) * (y2 - y1)
    w = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    h = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    inter = w.clamp(min=0) * h.clamp(min=0)
    place = torch.arange(corners.shape[1], device=corners.device)
    hits = inter / (area[:, :, None] + area[:, None] - inter) > threshold
    hits = hits & (place[None, :] < place[:, None]) & valid[:, None]
    suppressed_by, allowed = hits.to(corners.dtype), valid.to(corners.dtype)[:, :, None].clone()

    def unsettled(kept: Tensor, before: Tensor) -> Tensor:
        return (kept != before).any()

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(suppressed_by @ kept > 0, torch.zeros_like(kept), allowed), kept.clone()

    start = torch.ones_like(allowed)
    kept: Tensor = torch.while_loop(unsettled, settle, (start, start - 1))[0]  # type: ignore[no-untyped-call]
    return kept[:, :, 0] > 0
