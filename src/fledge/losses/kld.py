"""KLD loss: Kullback-Leibler divergence between the Gaussians of two rotated boxes.

Yang et al., "Learning High-Precision Bounding Box for Rotated Object Detection via Kullback-Leibler Divergence",
NeurIPS 2021, arXiv 2106.01883.

Differs from the paper: no square root of the divergence is taken before the logarithm (MMRotate's "stable" form, the
reading KD-RNet's authors most likely trained with).

Known limit: the Gaussian of a square has no direction, so the loss cannot teach the angle of a square object (a storage
tank, say). Such boxes come out turned at random, with an IoU down to 0.71: their AP75 stays low.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.geometry.gaussian import kl_divergence


def kld_loss(pred: Tensor, target: Tensor, tau: float = 1.0) -> Tensor:
    """``1 - 1 / (tau + ln(1 + D(pred || target)))`` for each pair of boxes.

    Args:
        pred: (N, 5) boxes, pixels.
        target: (N, 5) boxes of the same frame.
        tau: offset that keeps the loss in [1 - 1/tau, 1).

    Returns:
        (N,) losses in [0, 1) for ``tau`` = 1; 0 for boxes that cover the same points.
    """
    return 1 - 1 / (tau + torch.log1p(kl_divergence(pred, target)))
