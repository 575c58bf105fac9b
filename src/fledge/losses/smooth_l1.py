"""Smooth L1, and L1, on box deltas. Girshick, "Fast R-CNN", ICCV 2015, arXiv 1504.08083."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def smooth_l1_loss(pred: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Smooth L1 of each box, summed over its deltas.

    Args:
        pred: (N, D) predicted deltas, five of an oriented box, four of a horizontal one.
        target: (N, D) encoded deltas.
        beta: where the quadratic part ends.

    Returns:
        (N,) losses, not normalised.
    """
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta).sum(dim=1)


def l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The absolute differences (N,) of deltas (N, D), summed over the D of a box."""
    return (pred - target).abs().sum(dim=1)
