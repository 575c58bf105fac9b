"""Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient Detectors (FKD,
FBKD), ICLR 2021.

Zhang and Ma. https://openreview.net/forum?id=uKhGRvM8QNH

The student's neck imitates the teacher's where and in which channels both are active, the mean of every channel, the
mean of every place, and how places depend on each other (a non-local block on both sides).

Differs from the paper:
- The student's attention is that of its adapted map, which has the teacher's width and size.
- The levels are those of the pyramid that both detectors have, every term summed over them. The non-local blocks look
  at every 8th, 4th, 2nd, 2nd and 1st cell of a side, from the finest level on.
- All four distances are lengths, not squares, as in the authors' code: the same images twice give the square root of
  two times the loss, so the weights hold for two images a process.
- Temperature 0.1 as in the supplement; MMRazor's port has 0.5, and no attention over the channels.
- The teacher's block learns, and could fool the student. Measured on random maps, with nothing but the method's modules
  learning for 200 steps, the relation term falls to 0.65 of its start.

Published results (COCO, mAP, alone and distilled, MMRazor's port): Faster R-CNN R50 from R101 37.4 and 39.3. As the
baseline of IFKD (RetinaNet, R50 to MobileNetV2): SAR-AIRcraft-1.0 53.3 and 52.8, ShipRSImageNet 40.6 and 40.1. The
authors train for twice the usual epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.attention import channel_attention, spatial_attention
from fledge.distill.parts.levels import Adapters, pair
from fledge.types import Batch, Outputs, at_least_float32

TERMS = ("kd_fkd_attention", "kd_fkd_channel", "kd_fkd_spatial", "kd_fkd_relation")
WEIGHTS = dict(zip(TERMS, (7e-5, 4e-3, 4e-3, 7e-5), strict=True))
_EVERY = (8, 4, 2, 2, 1)


def attention_mask(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Equations 1 and 2: the mean of both networks' spatial attention times that of their channels', (B, C, H, W)."""
    own, other = student.detach().abs(), teacher.detach().abs()
    spatial = spatial_attention(own, temperature) + spatial_attention(other, temperature)
    channel = channel_attention(own, temperature) + channel_attention(other, temperature)
    return spatial * channel / 4


def distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Length of the difference of two tensors over everything, each square times its mask; no gradient at 0."""
    difference = student - teacher
    length: Tensor = torch.linalg.vector_norm(difference if mask is None else difference * mask.sqrt())
    return length


class NonLocal(nn.Module):
    """A map plus what each place gathers from the others by the dot product of embeddings. It begins as the identity.

    Args:
        channels: of the map; the embeddings have half as many.
        every: side of the cells that are pooled before they are looked at.
    """

    def __init__(self, channels: int, every: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.output = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.every = every

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        side = [min(self.every, n) for n in x.shape[2:]]
        seen = F.max_pool2d(x, side) if max(side) > 1 else x
        query, key, value = self.query(x).flatten(2), self.key(seen).flatten(2), self.value(seen).flatten(2)
        # Associated so that no matrix of places by places arises.
        gathered = (value @ key.transpose(1, 2)) @ query / key.shape[2]
        added: Tensor = self.output(gathered.unflatten(2, x.shape[2:]))
        return x + added


class FKD(nn.Module):
    """The four terms of FKD, each summed over the levels.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps, at most five, from the finest on.
        weights: of the terms.
        temperature: of both attentions.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        weights: Mapping[str, float] = WEIGHTS,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.weights, self.temperature = dict(weights), temperature
        strides = dict(zip(levels, _EVERY, strict=False))
        self.adapters = Adapters(levels, student_channels, teacher_channels, always=True)
        self.channel = nn.ModuleDict({name: nn.Linear(student_channels, teacher_channels) for name in levels})
        self.spatial = nn.ModuleDict({name: nn.Conv2d(1, 1, 3, padding=1) for name in levels})
        self.own = nn.ModuleDict({name: NonLocal(student_channels, strides[name]) for name in levels})
        self.other = nn.ModuleDict({name: NonLocal(teacher_channels, strides[name]) for name in levels})
        self.relation = Adapters(levels, student_channels, teacher_channels, always=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms ``kd_fkd_attention``, ``kd_fkd_channel``, ``kd_fkd_spatial`` and ``kd_fkd_relation``."""
        adapted = self.adapters(student, teacher)
        levels = [self._level(name, student.features[name], *maps) for name, maps in adapted.items()]
        return {term: self.weights[term] * torch.stack([x[i] for x in levels]).sum() for i, term in enumerate(TERMS)}

    def _level(self, name: str, raw: Tensor, adapted: Tensor, teacher: Tensor) -> tuple[Tensor, ...]:
        """The four distances of a level."""
        raw = at_least_float32(raw)
        spatial, _ = pair(self.spatial[name](raw.mean(dim=1, keepdim=True)), teacher)
        related, _ = pair(self.relation.convs[name](self.own[name](raw)), teacher)
        return (
            distance(adapted, teacher, attention_mask(adapted, teacher, self.temperature)),
            distance(self.channel[name](raw.mean(dim=(2, 3))), teacher.mean(dim=(2, 3))),
            distance(spatial, teacher.mean(dim=1, keepdim=True)),
            distance(related, self.other[name](teacher)),
        )
