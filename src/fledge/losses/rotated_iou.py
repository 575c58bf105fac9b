"""Rotated IoU loss: one minus the exact overlap of two rotated boxes.

Zhou et al., "IoU Loss for 2D/3D Object Detection", 3DV 2019, arXiv 1908.03851, on the exact and differentiable IoU of
``fledge.geometry.iou``.

The linear form is taken and not -ln(IoU), whose gradient grows without bound as the overlap goes to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.geometry.gaussian import MIN_SIDE
from fledge.geometry.iou import rotated_iou
from fledge.types import at_least_float32


def rotated_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``1 - IoU(pred, target)`` for each pair of boxes.

    Boxes that do not overlap have the loss 1 **with a zero gradient**: nothing pulls them together. That is rare in a
    detector that assigns anchors by overlap, since a prediction starts at its anchor; where it is not, use a Gaussian
    loss. At equal boxes, where the loss has a kink, the gradient is one of the one-sided ones and not zero.

    Args:
        pred: (N, 5) boxes, pixels; sides are floored at ``MIN_SIDE``, without a gradient below it.
        target: (N, 5) boxes of the same frame.

    Returns:
        (N,) losses in [0, 1], at least float32, computed in float64.
    """
    return 1 - rotated_iou(_floored(pred), _floored(target), aligned=True)


def _floored(boxes: Tensor) -> Tensor:
    """Sides of at least ``MIN_SIDE``: the gradient by a side grows as one over it."""
    boxes = at_least_float32(boxes)
    return torch.cat([boxes[:, :2], boxes[:, 2:4].clamp(min=MIN_SIDE), boxes[:, 4:]], dim=1)
