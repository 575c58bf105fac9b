"""Rotated RetinaNet: RetinaNet with horizontal anchors and five box deltas.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002; the layout (P6 from C5, nine anchors
a cell, le90 coding) is the one KD-RNet distils, known from MMRotate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from fledge.assign.max_iou import MaxIoUAssigner
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.coder import decode, encode
from fledge.losses.gwd import gwd_loss
from fledge.losses.kfiou import kfiou_loss
from fledge.losses.kld import kld_loss
from fledge.losses.rotated_iou import rotated_iou_loss
from fledge.losses.smooth_l1 import smooth_l1_loss
from fledge.models.detectors.dense import MEAN, STD, DenseDetector

BoxLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def kld_box_loss(codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """KLD between decoded and true boxes, all (P, 5); (P,) losses."""
    return kld_loss(decode(anchors, codes), boxes)


def gwd_box_loss(codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """GWD between decoded and true boxes, all (P, 5); (P,) losses."""
    return gwd_loss(decode(anchors, codes), boxes)


def kfiou_box_loss(codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """KFIoU and centre loss between decoded and true boxes, all (P, 5); (P,) losses."""
    return kfiou_loss(decode(anchors, codes), boxes)


def rotated_iou_box_loss(codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """Exact IoU loss between decoded and true boxes, all (P, 5); (P,) losses."""
    return rotated_iou_loss(decode(anchors, codes), boxes)


def smooth_l1_box_loss(codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """Smooth L1 between predicted and encoded deltas, all (P, 5); (P,) losses."""
    return smooth_l1_loss(codes, encode(anchors, boxes))


class RotatedRetinaNet(DenseDetector):
    """One-stage oriented detector; loss and decoding are those of ``DenseDetector``.

    Args:
        backbone: returns ``{"c3", "c4", "c5"}``.
        neck: turns them into ``{"p3", …, "p7"}``.
        head: turns the levels into logits and codes of five numbers.
        anchors: the grid of horizontal anchors.
        assigner: decides which anchor learns which object.
        box_loss: codes, anchors and true boxes (P, 5) to (P,) losses.
        classes: the K class names.
        box_weight: weight of the box loss (5.5 for KLD with le90, 1 for smooth L1).
        score_threshold, nms_iou, max_detections: what ``decode`` keeps.
        mean, std: pixel statistics of the C channels, on the scale 0…255.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchors: AnchorGrid,
        assigner: MaxIoUAssigner,
        box_loss: BoxLoss,
        classes: Sequence[str],
        box_weight: float = 5.5,
        score_threshold: float = 0.05,
        nms_iou: float = 0.1,
        max_detections: int = 2000,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        keeps = (score_threshold, nms_iou, max_detections)
        super().__init__(backbone, neck, head, anchors, assigner, classes, box_weight, *keeps, mean, std)
        self.box_loss = box_loss

    def box_terms(self, codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """See ``DenseDetector``."""
        return self.box_loss(codes, anchors, boxes)

    def boxes_at(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """See ``DenseDetector``."""
        return decode(anchors, codes)
