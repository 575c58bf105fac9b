"""Adaptive Reinforcement Supervision Distillation (ARSD) for remote sensing object detection, TGRS 2022.

Yang et al. https://doi.org/10.1109/TGRS.2022.3175213 (authors' code: youngfly/Remote-Sensing-Distillation)

Inside labelled objects, small ones weighing more, and for each only at the pyramid level of its size, the student's
neck and class logits imitate the teacher's (MCFI); where the teacher's box is better than the student's, which is
better than the anchor, the student's box imitates it (SSRD).

Differs from the paper:
- An object is the cells whose centres lie in its oriented box, at least one; a cell of several objects has the largest
  of their weights. Ignored objects do not count.
- The released code rounds the weights down to 1 and puts each image's mask on all images of the batch. Here they are as
  described (`arsd_area_weight = false`: 1), and a mask stays with its image.
- Boxes are compared by one minus the rotated IoU instead of GIoU, whose loss weighs 2 in the authors' code (hence 0.2
  for their 0.1), each by the centredness of its anchor in the object, divided by the positives.
- Squared differences are summed over the channels, or anchors and classes, and divided by twice a level's weights
  plus 1.
- The authors distil ATSS of half the width; here it is the student's own detector, whose anchors and classes must be
  the teacher's. A 1×1 convolution a level, though the widths agree.

Published results: not available. As the baseline of IFKD (RetinaNet, R50 to MobileNetV2, mAP alone and distilled):
SAR-AIRcraft-1.0 53.3 and 52.6, ShipRSImageNet 40.6 and 43.8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.distill.parts.levels import Adapters, check_same_grid
from fledge.distill.parts.masks import largest_weights, stride_of
from fledge.distributed import share_of_positives
from fledge.geometry.iou import rotated_iou
from fledge.losses.rotated_iou import rotated_iou_loss
from fledge.types import Batch, Outputs, Targets, at_least_float32, flatten_levels

TERMS = ("kd_arsd_feat", "kd_arsd_cls", "kd_arsd_box")
WEIGHTS = dict(zip(TERMS, (0.01, 0.01, 0.2), strict=True))


def level_and_weight(boxes: Tensor, size: tuple[int, int], levels: int = 5) -> tuple[Tensor, Tensor]:
    """Where in the pyramid an object is imitated, and how much.

    Args:
        boxes: (N, 5), pixels.
        size: (H, W) of the image.
        levels: how many there are.

    Returns:
        (N,) int64 index of the level, one more for each doubling of an object's size; (N,) weights from 2 for the
        smallest to 1 + exp(-2) for one that fills the image.
    """
    share = (boxes[:, 2] * boxes[:, 3]).sqrt() / (size[0] * size[1]) ** 0.5
    level = (4 + share.clamp(min=1e-9).log2()).floor().clamp(0, levels - 1).long()
    return level, 1 + (-2 * share).exp()


def masked_squares(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared differences of two maps (B, C, H, W), weighed by (B, H, W), over twice the sum of the weights plus 1."""
    squares = (student - teacher).square().sum(dim=1)
    return (squares * mask).sum() / (2 * mask.sum() + 1)


def centredness(points: Tensor, boxes: Tensor) -> Tensor:
    """FCOS's centre-ness of points (N, 2) in oriented boxes (N, 5): 1 in the centre, 0 on the edge and outside."""
    x, y = (points - boxes[:, :2]).unbind(dim=1)
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    offset = torch.stack([x * cos + y * sin, y * cos - x * sin], dim=1).abs()
    half = boxes[:, 2:4] / 2
    return ((half - offset).clamp(min=0) / (half + offset).clamp(min=1e-9)).prod(dim=1).sqrt()


def better_boxes(student: Tensor, teacher: Tensor, anchors: Tensor, objects: Tensor) -> Tensor:
    """(P,) bool: where IoU with the object is larger for the teacher's box than for the student's, and for this than
    for the anchor; all (P, 5).
    """
    first, second, third = (rotated_iou(x.detach(), objects, aligned=True) for x in (teacher, student, anchors))
    return (first > second) & (second > third)


class ARSD(nn.Module):
    """The terms ``kd_arsd_feat``, ``kd_arsd_cls`` (both summed over the levels) and ``kd_arsd_box``.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps, in the order of the detectors' logits.
        assign: the student's assignment of a batch, so that it is computed once.
        anchor_boxes: the student's anchors (A, 5) for its outputs.
        boxes_at: boxes (P, 5) that codes (P, D) at anchors (P, 5) mean.
        weights: of the terms.
        area_weight: small objects weigh more; otherwise all weigh 1.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        assign: Callable[[Outputs, Batch], Assignment],
        anchor_boxes: Callable[[Outputs], Tensor],
        boxes_at: Callable[[Tensor, Tensor], Tensor],
        weights: Mapping[str, float] = WEIGHTS,
        area_weight: bool = True,
    ) -> None:
        super().__init__()
        self.assign, self.anchor_boxes, self.boxes_at = assign, anchor_boxes, boxes_at
        self.weights, self.area_weight = dict(weights), area_weight
        self.adapters = Adapters(levels, student_channels, teacher_channels, always=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms; zero with a gradient where there is nothing to learn from."""
        check_same_grid("ARSD", student, teacher)
        size = (batch.images.shape[2], batch.images.shape[3])
        logits = zip(student.logits, teacher.logits, strict=True)
        features, scores = [], []
        for number, ((name, maps), z) in enumerate(zip(self.adapters(student, teacher).items(), logits, strict=True)):
            shape = (maps[0].shape[2], maps[0].shape[3])
            rows = [self._weights_of(t, number, shape, stride_of(name), size) for t in batch.targets]
            mask = torch.stack(rows).to(maps[0].dtype)
            features.append(masked_squares(maps[0], maps[1], mask))
            own, other = (at_least_float32(x).flatten(1, 2) for x in z)
            scores.append(masked_squares(own, other.detach(), mask))
        terms = (torch.stack(features).sum(), torch.stack(scores).sum(), self._box(student, teacher, batch))
        return {term: self.weights[term] * value for term, value in zip(TERMS, terms, strict=True)}

    def _weights_of(
        self, targets: Targets, level: int, shape: tuple[int, int], stride: float, size: tuple[int, int]
    ) -> Tensor:
        """(H, W) weights of an image's cells at a level."""
        boxes = targets.boxes[~targets.ignore]
        own, weights = level_and_weight(boxes, size, len(self.adapters.convs))
        here = own == level
        weights = weights if self.area_weight else torch.ones_like(weights)
        return largest_weights(boxes[here], weights[here], shape, stride)

    def _box(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assignment = self.assign(student, batch)
        anchors = self.anchor_boxes(student)[assignment.positive.nonzero()[:, 1]]
        own, other = (
            self.boxes_at(anchors, at_least_float32(flatten_levels(x.codes)[assignment.positive]))
            for x in (student, teacher)
        )
        chosen = better_boxes(own, other, anchors, assignment.boxes)
        weights = centredness(anchors[chosen, :2], assignment.boxes[chosen])
        losses = weights * rotated_iou_loss(own[chosen], other[chosen].detach())
        return losses.sum() / share_of_positives(assignment.positives, losses.device)
