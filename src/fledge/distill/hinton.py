"""Distilling the Knowledge in a Neural Network (Hinton KD), arXiv 2015, and its forms for dense detectors.

Hinton et al. https://arxiv.org/abs/1503.02531 (the quality-focal form: CrossKD, https://arxiv.org/abs/2306.11369)

The student's class scores imitate the teacher's, anchor by anchor.

Differs from the paper:
- A dense detector's scores are sigmoids, without a score for the background, so a softmax over them (`hinton_form =
  "softmax"`, the paper's) says nothing about whether there is an object. `"bernoulli"` compares each class apart, and
  `"quality_focal"`, the default, weighs the cross entropy by how far the student's score is from the teacher's.
- The first two are taken on the student's positive anchors, since 100 000 of background would drown them, and are
  multiplied by the square of the temperature; the third on all anchors that count, without a temperature. All are
  divided by the positives. For other choices of anchors see KD-RNet.
- The teacher's scores are added to the loss of the labels; the paper mixes the two.

Published results: the paper has none for detection. Inside CrossKD the quality-focal form on the student's own head is
the baseline; the whole of CrossKD (COCO, mAP, alone and distilled) brings RetinaNet R50 from 37.4 to 39.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.distill.kd_rnet import class_divergence
from fledge.distill.parts.levels import check_same_grid
from fledge.distill.parts.quality_focal import quality_focal
from fledge.distributed import share_of_positives
from fledge.types import Batch, Outputs, at_least_float32, flatten_levels

Form = Literal["softmax", "bernoulli", "quality_focal"]


class Hinton(nn.Module):
    """The score term ``kd_hinton``.

    Args:
        assign: the student's assignment of a batch, so that it is computed once.
        classes: number of classes K; with one class the softmax form is refused.
        weight: of the term.
        form: ``softmax``, ``bernoulli`` or ``quality_focal``.
        temperature: divides the logits in the first two forms.
    """

    def __init__(
        self,
        assign: Callable[[Outputs, Batch], Assignment],
        classes: int,
        weight: float = 1.0,
        form: Form = "quality_focal",
        temperature: float = 2.0,
    ) -> None:
        super().__init__()
        if classes == 1 and form == "softmax":
            raise ValueError("the softmax over one class is constant: use form='bernoulli'")
        self.assign, self.form, self.temperature = assign, form, temperature
        self.weights = {"kd_hinton": weight}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted term; zero with a gradient where there is nothing to learn from."""
        check_same_grid("Hinton KD", student, teacher, codes=False)
        assignment = self.assign(student, batch)
        chosen = assignment.valid if self.form == "quality_focal" else assignment.positive
        own = at_least_float32(flatten_levels(student.logits)[chosen])
        other = at_least_float32(flatten_levels(teacher.logits)[chosen]).detach()
        loss = self._losses(own, other).sum() / share_of_positives(assignment.positives, own.device)
        return {"kd_hinton": self.weights["kd_hinton"] * loss}

    def _losses(self, own: Tensor, other: Tensor) -> Tensor:
        if self.form == "quality_focal":
            return quality_focal(own, other)
        probability: Literal["softmax", "sigmoid"] = "softmax" if self.form == "softmax" else "sigmoid"
        divergences = class_divergence(own, other, self.temperature, probability, "teacher_student")
        return self.temperature**2 * divergences
