"""Knowledge Distillation for Oriented Object Detection on Aerial Images (KD-RNet), arXiv 2022.

Yicheng Xiao, Junpeng Zhang. https://arxiv.org/abs/2206.09796

A rotated RetinaNet student learns from the teacher's class distribution (KL divergence) and box deltas (smooth L1) at
every anchor, beside its own focal and KLD losses.

Differs from the paper:
- The weights of the two terms are not printed; both default to 1.
- No equation contains the temperatures 8 and 10; they divide the class logits and the box deltas.
- The anchors are not named: class distillation uses all anchors that are not ignored, box distillation the positives
  of the student's own assignment; both sums are divided by the number of positives.
- The angle difference is wrapped to [-pi/2, pi/2).
- With one class a softmax is constant; the sigmoid form is then used.

Published results (DOTA-v1.0, AP50 / AP75 / AP50:95, single runs): teacher R50 71.47 / 37.44 / 39.06; R34 alone
70.20 / 34.08 / 37.51, distilled 70.45 / 36.70 / 38.54; R18 alone 68.37 / 35.68 / 37.61, distilled
68.27 / 35.85 / 37.32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.assign.max_iou import Assignment
from fledge.types import Batch, Outputs, flatten_levels

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
    ) -> None:
        super().__init__()
        if classes == 1 and probability == "softmax":
            raise ValueError("the softmax over one class is constant: use probability='sigmoid'")
        self.assign = assign
        self.cls_weight, self.box_weight = cls_weight, box_weight
        self.temperature, self.box_temperature = temperature, box_temperature
        self.probability, self.direction = probability, direction

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms ``kd_cls`` and ``kd_box``; zero with a gradient where there is nothing to learn from."""
        assignment = self.assign(student, batch)
        positives = max(assignment.positives, 1)
        pairs = [(flatten_levels(s), flatten_levels(t)) for s, t in _layers(student, teacher)]
        (s_logits, t_logits), (s_codes, t_codes) = pairs
        cls = class_divergence(
            s_logits[assignment.valid].float(),
            t_logits[assignment.valid].float(),
            self.temperature,
            self.probability,
            self.direction,
        )
        box = box_difference(
            s_codes[assignment.positive].float(), t_codes[assignment.positive].float(), self.box_temperature
        )
        return {
            "kd_cls": self.cls_weight * cls.sum() / positives,
            "kd_box": self.box_weight * box.sum() / positives,
        }


def _layers(student: Outputs, teacher: Outputs) -> list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Logits and codes of both, after a check that their grids, anchors and classes agree."""
    for name, s, t in (("logits", student.logits, teacher.logits), ("codes", student.codes, teacher.codes)):
        if [x.shape for x in s] != [x.shape for x in t]:
            raise ValueError(
                f"KD-RNet needs the same grid, anchors and classes: {name}: student {[tuple(x.shape) for x in s]}, "
                f"teacher {[tuple(x.shape) for x in t]}"
            )
    return [(student.logits, teacher.logits), (student.codes, teacher.codes)]
