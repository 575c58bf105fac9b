"""Rotated RetinaNet: RetinaNet with horizontal anchors and five box deltas.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002; the layout (P6 from C5, nine anchors
a cell, le90 coding) is the one KD-RNet distils, known from MMRotate.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment, MaxIoUAssigner
from fledge.distributed import share_of_positives
from fledge.errors import DataError, NumericError
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.coder import decode, encode
from fledge.geometry.nms import rotated_nms
from fledge.losses.focal import focal_loss
from fledge.losses.gwd import gwd_loss
from fledge.losses.kfiou import kfiou_loss
from fledge.losses.kld import kld_loss
from fledge.losses.rotated_iou import rotated_iou_loss
from fledge.losses.smooth_l1 import smooth_l1_loss
from fledge.models.backbones import normalise
from fledge.types import Batch, Detections, Frame, Outputs, at_least_float32, flatten_levels

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


class RotatedRetinaNet(nn.Module):
    """One-stage oriented detector.

    Args:
        backbone: returns ``{"c3", "c4", "c5"}``.
        neck: turns them into ``{"p3", …, "p7"}``.
        head: turns the levels into logits and codes.
        anchors: the grid of horizontal anchors.
        assigner: decides which anchor learns which object.
        box_loss: codes, anchors and true boxes (P, 5) to (P,) losses.
        classes: the K class names.
        box_weight: weight of the box loss (5.5 for KLD with le90, 1 for smooth L1).
        score_threshold, nms_iou, max_detections: what ``decode`` keeps.
        mean, std: pixel statistics of the C channels, on the scale 0…255.
    """

    mean: Tensor
    std: Tensor

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
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.anchors, self.assigner, self.box_loss = anchors, assigner, box_loss
        self.classes = tuple(classes)
        self.box_weight = box_weight
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self._assigned: weakref.WeakKeyDictionary[Batch, Assignment] = weakref.WeakKeyDictionary()

    def forward(self, images: Tensor, targets: Any = None) -> Outputs:  # noqa: ARG002 (two-stage detectors read targets)
        """uint8 or float images (B, C, H, W) in 0…255 to per-level logits and codes, and the feature maps."""
        features = self.backbone(normalise(images, self.mean, self.std))
        levels = self.neck(features)
        logits, codes, named = self.head(levels)
        return Outputs(logits=logits, codes=codes, features={**features, **levels, **named})

    def anchor_boxes(self, outputs: Outputs) -> Tensor:
        """(A, 5) anchors of all levels in the order of ``flatten_levels``."""
        shapes = [(x.shape[-2], x.shape[-1]) for x in outputs.logits]
        return torch.cat(self.anchors.grids(shapes, outputs.logits[0].device))

    def assign(self, outputs: Outputs, batch: Batch) -> Assignment:
        """Which anchor learns what. Computed once a batch: the loss and a distiller ask for the same one."""
        if batch not in self._assigned:
            self._check(batch)
            self._assigned[batch] = self.assigner(self.anchor_boxes(outputs), batch.targets)
        return self._assigned[batch]

    def positives(self, batch: Batch) -> int:
        """How many anchors of a batch will be positive, which its images' size and targets alone decide."""
        if batch not in self._assigned:
            self._check(batch)
            sides = batch.images.shape[-2:]
            shapes = [(-(-sides[0] // stride), -(-sides[1] // stride)) for stride in self.anchors.strides]
            anchors = torch.cat(self.anchors.grids(shapes, batch.images.device))
            self._assigned[batch] = self.assigner(anchors, batch.targets)
        return self._assigned[batch].positives

    def _check(self, batch: Batch) -> None:
        """Refuse targets that would be learnt as something else: boxes without area, labels without a class."""
        for target in batch.targets:
            sound = target.boxes.isfinite().all(dim=1) & (target.boxes[:, 2:4] > 0).all(dim=1)
            known = target.ignore | ((target.labels >= 0) & (target.labels < len(self.classes)))
            if not (sound & known).all():
                row = int((~(sound & known)).nonzero()[0])
                raise DataError(
                    f"bad target: image {target.image_id}, object {row}: box {target.boxes[row].tolist()}, label "
                    f"{int(target.labels[row])} of {len(self.classes)} classes: boxes need finite positive sides"
                )

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: without the assignments of batches."""
        return {**self.__dict__, "_assigned": weakref.WeakKeyDictionary()}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Focal loss on all anchors that count and box loss on the positives, both divided by the positives."""
        assignment = self.assign(outputs, batch)
        positives = share_of_positives(assignment.positives, assignment.labels.device)
        labels = torch.where(assignment.positive, assignment.labels, len(self.classes))
        logits = flatten_levels(outputs.logits)
        codes = flatten_levels(outputs.codes)[assignment.positive]
        anchors = self.anchor_boxes(outputs)[assignment.positive.nonzero()[:, 1]]
        cls = focal_loss(at_least_float32(logits[assignment.valid]), labels[assignment.valid])
        box = self.box_loss(at_least_float32(codes), anchors, assignment.boxes)
        return {"cls": cls.sum() / positives, "box": self.box_weight * box.sum() / positives}

    def candidates(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What scores above the threshold, before suppression, as an exported graph holds it.

        Returns:
            boxes (M, 5) in pixels of the network's input, scores (M,), images (M,) and labels (M,), in the order of
            image, anchor and label.
        """
        scores = flatten_levels(outputs.logits).float().sigmoid()
        image, anchor, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        codes = flatten_levels(outputs.codes)[image, anchor].float()
        return decode(self.anchor_boxes(outputs)[anchor], codes), scores[image, anchor, label], image, label

    @torch.no_grad()
    def decode(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Detections of each image in pixels of the network's input.

        Args:
            outputs: what ``forward`` returned.
            sizes: (B, 2) true heights and widths; a box whose centre lies in the padding is dropped.

        Raises:
            NumericError: an output is not finite.
        """
        scores = flatten_levels(outputs.logits).float().sigmoid()
        codes = flatten_levels(outputs.codes).float()
        if not (scores.isfinite().all() and codes.isfinite().all()):
            raise NumericError("not finite: outputs of the detector: its weights or the image are damaged: check both")
        anchors = self.anchor_boxes(outputs)
        return [self._decode_image(*row, anchors) for row in zip(scores, codes, sizes, strict=True)]

    def _decode_image(self, scores: Tensor, codes: Tensor, size: Tensor, anchors: Tensor) -> Detections:
        anchor, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        score = scores[anchor, label]
        if len(score) > self.max_detections:
            top = score.topk(self.max_detections).indices
            anchor, label, score = anchor[top], label[top], score[top]
        boxes = decode(anchors[anchor], codes[anchor])
        inside = (boxes[:, :2] >= 0).all(dim=1) & (boxes[:, :2] <= size.flip(0)).all(dim=1)
        boxes, score, label = boxes[inside], score[inside], label[inside]
        keep = rotated_nms(boxes, score, self.nms_iou, label)
        height, width = size.tolist()
        return Detections(boxes[keep], score[keep], label[keep], self.classes, Frame(size=(height, width)))
