"""FitNets: Hints for Thin Deep Nets, ICLR 2015.

Romero et al. https://arxiv.org/abs/1412.6550

The student's neck maps, each after a 1×1 convolution of its own, imitate the teacher's by their mean squared error.

Differs from the paper:
- One stage instead of two: the hint is a term beside the detector's losses from the first step on, as in all uses for
  detection.
- The hints are the pyramid levels that both detectors have, summed; the paper has one hint in the middle of a
  classifier.
- The convolution is there although the widths agree, one a level.

Published results: the paper has none for detection. As the baseline of IFKD (RetinaNet, R50 to MobileNetV2, mAP alone
and distilled): SAR-AIRcraft-1.0 53.3 and 52.6, ShipRSImageNet 40.6 and 41.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters
from fledge.types import Batch, Outputs


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps (B, C, H, W)."""
    return F.mse_loss(student, teacher)


class FitNet(nn.Module):
    """The hint term, summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps.
        weight: of the term.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, levels: Sequence[str], weight: float = 1.0
    ) -> None:
        super().__init__()
        self.weights = {"kd_fitnet": weight}
        self.adapters = Adapters(levels, student_channels, teacher_channels, always=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted term ``kd_fitnet``."""
        losses = [hint_loss(own, other) for own, other in self.adapters(student, teacher).values()]
        return {"kd_fitnet": self.weights["kd_fitnet"] * torch.stack(losses).sum()}
