"""Rotated boxes as Gaussians, and three ways to compare them, each in closed form in the frame of one box.

- Kullback–Leibler divergence: Yang et al., "Learning High-Precision Bounding Box for Rotated Object Detection via
  Kullback-Leibler Divergence", NeurIPS 2021, https://arxiv.org/abs/2106.01883.
- Wasserstein distance: Yang et al., "Rethinking Rotated Object Detection with Gaussian Wasserstein Distance Loss", ICML
  2021, https://arxiv.org/abs/2101.11952.
- Kalman-filter IoU: Yang et al., "The KFIoU Loss for Rotated Object Detection", ICLR 2023,
  https://arxiv.org/abs/2201.12558.

No covariance matrix is built or inverted for them. Sides are floored at ``MIN_SIDE``, so that the smallest variance is
MIN_SIDE² / 4; a side below the floor gets no gradient. Inputs of half precision are computed in float32.
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
    wp, hp, wt, ht, turn = _sides_and_turn(pred, target)
    cos, sin = turn.cos(), turn.sin()
    along = (wt / wp * cos).square() + (ht / wp * sin).square()
    across = (wt / hp * sin).square() + (ht / hp * cos).square()
    spread = (along + across) / 2 - (wt / wp).log() - (ht / hp).log() - 1
    return _not_negative(squared_mahalanobis(target[:, :2], pred) / 2 + spread)


def squared_mahalanobis(points: Tensor, boxes: Tensor) -> Tensor:
    """Squared Mahalanobis distance (p - μ)ᵀ Σ⁻¹ (p - μ) of each point from the Gaussian of its box.

    Args:
        points: (N, 2), pixels.
        boxes: (N, 5) in the same frame; sides are floored at ``MIN_SIDE``.

    Returns:
        (N,) distances, at least float32: 0 at the centre, 1 in the middle of a side.
    """
    points, boxes = _at_least_float32(points), _at_least_float32(boxes)
    w, h = boxes[:, 2:4].clamp(min=MIN_SIDE).unbind(-1)
    dx, dy = (points - boxes[:, :2]).unbind(-1)
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    return 4 * (((dx * cos + dy * sin) / w).square() + ((dy * cos - dx * sin) / h).square())


def squared_wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between the Gaussians of two boxes.

    d² = |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1^½ Σ2 Σ1^½)^½). With P = w1 w2 + h1 h2, Q = w1 h2 + h1 w2 and the angle φ
    between the boxes, the root's trace is ¼ √(P² cos²φ + Q² sin²φ). It is written so that no large numbers are
    subtracted where two canonical boxes are alike. Symmetric, and zero for equal sets of points; rounding below zero is
    cut off without touching the gradient; NaN propagates.

    Args:
        first: (N, 5) boxes, pixels and radians; sides are floored at ``MIN_SIDE``.
        second: (N, 5) boxes in the same frame.

    Returns:
        (N,) squared distances in square pixels, at least float32.
    """
    w1, h1, w2, h2, turn = _sides_and_turn(first, second)
    cos, sin = turn.cos(), turn.sin()
    centre = (_at_least_float32(first)[:, :2] - _at_least_float32(second)[:, :2]).square().sum(dim=1)
    size = ((w1 - w2).square() + (h1 - h2).square()) / 4
    p, q = w1 * w2 + h1 * h2, w1 * h2 + h1 * w2
    root = ((p * cos).square() + (q * sin).square()).sqrt()
    angle = (w1 - h1) * (w2 - h2) / (p + root) * (w1 + h1) * (w2 + h2) * sin.square() / 2
    return _not_negative(centre + size + angle)


def kalman_iou(first: Tensor, second: Tensor) -> Tensor:
    """KFIoU: the overlap of the Gaussians of two boxes whose centres are put together, by a Kalman filter.

    The fused covariance Σ = Σ1 - Σ1 (Σ1 + Σ2)⁻¹ Σ1 has the determinant |Σ1||Σ2| / |Σ1 + Σ2|. With the boxes' areas
    V = 4√|Σ|, KFIoU = V / (V1 + V2 - V). It does not see the centres.

    Args:
        first: (N, 5) boxes, pixels and radians; sides are floored at ``MIN_SIDE``.
        second: (N, 5) boxes; only sides and angles are read.

    Returns:
        (N,) values in (0, 1/3], at least float32; 1/3 for boxes of equal sides and direction.
    """
    w1, h1, w2, h2, turn = _sides_and_turn(first, second)
    cos, sin = turn.cos(), turn.sin()
    area1, area2 = w1 * h1, w2 * h2
    aligned = (w1 * h2).square() + (h1 * w2).square()
    crossed = (w1 * w2).square() + (h1 * h2).square()
    # 4 √|Σ1 + Σ2|, a sum of squares only; V = V1 V2 / joint.
    joint = (area1.square() + area2.square() + aligned * cos.square() + crossed * sin.square()).sqrt()
    return 1 / (joint / area1 + joint / area2 - 1)


def _sides_and_turn(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sides w1, h1, w2, h2 of at least ``MIN_SIDE`` and the angle from the first to the second boxes, (N,) each."""
    first, second = _at_least_float32(first), _at_least_float32(second)
    w1, h1 = first[:, 2:4].clamp(min=MIN_SIDE).unbind(-1)
    w2, h2 = second[:, 2:4].clamp(min=MIN_SIDE).unbind(-1)
    return w1, h1, w2, h2, second[:, 4] - first[:, 4]


def _not_negative(x: Tensor) -> Tensor:
    """Rounding below zero cut off, with the gradient of ``x``."""
    return x + (x.clamp(min=0) - x).detach()


def _at_least_float32(boxes: Tensor) -> Tensor:
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))
