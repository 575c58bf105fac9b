"""RetinaNet for horizontal boxes: four deltas an anchor.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002; the layout (P6 from C5, nine anchors
a cell, L1 on the deltas) is the one IFKD distils, known from MMDetection.

Differs from MMDetection: an object always gets the anchors that it overlaps most; boxes are not clipped to the image,
since an object that a window cuts is learnt at its full extent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn

from fledge.assign.max_iou import MaxIoUAssigner
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.upright import as_le90, decode_upright, encode_upright, upright_hulls
from fledge.losses.smooth_l1 import l1_loss
from fledge.models.detectors.dense import MEAN, STD, DenseDetector
from fledge.types import Targets

DeltaLoss = Callable[[Tensor, Tensor], Tensor]


class RetinaNet(DenseDetector):
    """One-stage horizontal detector; oriented objects are learnt as their hulls.

    Args:
        backbone: returns ``{"c3", "c4", "c5"}``.
        neck: turns them into ``{"p3", …, "p7"}``.
        head: turns the levels into logits and codes of four numbers.
        anchors: the grid of anchors.
        assigner: decides which anchor learns which object.
        classes: the K class names.
        delta_loss: predicted and encoded deltas (P, 4) to (P,) losses.
        box_weight: weight of the box loss.
        score_threshold, nms_iou, max_detections: what ``decode`` keeps.
        mean, std: pixel statistics of the C channels, on the scale 0…255.
    """

    horizontal: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchors: AnchorGrid,
        assigner: MaxIoUAssigner,
        classes: Sequence[str],
        delta_loss: DeltaLoss = l1_loss,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int = 2000,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        keeps = (score_threshold, nms_iou, max_detections)
        super().__init__(backbone, neck, head, anchors, assigner, classes, box_weight, *keeps, mean, std)
        self.delta_loss = delta_loss

    def learnt(self, targets: Targets) -> Targets:
        """The horizontal hulls of the objects."""
        return replace(targets, boxes=upright_hulls(targets.boxes))

    def box_terms(self, codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """See ``DenseDetector``."""
        return self.delta_loss(codes, encode_upright(anchors, boxes))

    def boxes_at(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """See ``DenseDetector``."""
        return as_le90(decode_upright(anchors, codes))
