"""GWD loss: Wasserstein distance between the Gaussians of two rotated boxes.

Yang et al., "Rethinking Rotated Object Detection with Gaussian Wasserstein Distance Loss", ICML 2021, arXiv 2101.11952.

Differs from the paper: the squared distance is divided by the geometric mean of the two areas, as in MMRotate, so that
the loss depends on the shapes and not on the size of the objects in pixels. No square root of it is taken: its gradient
is infinite where the boxes agree.

Known limit: as with KLD, the Gaussian of a square has no direction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.geometry.gaussian import MIN_SIDE, squared_wasserstein
from fledge.types import at_least_float32


def gwd_loss(pred: Tensor, target: Tensor, tau: float = 1.0) -> Tensor:
    """``1 - 1 / (tau + ln(1 + d² / √(area(pred) area(target))))`` for each pair of boxes.

    Args:
        pred: (N, 5) boxes, pixels; sides are floored at ``MIN_SIDE``.
        target: (N, 5) boxes of the same frame.
        tau: offset that keeps the loss in [1 - 1/tau, 1).

    Returns:
        (N,) losses in [0, 1) for ``tau`` = 1, at least float32; 0 for boxes that cover the same points.
    """
    scale = (_area(pred) * _area(target)).sqrt()
    return 1 - 1 / (tau + torch.log1p(squared_wasserstein(pred, target) / scale))


def _area(boxes: Tensor) -> Tensor:
    return at_least_float32(boxes)[:, 2:4].clamp(min=MIN_SIDE).prod(dim=1)
