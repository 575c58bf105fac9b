"""Pairs of boxes on which rotated IoU goes wrong, and how wrong each implementation is on them."""

from __future__ import annotations

import math
from typing import Any

import torch
from benchmarks.geometry_peers import Peer
from tests.geometry.oracle import slow_iou
from torch import Tensor

WRONG = 1e-3  # an overlap this far off can change an assignment or a suppression


def stress_sets(count: int, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Eleven sets of aligned pairs (count, 5), float32."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low

    def some() -> Tensor:
        scale = torch.tensor([100.0, 100, 100, 50, math.pi], dtype=torch.float64)
        return uniform(count, 5) * scale + torch.tensor([0, 0, 4, 4, -math.pi / 2], dtype=torch.float64)

    def noise(size: float) -> Tensor:
        return size * torch.randn(count, 5, generator=generator, dtype=torch.float64)

    # What comes from a box comes from the box as rounded to float32.
    a = some().float().double()
    x, y, w, h, angle = a.unbind(1)
    part, other = uniform(count, low=0.2, high=0.9), uniform(count, low=0.2, high=0.9)

    def moved(along: Tensor, across: Tensor, width: Tensor, height: Tensor) -> Tensor:
        """Boxes of the same angle with their centres moved along the sides of ``a``."""
        u, v = along * angle.cos() - across * angle.sin(), along * angle.sin() + across * angle.cos()
        return torch.stack([x + u, y + v, width, height, angle], dim=1)

    far = torch.tensor([1e5, -1e5, 0, 0, 0], dtype=torch.float64)
    thin, second = a.clone(), some()
    thin[:, 3], second[:, 3] = 1, 1
    room = uniform(count, low=-0.5, high=0.5) * (1 - part), uniform(count, low=-0.5, high=0.5) * (1 - other)
    sets = {
        "random": (a, some()),
        "100,000 px from the origin": (a + far, some() + far),
        "identical": (a, a),
        "turned by 180°": (a, torch.stack([x, y, w, h, angle + math.pi], dim=1)),
        "sides swapped, turned by 90°": (a, torch.stack([x, y, h, w, angle + math.pi / 2], dim=1)),
        "jitter of 1e-4": (a, a + noise(1e-4)),
        "jitter of 1e-2": (a, a + noise(1e-2)),
        "shared edges": (a, moved(w, h * 0, w, h * part)),
        "1 px thin": (thin, second),
        "nested": (a, moved(room[0] * w, room[1] * h, w * part, h * other)),
        "nested, shared edges": (a, moved((part - 1) / 2 * w, h * 0, w * part, h)),
    }
    return {name: (one.float(), two.float()) for name, (one, two) in sets.items()}


def errors(implementations: list[Peer], count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Per set and implementation, the largest error of the IoU and the share of pairs wrong by more than ``WRONG``."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (a, b) in stress_sets(count).items():
        truth = torch.tensor([slow_iou(p, q) for p, q in zip(a.tolist(), b.tolist(), strict=True)], dtype=torch.float64)
        found[name] = {
            peer.name: _error(peer.makers["aligned"](a, b)(), truth)
            for peer in implementations
            if "aligned" in peer.makers
        }
    return found


def _error(values: Any, truth: Tensor) -> dict[str, float]:
    off = (values.double() - truth).abs()
    return {"largest": float(off.max()), "wrong": float((~(off <= WRONG)).double().mean())}
