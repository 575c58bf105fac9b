"""Focal and Global Knowledge Distillation for Detectors (FGD), CVPR 2022.

Authors' code: yzd-v/FGD. https://arxiv.org/abs/2111.11837

The student's neck imitates the teacher's in and around labelled objects apart, each cell and channel as much as the
teacher attends to it (focal), and in the relations between cells (global); its attention imitates the teacher's.

Differs from the paper:
- An object is the cells whose centres lie inside its oriented box, at least one; the authors round a horizontal box
  outwards, which triples a small object and fills a slanting ship's with sea. The weight of a cell is one over the
  number of its smallest object's cells.
- Ignored objects are background, as cells without a label are.
- "Inheriting", the teacher's head and neck as the student's start, which most published gains contain, is the recipe's
  `inherit`, off.
- A 1×1 convolution only where the widths differ, one a level; a map of another size is resized to the teacher's.
- The teacher's relation block learns, and could fool the student. Measured on random maps, with nothing but the
  method's modules learning for 200 steps, the global term falls to 0.99 of its start.

Published results (COCO, mAP, alone and distilled, students that inherit): RetinaNet R50 from X101 37.4 and 40.7, Faster
R-CNN 38.4 and 42.0, RepPoints 38.6 and 42.0. As the baseline of IFKD (RetinaNet, R50 to MobileNetV2): SAR-AIRcraft-1.0
53.3 and 52.8, ShipRSImageNet 40.6 and 44.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fledge.distill.parts.attention import channel_attention, spatial_attention
from fledge.distill.parts.levels import Adapters
from fledge.distill.parts.masks import inverse_areas, stride_of
from fledge.types import Batch, Outputs

TERMS = ("kd_fgd_fg", "kd_fgd_bg", "kd_fgd_attention", "kd_fgd_global")
WEIGHTS = dict(zip(TERMS, (1e-3, 5e-4, 1e-3, 5e-6), strict=True))


def background(foreground: Tensor) -> Tensor:
    """One over the number of cells without an object, there, and 0 in objects; each image (B, H, W) sums to 1 or 0."""
    empty = (foreground == 0).to(foreground.dtype)
    return empty / empty.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def focal_losses(student: Tensor, teacher: Tensor, foreground: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """Equations 8 and 9: differences inside and outside objects, and of the attentions; sums, averaged over the images.

    Args:
        student, teacher: maps (B, C, H, W).
        foreground: (B, H, W) weight of each cell in an object, 0 elsewhere.
        temperature: of the attentions.

    Returns:
        Three scalars.
    """
    own, other = student.abs(), teacher.abs()
    channel, spatial = channel_attention(other, temperature), spatial_attention(other, temperature)
    cells = ((student - teacher).square() * channel).sum(dim=1) * spatial[:, 0]
    attention = (channel_attention(own, temperature) - channel).abs().sum()
    attention = attention + (spatial_attention(own, temperature) - spatial).abs().sum()
    count = len(student)
    return (cells * foreground).sum() / count, (cells * background(foreground)).sum() / count, attention / count


class Relation(nn.Module):
    """What a global context block adds to a map: one vector for all of an image's cells. It begins as zero.

    Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", arXiv 1904.11492.

    Args:
        channels: of the map; the bottleneck has half as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.where = nn.Conv2d(channels, 1, 1)
        last = nn.Linear(inner, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.what = nn.Sequential(nn.Linear(channels, inner), nn.LayerNorm(inner), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        share = self.where(x).flatten(1).softmax(dim=1)
        context = (x.flatten(2) @ share[:, :, None])[:, :, 0]
        added: Tensor = self.what(context)
        return added[:, :, None, None]


class FGD(nn.Module):
    """The four terms of FGD, each summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps.
        weights: of the terms.
        temperature: of the attentions.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        weights: Mapping[str, float] = WEIGHTS,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        self.weights, self.temperature = dict(weights), temperature
        self.adapters = Adapters(levels, student_channels, teacher_channels)
        self.own = nn.ModuleDict({name: Relation(teacher_channels) for name in levels})
        self.other = nn.ModuleDict({name: Relation(teacher_channels) for name in levels})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms ``kd_fgd_fg``, ``kd_fgd_bg``, ``kd_fgd_attention`` and ``kd_fgd_global``."""
        levels = []
        for name, (own, other) in self.adapters(student, teacher).items():
            shape = (own.shape[2], own.shape[3])
            foreground = torch.stack([inverse_areas(t, shape, stride_of(name)) for t in batch.targets]).to(own.dtype)
            relation = (own - other + (self.own[name](own) - self.other[name](other))).square().sum() / len(own)
            levels.append((*focal_losses(own, other, foreground, self.temperature), relation))
        return {term: self.weights[term] * torch.stack([x[i] for x in levels]).sum() for i, term in enumerate(TERMS)}
