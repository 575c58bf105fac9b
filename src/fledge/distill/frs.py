"""FRS: Distilling Object Detectors with Feature Richness, NeurIPS 2021.

Zhixing Du, Rui Zhang, Ming Chang, Xishan Zhang, Shaoli Liu, Tianshi Chen. https://arxiv.org/abs/2111.00674

The student imitates the teacher's neck maps and class scores, each cell weighted by its richness: the best score of any
class there, as the teacher sees it. No box is needed, so oriented ones make no difference.

Differs from the paper:
- The class term is reported less its floor, the cross entropy of the teacher with itself: 0 where student and teacher
  agree. The gradient is the same.
- The student's head runs once, for task and distillation, and cross entropies are computed from logits.
- Maps of another size are resized to the teacher's. Heads must agree in anchors and classes.
- In several processes the richness of all images divides, as if they were one batch; in the published code, of its own.

Published results (COCO, mAP of R50 students, alone and distilled): RetinaNet 37.4 and 39.7, Faster R-CNN 37.4 and 39.5,
FCOS 38.5 and 40.9, GFL 40.2 and 43.6. None on oriented boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters, Ramp, check_same_grid, logits_by_level
from fledge.distributed import mean_over_processes
from fledge.types import Batch, Outputs, at_least_float32

_LEAST = 1e-6  # that a sum of masks counts for


def richness(logits: Tensor) -> Tensor:
    """The feature richness mask of a level.

    Args:
        logits: (B, …, H, W) of the teacher: anchors and classes, in any number of dimensions.

    Returns:
        (B, 1, H, W) best score of each cell in [0, 1], at least float32, without a gradient.
    """
    return at_least_float32(logits.detach()).flatten(1, -3).amax(dim=1, keepdim=True).sigmoid()


def weighted_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The sum of values (B, C, H, W) times the mask (B, 1, H, W), over the sum of the mask: channels are added up.

    Only the mask's proportions count, unless it is next to 0 everywhere. Of several processes the mean is that of all
    their places, as one batch would give it.
    """
    total = mean_over_processes(mask.sum()).clamp(min=_LEAST)
    return (values.sum(dim=1, keepdim=True) * mask).sum() / total


def feature_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of two maps (B, C, H, W) at the cells of a mask (B, 1, H, W)."""
    return weighted_mean((student - teacher).square(), mask)


def score_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of the student's scores with the teacher's, both as logits (B, …, H, W), at the cells of a
    mask (B, 1, H, W). Its least value, at equal logits, is the entropy of the teacher's scores.
    """
    return weighted_mean(_cross_entropy(student, teacher.detach()), mask)


def score_excess(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """``score_loss`` less its least value."""
    teacher = teacher.detach()
    return weighted_mean(_cross_entropy(student, teacher) - _cross_entropy(teacher, teacher), mask)


def _cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, C, H, W) of logits (B, …, H, W), at least float32."""
    student, teacher = (at_least_float32(x).flatten(1, -3) for x in (student, teacher))
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")


class FRS(nn.Module):
    """The feature and the class term of FRS, each summed over the levels.

    Args:
        levels: names of the maps.
        student_channels, teacher_channels: of the necks; a 3×3 convolution a level goes between in any case.
        feat_weight: of the feature term.
        cls_weight: of the class term.
        ramp_steps: over which both weights rise from 0.
    """

    def __init__(
        self,
        levels: Sequence[str],
        student_channels: int,
        teacher_channels: int,
        feat_weight: float = 0.005,
        cls_weight: float = 0.02,
        ramp_steps: int = 500,
    ) -> None:
        super().__init__()
        self.weights = {"kd_feat": feat_weight, "kd_cls": cls_weight}
        self.adapters = Adapters(levels, student_channels, teacher_channels, kernel=3, always=True)
        self.ramp = Ramp(ramp_steps)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms ``kd_feat`` and ``kd_cls``."""
        check_same_grid("FRS", student, teacher, codes=False)
        own, other = logits_by_level(student), logits_by_level(teacher)
        feat, cls = [], []
        for name, (imitation, target) in self.adapters(student, teacher).items():
            mask = richness(other[name])
            feat.append(feature_loss(imitation, target, mask))
            cls.append(score_excess(own[name], other[name], mask))
        factor = self.ramp()
        sums = {"kd_feat": torch.stack(feat).sum(), "kd_cls": torch.stack(cls).sum()}
        return {name: self.weights[name] * factor * value for name, value in sums.items()}
