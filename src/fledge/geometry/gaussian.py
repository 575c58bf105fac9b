"""Rotated boxes as Gaussians, and the Kullback–Leibler divergence between them.

Yang et al., "Learning High-Precision Bounding Box for Rotated Object Detection via Kullback-Leibler Divergence",
NeurIPS 2021, https://arxiv.org/abs/2106.01883.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SIDE = 1e-3
"""Sides below this many pixels count as this long, which keeps covariances invertible and gradients finite."""


def box_to_gaussian(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The Gaussian of each box: its centre, and the covariance R diag(w²/4, h²/4) Rᵀ.

    Args:
        boxes: (N, 5), pixels and radians, canonical or not; sides are floored at ``MIN_SIDE``.

    Returns:
        mu (N, 2) in pixels and sigma (N, 2, 2) in square pixels, at least float32.
    """
    boxes = _at_least_float32(boxes)
    w, h = (boxes[:, 2:4].clamp(min=MIN_SIDE) / 2).square().unbind(-1)
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    xx, yy, xy = w * cos**2 + h * sin**2, w * sin**2 + h * cos**2, (w - h) * cos * sin
    return boxes[:, :2], torch.stack([xx, xy, xy, yy], dim=-1).view(-1, 2, 2)


def kl_divergence(pred: Tensor, target: Tensor) -> Tensor:
    """Divergence D of the targets' Gaussians from the predictions', in closed form in the predicted box's frame.

    D = ½ (μp - μt)ᵀ Σp⁻¹ (μp - μt) + ½ tr(Σp⁻¹ Σt) + ½ ln(|Σp| / |Σt|) - 1, which is KL(N_target ‖ N_pred). It is zero
    for equal sets of points, whatever the angle convention. Rounding below zero is cut off without touching the
    gradient; NaN propagates.

    Args:
        pred: (N, 5) boxes, pixels and radians; sides are floored at ``MIN_SIDE``.
        target: (N, 5) boxes in the same frame.

    Returns:
        (N,) divergences, at least float32.
    """
    pred, target = _at_least_float32(pred), _at_least_float32(target)
    wp, hp = pred[:, 2:4].clamp(min=MIN_SIDE).unbind(-1)
    wt, ht = target[:, 2:4].clamp(min=MIN_SIDE).unbind(-1)
    dx, dy = (pred[:, :2] - target[:, :2]).unbind(-1)
    cos, sin = pred[:, 4].cos(), pred[:, 4].sin()
    shift = ((dx * cos + dy * sin) / wp).square() + ((dy * cos - dx * sin) / hp).square()
    turn = target[:, 4] - pred[:, 4]
    cos, sin = turn.cos(), turn.sin()
    along = (wt / wp * cos).square() + (ht / wp * sin).square()
    across = (wt / hp * sin).square() + (ht / hp * cos).square()
    divergence = 2 * shift + (along + across) / 2 - (wt / wp).log() - (ht / hp).log() - 1
    return divergence + (divergence.clamp(min=0) - divergence).detach()


def _at_least_float32(boxes: Tensor) -> Tensor:
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))
