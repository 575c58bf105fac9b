"""KFIoU loss: overlap of the Gaussians of two rotated boxes by a Kalman filter, and a term for their centres.

Yang et al., "The KFIoU Loss for Rotated Object Detection", ICLR 2023, arXiv 2201.12558.

KFIoU does not see the centres, so the loss has two terms: ``exp(1 - KFIoU) - 1`` and, for the centres, ln(1 + δᵀ Σ⁻¹ δ)
with the offset δ and the covariance Σ of the labelled box, which does not depend on the scale of the objects.

Differs from MMRotate: the centre term there is smooth L1 on the deltas from the anchor, which needs the anchor; and
``1 - KFIoU`` is its default for the other one.

Known limit: as with KLD, the Gaussian of a square has no direction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.geometry.gaussian import kalman_iou, squared_mahalanobis


def kfiou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``ln(1 + δᵀ Σ⁻¹ δ) + exp(1 - KFIoU) - 1`` for each pair of boxes.

    Args:
        pred: (N, 5) boxes, pixels; sides are floored at ``fledge.geometry.gaussian.MIN_SIDE``.
        target: (N, 5) boxes of the same frame.

    Returns:
        (N,) losses, at least float32. KFIoU is at most 1/3: the least loss, that of boxes that cover the same points,
        is exp(2/3) - 1 = 0.948 and not 0.
    """
    centre = torch.log1p(squared_mahalanobis(pred[:, :2], target))
    return centre + torch.expm1(1 - kalman_iou(pred, target))
