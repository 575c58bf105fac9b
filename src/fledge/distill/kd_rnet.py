"""Knowledge Distillation for Oriented Object Detection on Aerial Images (KD-RNet), arXiv 2022.

Yicheng Xiao, Junpeng Zhang. https://arxiv.org/abs/2206.09796

A rotated RetinaNet student learns from the teacher's class distribution (KL divergence) and box deltas (smooth L1) at
every anchor, beside its own focal and KLD losses.

Differs from the paper:
- The weights of the two terms are not printed; both default to 1.
- No equation contains the temperatures 8 and 10; they divide the class logits and the box deltas (`kd_box_temperature`
  = 1: none). The class term is not multiplied by the square of its temperature, as is usual elsewhere: its weight is
  free anyway (`kd_squared_temperature` does it).
- The anchors are not named: class distillation uses all anchors that are not ignored (`kd_anchors = "positive"`: the
  positives), box distillation the positives of the student's own assignment; both sums are divided by the number of
  positives.
- Equation 2 is kept as printed, KL(student || teacher), the reverse of the usual (`kd_direction`), with a softmax over
  the classes although the detector's scores are sigmoids (`kd_probability`).
- The angle difference is wrapped to [-pi/2, pi/2).
- With one class a softmax is constant; the sigmoid form is then used.
- Detector and schedule are hardly described; the recipes take MMRotate's. The paper's "Param" column is the size of a
  checkpoint in MB: networks of this layout have 36.6, 30.2 and 20.1 M parameters.

Published results (DOTA-v1.0, AP50 / AP75 / AP50:95, single runs): teacher R50 71.47 / 37.44 / 39.06; R34 alone
70.20 / 34.08 / 37.51, distilled 70.45 / 36.70 / 38.54, with the class term only 70.20 AP50; R18 alone
68.37 / 35.68 / 37.61, distilled 68.27 / 35.85 / 37.32. AP50 on training and test images: R34 alone 82.54 and 70.20,
distilled 81.75 and 70.45.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.assign.max_iou import Assignment
from fledge.distill.parts.levels import check_same_grid
from fledge.distributed import share_of_positives
from fledge.types import Batch, Outputs, at_least_float32, flatten_levels

Anchors = Literal["valid", "positive"]
Probability = Literal["softmax", "sigmoid"]
Direction = Literal["student_teacher", "teacher_student"]


def class_divergence(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 8.0,
    probability: Probability = "softmax",
    direction: Direction = "student_teacher",
) -> Tensor:
    """Equation 2: Kullback-Leibler divergence between the two class distributions of each anchor.

    Args:
        student: (N, K) raw logits.
        teacher: (N, K) raw logits.
        temperature: divides both.
        probability: ``softmax`` over the K classes, or ``sigmoid``: a sum of K Bernoulli divergences.
        direction: ``student_teacher`` is KL(student || teacher) as printed, ``teacher_student`` is Hinton's.

    Returns:
        (N,) divergences, at least 0.
    """
    if direction == "teacher_student":
        student, teacher = teacher, student
    s, t = student / temperature, teacher / temperature
    if probability == "softmax":
        log_s, log_t = F.log_softmax(s, dim=1), F.log_softmax(t, dim=1)
        return (log_s.exp() * (log_s - log_t)).sum(dim=1)
    on = s.sigmoid() * (F.logsigmoid(s) - F.logsigmoid(t))
    off = (-s).sigmoid() * (F.logsigmoid(-s) - F.logsigmoid(-t))
    return (on + off).sum(dim=1)


def box_difference(student: Tensor, teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """Equation 3: smooth L1 (beta 1) between the two sets of deltas, each divided by the temperature.

    Args:
        student: (N, 5) predicted deltas, the last one an angle in radians.
        teacher: (N, 5) predicted deltas.
        temperature: divides the difference, after the angle's part is wrapped to [-pi/2, pi/2).

    Returns:
        (N,) sums over the five deltas.
    """
    difference = student - teacher
    turn = difference[:, 4:]
    turn = turn - math.pi * torch.floor(turn.detach() / math.pi + 0.5)
    scaled = torch.cat([difference[:, :4], turn], dim=1) / temperature
    return F.smooth_l1_loss(scaled, torch.zeros_like(scaled), reduction="none").sum(dim=1)


class KDRNet(nn.Module):
    """The distillation terms of KD-RNet (equation 1, the third and fourth).

    Args:
        assign: the student's assignment of a batch, so that it is computed once.
        classes: number of classes K; with one class ``probability`` must be ``sigmoid``.
        cls_weight: lambda 3.
        box_weight: lambda 4.
        temperature: of the class logits.
        box_temperature: of the box deltas.
        probability, direction: see ``class_divergence``.
        squared_temperature: multiply the class term by the square of its temperature, which keeps its gradient about
            as large at every temperature.
        anchors: where classes are distilled, on all ``valid`` anchors or on the ``positive`` ones.
    """

    def __init__(
        self,
        assign: Callable[[Outputs, Batch], Assignment],
        classes: int,
        cls_weight: float = 1.0,
        box_weight: float = 1.0,
        temperature: float = 8.0,
        box_temperature: float = 10.0,
        probability: Probability = "softmax",
        direction: Direction = "student_teacher",
        squared_temperature: bool = False,
        anchors: Anchors = "valid",
    ) -> None:
        super().__init__()
        if classes == 1 and probability == "softmax":
            raise ValueError("the softmax over one class is constant: use probability='sigmoid'")
        self.assign = assign
        self.cls_weight, self.box_weight = cls_weight, box_weight
        self.temperature, self.box_temperature = temperature, box_temperature
        self.probability, self.direction = probability, direction
        self.cls_scale = temperature**2 if squared_temperature else 1.0
        self.weights = {"kd_cls": cls_weight, "kd_box": box_weight}
        self.anchors = anchors

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms ``kd_cls`` and ``kd_box``; zero with a gradient where there is nothing to learn from."""
        check_same_grid("KD-RNet", student, teacher)
        assignment = self.assign(student, batch)
        chosen = assignment.valid if self.anchors == "valid" else assignment.positive
        cls = class_divergence(
            _rows(student.logits, chosen),
            _rows(teacher.logits, chosen).detach(),
            self.temperature,
            self.probability,
            self.direction,
        )
        box = box_difference(
            _rows(student.codes, assignment.positive),
            _rows(teacher.codes, assignment.positive).detach(),
            self.box_temperature,
        )
        divisor = share_of_positives(assignment.positives, cls.device)
        return {
            "kd_cls": self.cls_weight * self.cls_scale * cls.sum() / divisor,
            "kd_box": self.box_weight * box.sum() / divisor,
        }


def _rows(levels: tuple[Tensor, ...], chosen: Tensor) -> Tensor:
    """The values (N, K or 5) of the anchors chosen by a mask (B, A), at least float32."""
    return at_least_float32(flatten_levels(levels)[chosen])
