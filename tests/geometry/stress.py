"""Eleven kinds of pairs of boxes on which overlaps go wrong elsewhere: N pairs each, rounded to a dtype first."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Boxes = tuple[Tensor, Tensor]


def _random(count: int, seed: int) -> Tensor:
    """Boxes with log-uniform sides of 4 to 200 pixels within a tile of 200 pixels, float64."""
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([u[:, :2] * 200, 4 * 50 ** u[:, 2:4], (u[:, 4:] - 0.5) * math.pi], dim=1)


def _noise(count: int, size: float) -> Tensor:
    generator = torch.Generator().manual_seed(99)
    return torch.randn(count, 5, generator=generator, dtype=torch.float64) * size


def _moved_along(boxes: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Boxes shifted by u along w and by v along h."""
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    moved = boxes.clone()
    moved[:, 0] += u * cos - v * sin
    moved[:, 1] += u * sin + v * cos
    return moved


def _made(second: Callable[[Tensor], Tensor], shift: float = 0.0, thin: bool = False) -> Callable[..., Boxes]:
    def pairs(count: int, dtype: torch.dtype) -> Boxes:
        first = _random(count, 0)
        first[:, :2] += shift
        if thin:
            first[:, 3] = 1
        first = first.to(dtype)
        return first, second(first.double()).to(dtype)

    return pairs


def _swapped(boxes: Tensor) -> Tensor:
    return boxes[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, math.pi / 2], dtype=boxes.dtype)


def _other(boxes: Tensor) -> Tensor:
    other = _random(len(boxes), 1)
    other[:, :2] += boxes[:, :2].amin(dim=0).floor()
    return other


def _thin(boxes: Tensor) -> Tensor:
    other = _other(boxes)
    other[:, 3] = 1
    return other


_NESTED = torch.tensor([1, 1, 0.5, 0.5, 1], dtype=torch.float64)

STRESS: dict[str, Callable[..., Boxes]] = {
    "random": _made(_other),
    "far from the origin": _made(_other, shift=1e5),
    "identical": _made(torch.clone),
    "half a turn": _made(lambda b: b + torch.tensor([0, 0, 0, 0, math.pi], dtype=b.dtype)),
    "sides swapped": _made(_swapped),
    "moved by 1e-4": _made(lambda b: b + _noise(len(b), 1e-4)),
    "moved by 1e-2": _made(lambda b: b + _noise(len(b), 1e-2)),
    "shared edge": _made(lambda b: _moved_along(b, b[:, 2], 0 * b[:, 3])),
    "one pixel thin": _made(_thin, thin=True),
    "nested": _made(lambda b: b * _NESTED),
    "nested, shared edges": _made(lambda b: _moved_along(b * _NESTED, b[:, 2] / 4, b[:, 3] / 4)),
}
