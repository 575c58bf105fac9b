"""What detectors with anchors share: maps, assignment, checks of the targets, and a one-stage loss and decoding."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment, MaxIoUAssigner
from fledge.distributed import share_of_positives
from fledge.errors import DataError, NumericError
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.nms import rotated_nms
from fledge.losses.focal import focal_loss
from fledge.models.backbones import normalise
from fledge.types import Batch, Detections, Frame, Outputs, Targets, at_least_float32, flatten_levels

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class DenseDetector(nn.Module):
    """A detector whose head says something of every anchor of a pyramid.

    A subclass says what its anchors learn and what its codes mean; as it stands, scores are sigmoids and the losses
    those of RetinaNet. A two-stage detector replaces ``forward``, ``loss`` and ``candidates``.

    Args:
        backbone: returns the named maps that the neck reads.
        neck: turns them into named levels, with ``channels`` and ``levels``.
        head: turns the levels into logits and codes.
        anchors: the grid of horizontal anchors.
        assigner: decides which anchor learns which object.
        classes: the K class names.
        box_weight: weight of the box loss.
        score_threshold, nms_iou, max_detections: what ``decode`` keeps.
        mean, std: pixel statistics of the C channels, on the scale 0…255.

    Attributes:
        horizontal: whether its boxes are horizontal.
        class_layers: what the names of the layers begin with whose shape follows from the classes.
    """

    horizontal: ClassVar[bool] = False
    class_layers: ClassVar[tuple[str, ...]] = ("head.cls_out.",)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        anchors: AnchorGrid,
        assigner: MaxIoUAssigner,
        classes: Sequence[str],
        box_weight: float,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.anchors, self.assigner = anchors, assigner
        self.classes = tuple(classes)
        self.box_weight = box_weight
        self.score_threshold, self.nms_iou, self.max_detections = score_threshold, nms_iou, max_detections
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self._assigned: weakref.WeakKeyDictionary[Batch, Assignment] = weakref.WeakKeyDictionary()

    def learnt(self, targets: Targets) -> Targets:
        """What the anchors learn of the objects of an image."""
        return targets

    def box_terms(self, codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """The box losses (P,) of codes (P, D) at anchors (P, 5) for the boxes (P, 5) that they learn."""
        raise NotImplementedError

    def boxes_at(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """The le90 boxes (N, 5) that codes (N, D) at anchors (N, 5) mean."""
        raise NotImplementedError

    def dense(self, images: Tensor) -> Outputs:
        """Logits, codes and features, and nothing of a second stage: what a student learns from a teacher."""
        features = self.backbone(normalise(images, self.mean, self.std))
        levels = self.neck(features)
        logits, codes, named = self.head(levels)
        return Outputs(logits=logits, codes=codes, features={**features, **levels, **named})

    def forward(self, images: Tensor, targets: Sequence[Targets] | None = None) -> Outputs:  # noqa: ARG002
        """uint8 or float images (B, C, H, W) in 0…255 to per-level logits and codes, and the feature maps.

        Only two-stage detectors read ``targets``, from which they draw the regions to learn from.
        """
        return self.dense(images)

    def anchor_boxes(self, outputs: Outputs) -> Tensor:
        """(A, 5) anchors of all levels in the order of ``flatten_levels``."""
        return torch.cat(self.grids(outputs))

    def grids(self, outputs: Outputs) -> list[Tensor]:
        """The anchors (H·W·A, 5) of each level."""
        shapes = [(x.shape[-2], x.shape[-1]) for x in outputs.logits]
        return self.anchors.grids(shapes, outputs.logits[0].device)

    def assign(self, outputs: Outputs, batch: Batch) -> Assignment:
        """Which anchor learns what. Computed once a batch: the loss and a distiller ask for the same one."""
        return self._assign(batch, [(x.shape[-2], x.shape[-1]) for x in outputs.logits])

    def positives(self, batch: Batch) -> int:
        """How many anchors of a batch will be positive, which its images' size and targets alone decide."""
        height, width = batch.images.shape[-2:]
        strides = self.anchors.strides
        return self._assign(batch, [(-(-height // stride), -(-width // stride)) for stride in strides]).positives

    def _assign(self, batch: Batch, shapes: Sequence[tuple[int, int]]) -> Assignment:
        if batch not in self._assigned:
            check_targets(batch.targets, len(self.classes))
            anchors = torch.cat(self.anchors.grids(shapes, batch.images.device))
            self._assigned[batch] = self.assigner(anchors, [self.learnt(t) for t in batch.targets])
        return self._assigned[batch]

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
        box = self.box_terms(at_least_float32(codes), anchors, assignment.boxes)
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
        return self.boxes_at(self.anchor_boxes(outputs)[anchor], codes), scores[image, anchor, label], image, label

    @torch.no_grad()
    def decode(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Detections of each image in pixels of the network's input.

        Args:
            outputs: what ``forward`` returned.
            sizes: (B, 2) true heights and widths; a box whose centre lies in the padding is dropped.

        Raises:
            NumericError: an output is not finite.
        """
        if not outputs.finite().all():
            raise NumericError("not finite: outputs of the detector: its weights or the image are damaged: check both")
        boxes, scores, image, labels = self.candidates(outputs)
        counts = torch.bincount(image, minlength=len(sizes)).tolist()
        parts = (torch.split(x, counts) for x in (boxes, scores, labels))
        return [self._best(*row) for row in zip(*parts, sizes, strict=True)]

    def _best(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: Tensor) -> Detections:
        """The detections of one image among its candidates."""
        if len(scores) > self.max_detections:
            top = scores.topk(self.max_detections).indices
            boxes, scores, labels = boxes[top], scores[top], labels[top]
        inside = (boxes[:, :2] >= 0).all(dim=1) & (boxes[:, :2] <= size.flip(0)).all(dim=1)
        boxes, scores, labels = boxes[inside], scores[inside], labels[inside]
        keep = rotated_nms(boxes, scores, self.nms_iou, labels)
        height, width = size.tolist()
        return Detections(boxes[keep], scores[keep], labels[keep], self.classes, Frame(size=(height, width)))


def check_targets(targets: Sequence[Targets], classes: int) -> None:
    """Refuse targets that would be learnt as something else: boxes without area, labels without a class.

    Raises:
        DataError: there is one.
    """
    for target in targets:
        sound = target.boxes.isfinite().all(dim=1) & (target.boxes[:, 2:4] > 0).all(dim=1)
        known = target.ignore | ((target.labels >= 0) & (target.labels < classes))
        if not (sound & known).all():
            row = int((~(sound & known)).nonzero()[0])
            raise DataError(
                f"bad target: image {target.image_id}, object {row}: box {target.boxes[row].tolist()}, label "
                f"{int(target.labels[row])} of {classes} classes: boxes need finite positive sides"
            )
