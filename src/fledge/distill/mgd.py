"""Masked Generative Distillation (MGD), ECCV 2022.

Authors' code: yzd-v/MGD. https://arxiv.org/abs/2205.01529

A random part of the cells of the student's neck is blanked, and a generator of two 3×3 convolutions has to make the
teacher's whole map of the rest.

Differs from the paper:
- A 1×1 convolution only where the widths differ, one a level; a map of another size is resized to the teacher's.
- The mask depends on how many steps were taken and on the process, not on other random numbers: a resumed run goes on
  with the same masks. It is drawn outside training as well.
- Squares are summed over channels and cells and averaged over the images, as in the authors' code, so that the weight
  holds for 256 channels and images of about 800 pixels.

Published results (COCO, mAP, alone and distilled, students that inherit the teacher's head): RetinaNet R50 37.4 and
41.0, Faster R-CNN 38.4 and 42.1, RepPoints 38.6 and 42.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fledge.distill.parts.levels import Adapters
from fledge.distributed import rank
from fledge.types import Batch, Outputs

_PROCESSES = 1_000_003  # apart, so that no two processes meet the same masks


def generation_loss(generated: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of two maps (B, C, H, W), summed over all but the images, averaged over these."""
    return (generated - teacher).square().sum() / len(teacher)


def random_cells(shape: tuple[int, int, int], masked: float, generator: torch.Generator) -> Tensor:
    """(B, 1, H, W) of ``shape`` (B, H, W): 0 with the probability ``masked``, else 1."""
    images, height, width = shape
    return (torch.rand(images, 1, height, width, generator=generator) >= masked).float()


class MGD(nn.Module):
    """The generation term, summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps.
        weight: of the term.
        masked: share of the cells that are blanked.
    """

    count: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        weight: float = 2e-5,
        masked: float = 0.65,
    ) -> None:
        super().__init__()
        self.weights, self.masked = {"kd_mgd": weight}, masked
        self.adapters = Adapters(levels, student_channels, teacher_channels)
        self.generators = nn.ModuleDict({name: _generator(teacher_channels) for name in levels})
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted term ``kd_mgd``; every call in training draws other masks."""
        dice = torch.Generator().manual_seed(int(self.count) + _PROCESSES * rank())
        if self.training:
            self.count += 1
        losses = []
        for name, (own, other) in self.adapters(student, teacher).items():
            seen = random_cells((len(own), own.shape[2], own.shape[3]), self.masked, dice).to(own)
            losses.append(generation_loss(self.generators[name](own * seen), other))
        return {"kd_mgd": self.weights["kd_mgd"] * torch.stack(losses).sum()}


def _generator(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )
