"""GIoU loss of horizontal boxes: a gradient where boxes do not overlap.

Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, arXiv 1902.09630.
"""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from fledge.geometry.boxes import hulls
from fledge.types import at_least_float32


def giou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``1 - GIoU`` of the horizontal hulls of each pair of boxes, which for horizontal boxes are the boxes.

    Args:
        pred: (N, 5) boxes, pixels and radians.
        target: (N, 5) boxes of the same frame.

    Returns:
        (N,) losses in [0, 2], at least float32; 0 for equal hulls, up to the 1e-7 square pixels that keep it finite.
    """
    corners = hulls(at_least_float32(pred)), hulls(at_least_float32(target))
    loss: Tensor = generalized_box_iou_loss(*corners, reduction="none")
    return loss
