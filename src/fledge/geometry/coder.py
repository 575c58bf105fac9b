"""Box deltas of rotated RetinaNet: a box seen from the frame of its anchor.

The delta form of Ding et al., "Learning RoI Transformer for Oriented Object Detection in Aerial Images", CVPR 2019,
https://arxiv.org/abs/1812.00155, eq. 1, with the exchange of sides that keeps the angle within an eighth of a turn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fledge.geometry.boxes import canonicalize, wrap_angle

MIN_SIDE = 1e-3
"""Sides below this many pixels count as this long before a logarithm or division, and after decoding."""

MAX_LOG_RATIO = math.log(1000 / 16)
"""Decoded sides differ from the anchor's by at most this log ratio (a factor of 62.5) either way."""


def encode(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The deltas that lead from anchors to boxes.

    dx, dy are the centre difference in the anchor's frame over the anchor's sides; dw, dh the logarithms of the side
    ratios; dangle the angle difference in radians. Of the two descriptions of a box, (w, h, angle) and
    (h, w, angle + pi/2), the one whose angle is nearer to the anchor's is taken: dangle lies in [-pi/4, pi/4].

    Args:
        anchors: (..., 5), pixels and radians, canonical or not (a horizontal anchor may be higher than wide).
        boxes: (..., 5) in the same frame, canonical or not.

    Returns:
        (..., 5) dx, dy, dw, dh, dangle; differentiable in both.
    """
    wa, ha = anchors[..., 2:4].clamp(min=MIN_SIDE).unbind(-1)
    w, h = boxes[..., 2:4].clamp(min=MIN_SIDE).unbind(-1)
    difference = boxes[..., 4].double() - anchors[..., 4].double()
    direct, _ = wrap_angle(difference, -math.pi / 2, math.pi, boxes.dtype)
    turned, _ = wrap_angle(difference + math.pi / 2, -math.pi / 2, math.pi, boxes.dtype)
    swap = turned.abs() < direct.abs()
    w, h = torch.where(swap, h, w), torch.where(swap, w, h)
    shift = boxes[..., :2] - anchors[..., :2]
    along, across = _rotate(shift, -anchors[..., 4])
    deltas = [along / wa, across / ha, (w / wa).log(), (h / ha).log(), torch.where(swap, turned, direct)]
    return torch.stack(deltas, dim=-1)


def decode(anchors: Tensor, deltas: Tensor) -> Tensor:
    """The boxes that deltas lead to from anchors; the inverse of ``encode``.

    Args:
        anchors: (..., 5), pixels and radians, canonical or not.
        deltas: (..., 5) dx, dy, dw, dh, dangle; dw and dh are limited to ``MAX_LOG_RATIO`` either way.

    Returns:
        (..., 5) le90 boxes with sides of at least ``MIN_SIDE``, in the wider dtype of both, at least float32;
        differentiable. NaN propagates.
    """
    deltas = deltas.to(torch.promote_types(anchors.dtype, torch.promote_types(deltas.dtype, torch.float32)))
    sides = anchors[..., 2:4].clamp(min=MIN_SIDE)
    shift = torch.stack(_rotate(deltas[..., :2] * sides, anchors[..., 4]), dim=-1)
    grown = sides * deltas[..., 2:4].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    angle = anchors[..., 4:] + deltas[..., 4:]
    return canonicalize(torch.cat([anchors[..., :2] + shift, grown.clamp(min=MIN_SIDE), angle], dim=-1))


def _rotate(vectors: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Components of vectors (..., 2) turned by angles (...)."""
    cos, sin = angle.cos(), angle.sin()
    x, y = vectors.unbind(-1)
    return x * cos - y * sin, x * sin + y * cos
