"""The pyramid levels that a student and its teacher share, and what brings one's maps to the other's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distributed import parts_of_step
from fledge.errors import UsageError
from fledge.types import Outputs, at_least_float32


@dataclass(frozen=True)
class SharedLevels:
    """Pyramid levels of both networks.

    Attributes:
        names: of the maps in ``Outputs.features``; level ``pN`` has the stride 2 to the power N in both.
        student, teacher: channels of each network's levels.
    """

    names: tuple[str, ...]
    student: int
    teacher: int

    def only(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of ``names`` that both networks have.

        Raises:
            UsageError: there is none.
        """
        chosen = tuple(name for name in names if name in self.names)
        if not chosen:
            raise UsageError(
                f"no level to distil: the method takes {', '.join(names)}, student and teacher share "
                f"{', '.join(self.names)}: choose another teacher or method"
            )
        return chosen


def shared_levels(student: Any, teacher: Any) -> SharedLevels:
    """The levels that two detectors' necks have in common, in the student's order.

    A one-stage detector has P3 to P7, a two-stage one P2 to P6, so they share P3 to P6.

    Raises:
        UsageError: they share none.
    """
    own, other = student.neck, teacher.neck
    names = tuple(name for name in own.levels if name in other.levels)
    if not names:
        raise UsageError(
            f"no common level: student {', '.join(own.levels)} ({own.channels} channels), teacher "
            f"{', '.join(other.levels)} ({other.channels} channels): choose another teacher"
        )
    return SharedLevels(names, own.channels, other.channels)


class Adapters(nn.Module):
    """From the student's maps to the shape of the teacher's: a convolution a level, and resizing where sizes differ.

    Args:
        names: of the levels.
        student_channels, teacher_channels: of every level.
        kernel: side of the convolutions.
        always: a convolution although the channels agree; otherwise such maps pass unchanged.
    """

    def __init__(
        self, names: Sequence[str], student_channels: int, teacher_channels: int, kernel: int = 1, always: bool = False
    ) -> None:
        super().__init__()
        needed = always or student_channels != teacher_channels
        self.convs = nn.ModuleDict(
            {
                name: nn.Conv2d(student_channels, teacher_channels, kernel, padding=kernel // 2)
                if needed
                else nn.Identity()
                for name in names
            }
        )

    def forward(self, student: Outputs, teacher: Outputs) -> dict[str, tuple[Tensor, Tensor]]:
        """By level: the student's adapted map and the teacher's, both (B, C, H, W) of the teacher, at least float32."""
        return {
            name: pair(conv(at_least_float32(student.features[name])), teacher.features[name])
            for name, conv in self.convs.items()
        }


def pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps with the height and width of the teacher's, at least float32, the teacher's detached."""
    student, teacher = at_least_float32(student), at_least_float32(teacher).detach()
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, teacher.shape[2:], mode="bilinear", align_corners=False)
    return student, teacher


def logits_by_level(outputs: Outputs) -> dict[str, Tensor]:
    """The class logits (B, A, K, H, W) by the name of the neck's map that they are computed from."""
    names = [name for name in outputs.features if name.startswith("p")]
    return dict(zip(names, outputs.logits, strict=True))


def check_same_grid(method: str, student: Outputs, teacher: Outputs, codes: bool = True) -> None:
    """Refuse heads whose logits (and codes) cannot be compared one by one.

    Raises:
        UsageError: naming both shapes.
    """
    parts = [("logits", student.logits, teacher.logits)]
    parts += [("codes", student.codes, teacher.codes)] if codes else []
    for name, s, t in parts:
        if [x.shape for x in s] != [x.shape for x in t]:
            raise UsageError(
                f"{method} needs the same levels, anchors and classes in student and teacher: {name}: student "
                f"{[tuple(x.shape) for x in s]}, teacher {[tuple(x.shape) for x in t]}: choose a teacher with the same "
                "detector, anchors and classes, or a method that compares features"
            )


class Ramp(nn.Module):
    """A factor that rises linearly from 0 to 1 over the first steps of training, and is 1 outside it.

    Counts its own calls in training, one for each part of a step; the count is part of the checkpoint.

    Args:
        steps: over how many optimiser steps; 0: always 1.
    """

    count: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The factor, a scalar."""
        if not self.training or self.steps == 0:
            return torch.ones((), device=self.count.device)
        factor = (self.count / (self.steps * parts_of_step())).clamp(max=1)
        self.count += 1
        return factor
