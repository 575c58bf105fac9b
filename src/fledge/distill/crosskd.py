"""CrossKD: Cross-Head Knowledge Distillation for Dense Object Detection, CVPR 2024.

https://arxiv.org/abs/2306.11369

The student's features from the middle of its head, brought to the teacher's mean and deviation in each channel, run
through the rest of the teacher's frozen head; what comes out imitates the teacher's own predictions, so that the
student's last layers are left to the labels alone.

Differs from the paper:
- The tap is counted from the end: `crosskd_rest` convolutions of the teacher's head follow it (the paper's third of
  four: 1). Where the heads differ in depth each is tapped so; with as many as a head has, it is the pyramid itself.
- Maps of another width go through a 1×1 convolution, one for each stack, shared by the levels like the head (the paper
  needs equal widths).
- The box term compares decoded boxes by KLD (`crosskd_box_loss`): unlike their exact IoU (`"rotated_iou"`) it has a
  gradient where oriented boxes do not overlap, but it cannot tell how a square is turned. The paper's GIoU (`"giou"`)
  is that of the horizontal hulls, so it is for horizontal boxes. Weighted by the teacher's best score of each anchor,
  as for the paper's RetinaNet; a head with `box_bins` is treated alike.
- Both sums run over all anchors, ignored ones too, and are divided by the positives of the step.

Published results (COCO, mAP, alone and distilled): GFL R50 40.2 and 43.7, RetinaNet 37.4 and 39.7, FCOS 38.5 and 41.3,
ATSS 39.4 and 41.8. None on oriented boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.distill.parts.levels import check_same_grid
from fledge.distill.parts.quality_focal import quality_focal
from fledge.distributed import share_of_positives
from fledge.types import Batch, Outputs, at_least_float32, flatten_levels

STACKS = ("cls_stack", "box_stack")
_EPS = 1e-6

Pair = Callable[[Tensor, Tensor], Tensor]
Finish = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's map (B, C, H, W) with the teacher's mean and deviation in each channel, over batch and place.

    At least float32; no gradient to the teacher. A constant channel becomes the teacher's mean.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher).detach()
    correction = min(1, student[:, 0].numel() - 1)
    deviation, mean = torch.std_mean(student, dim=(0, 2, 3), keepdim=True, correction=correction)
    wanted, middle = torch.std_mean(teacher, dim=(0, 2, 3), keepdim=True, correction=correction)
    return (student - mean) / (deviation + _EPS) * wanted + middle


class CrossKD(nn.Module):
    """The two terms of CrossKD, on the maps ``cls_stack.p3`` … and ``box_stack.p3`` … of both heads.

    Args:
        assign: the student's assignment of a batch, whose positives divide.
        anchor_boxes: of the student: (A, 5) in the order of ``flatten_levels``.
        boxes_at: anchors (..., 5) and codes (..., D) to boxes (..., 5).
        box_loss: predicted and wanted boxes (N, 5) to (N,) losses.
        finish: the rest of the teacher's head: one level's maps of both stacks to logits and codes. Its weights are
            frozen by whoever owns it; gradients pass through.
        student_channels, teacher_channels: of the heads.
        cls_weight, box_weight: of the terms.
        levels: of the heads, in the order of the outputs.
    """

    def __init__(
        self,
        assign: Callable[[Outputs, Batch], Assignment],
        anchor_boxes: Callable[[Outputs], Tensor],
        boxes_at: Pair,
        box_loss: Pair,
        finish: Finish,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        cls_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.assign, self.anchor_boxes, self.boxes_at, self.box_loss = assign, anchor_boxes, boxes_at, box_loss
        self.finish, self.levels = finish, tuple(levels)
        self.weights = {"kd_cross_cls": cls_weight, "kd_cross_box": box_weight}
        same = student_channels == teacher_channels
        self.adapters = nn.ModuleDict(
            {s: nn.Identity() if same else nn.Conv2d(student_channels, teacher_channels, 1) for s in STACKS}
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms ``kd_cross_cls`` and ``kd_cross_box``."""
        check_same_grid("CrossKD", student, teacher)
        crossed = [self.finish(*(self._map(f"{s}.{n}", student, teacher) for s in STACKS)) for n in self.levels]
        logits, codes = (at_least_float32(flatten_levels(x)) for x in zip(*crossed, strict=True))
        wanted = at_least_float32(flatten_levels(teacher.logits)).detach()
        anchors = self.anchor_boxes(student).expand(len(codes), -1, -1)
        boxes = self.boxes_at(anchors, at_least_float32(flatten_levels(teacher.codes)).detach())
        box = self.box_loss(self.boxes_at(anchors, codes).flatten(0, 1), boxes.flatten(0, 1))
        divisor = share_of_positives(self.assign(student, batch).positives, box.device)
        terms = {
            "kd_cross_cls": quality_focal(logits, wanted).sum() / divisor,
            "kd_cross_box": (wanted.sigmoid().amax(dim=2).flatten() * box).sum() / divisor,
        }
        return {name: self.weights[name] * value for name, value in terms.items()}

    def _map(self, name: str, student: Outputs, teacher: Outputs) -> Tensor:
        """The student's map as the teacher's head takes it."""
        adapter = self.adapters[name.partition(".")[0]]
        return aligned(adapter(at_least_float32(student.features[name])), teacher.features[name])
