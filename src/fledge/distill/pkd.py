"""PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient, NeurIPS 2022.

Weihan Cao, Yifan Zhang, Jianfei Gao, Anda Cheng, Ke Cheng, Jian Cheng. https://arxiv.org/abs/2207.02039

The student's neck maps imitate the teacher's after each channel of both is brought to mean 0 and deviation 1, so that
only the pattern counts: the squared error is then one minus the Pearson correlation.

Differs from the paper:
- A map with another number of channels than the teacher's goes through a 1×1 convolution, one a level (the paper needs
  equal widths); one of another size is resized to the teacher's.
- Levels P3 to P6, as its RetinaNet; the coarsest map has too few cells for a deviation.

Published results (COCO, mAP, alone and distilled): RetinaNet R50 from X101 37.4 and 40.8, Faster R-CNN R50 from R101
38.4 and 40.3, RepPoints 38.6 and 42.3. None on oriented boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters
from fledge.types import Batch, Outputs, at_least_float32

LEVELS = ("p3", "p4", "p5", "p6")
_EPS = 1e-6


def standardised(x: Tensor) -> Tensor:
    """Each channel of a map (B, C, H, W) with mean 0 and deviation 1 over batch and place; at least float32.

    The deviation is that of n - 1, and 1e-6 larger, as in the paper's code; a constant channel becomes 0.
    """
    x = at_least_float32(x)
    deviation, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True, correction=min(1, x[:, 0].numel() - 1))
    return (x - mean) / (deviation + _EPS)


def pearson_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of two standardised maps (B, C, H, W): (n - 1) / n times one minus their mean
    correlation, n = B·H·W. Scale and shift of a channel do not matter.
    """
    return F.mse_loss(standardised(student), standardised(teacher)) / 2


class PKD(nn.Module):
    """The feature term of PKD, summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks; a 1×1 convolution a level goes between if they differ.
        weight: of the term.
        levels: names of the maps.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, weight: float = 10.0, levels: Sequence[str] = LEVELS
    ) -> None:
        super().__init__()
        self.weights = {"kd_pkd": weight}
        self.adapters = Adapters(levels, student_channels, teacher_channels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted term ``kd_pkd``."""
        losses = [pearson_loss(own, other) for own, other in self.adapters(student, teacher).values()]
        return {"kd_pkd": self.weights["kd_pkd"] * torch.stack(losses).sum()}
