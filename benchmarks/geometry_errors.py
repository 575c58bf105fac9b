"""How wrong each implementation is on the pairs of boxes on which rotated IoU goes wrong."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.geometry_peers import Peer
from tests.geometry.oracle import slow_iou
from tests.geometry.stress import STRESS
from torch import Tensor

WRONG = 1e-3  # an overlap this far off can change an assignment or a suppression


def errors(implementations: list[Peer], count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Per set and implementation, the largest error of the IoU and the share of pairs wrong by more than ``WRONG``."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, pairs in STRESS.items():
        a, b = pairs(count, torch.float32)
        rows = zip(a.tolist(), b.tolist(), strict=True)
        truth = torch.tensor([slow_iou(p, q) for p, q in rows], dtype=torch.float64)
        found[name] = {
            peer.name: _error(peer.makers["aligned"](a, b)(), truth)
            for peer in implementations
            if "aligned" in peer.makers
        }
    return found


def _error(values: Any, truth: Tensor) -> dict[str, float]:
    off = (values.double() - truth).abs()
    return {"largest": float(off.max()), "wrong": float((~(off <= WRONG)).double().mean())}
