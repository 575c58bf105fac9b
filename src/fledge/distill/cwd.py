"""Channel-wise Knowledge Distillation for Dense Prediction (CWD), ICCV 2021.

https://arxiv.org/abs/2011.13256

Every channel of a neck map is a distribution over the places of an image (a softmax); the student's imitate the
teacher's by the Kullback-Leibler divergence.

Differs from the paper:
- The maps are the pyramid levels that both detectors have, summed; the paper's are those of segmentation networks.
- A 1×1 convolution only where the widths differ, one a level; a map of another size is resized to the teacher's.
- `cwd_standardised` brings each channel of both maps to mean 0 and deviation 1 first, which makes one temperature fit
  all maps; RTMDet distils in this form.

Published results (COCO, mAP, alone and distilled, MMRazor's port): GFL R50 from R101 40.2 and 41.9. In the standardised
form: RTMDet tiny 41.0 and 41.8, s 44.6 and 45.7, m 49.3 and 50.2, l 51.4 and 52.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters
from fledge.distill.pkd import standardised
from fledge.types import Batch, Outputs


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Equation 4: KL(teacher || student) of each channel over the places, times the squared temperature; their mean.

    Args:
        student, teacher: maps (B, C, H, W); a constant added to a channel does not matter.
        temperature: divides both.
    """
    own = (student.flatten(2) / temperature).log_softmax(dim=2)
    other = (teacher.flatten(2) / temperature).log_softmax(dim=2)
    divergence = F.kl_div(own, other, reduction="sum", log_target=True)
    return temperature**2 * divergence / own[..., 0].numel()


class CWD(nn.Module):
    """The channel term, summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps.
        weight: of the term.
        temperature: of the softmax.
        standardise: bring each channel to mean 0 and deviation 1 over the batch first.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        weight: float = 1.0,
        temperature: float = 1.0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {"kd_cwd": weight}
        self.temperature, self.standardise = temperature, standardise
        self.adapters = Adapters(levels, student_channels, teacher_channels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted term ``kd_cwd``."""
        maps = list(self.adapters(student, teacher).values())
        if self.standardise:
            maps = [(standardised(own), standardised(other)) for own, other in maps]
        losses = [channel_divergence(own, other, self.temperature) for own, other in maps]
        return {"kd_cwd": self.weights["kd_cwd"] * torch.stack(losses).sum()}
