"""Overlaps in float32 where they go wrong elsewhere, against a clipper that shares nothing with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fledge.geometry import rotated_iou

from .oracle import slow_iou
from .stress import STRESS

NAMES = list(STRESS)


def clipped(first: Tensor, second: Tensor) -> Tensor:
    rows = zip(first.double().tolist(), second.double().tolist(), strict=True)
    return torch.tensor([slow_iou(a, b) for a, b in rows], dtype=torch.float64)


def errors(name: str, count: int) -> tuple[Tensor, Tensor]:
    """Errors (N,) in float32, of the values and of them with the roles exchanged, for the same rounded boxes."""
    first, second = STRESS[name](count, torch.float32)
    truth = clipped(first, second)
    there, back = rotated_iou(first, second, aligned=True), rotated_iou(second, first, aligned=True)
    assert there.dtype == torch.float32
    return (there.double() - truth).abs(), (back.double() - truth).abs()


def test_there_are_eleven() -> None:
    assert len(NAMES) == 11


@pytest.mark.parametrize("name", NAMES)
def test_float32(name: str) -> None:
    assert max(error.max().item() for error in errors(name, 1000)) <= 7e-7


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float32_20_000_pairs(name: str) -> None:
    assert max(error.max().item() for error in errors(name, 20_000)) <= 7e-7


@pytest.mark.parametrize("name", NAMES)
def test_float64(name: str) -> None:
    first, second = STRESS[name](1000, torch.float64)
    torch.testing.assert_close(rotated_iou(first, second, aligned=True), clipped(first, second), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite(name: str) -> None:
    first, second = (b.requires_grad_() for b in STRESS[name](1000, torch.float32))
    torch.autograd.backward(rotated_iou(first, second, aligned=True).sum())
    for boxes in (first, second):
        assert boxes.grad is not None
        # A side w gives at most 2 / w, a shift at most 4 / w, a turn at most 2 times the aspect ratio.
        assert boxes.grad.isfinite().all()
        assert boxes.grad.abs().max() <= 500


def test_a_million_pairs_without_a_nan() -> None:
    total = 0
    for name in NAMES:
        first, second = (b.requires_grad_() for b in STRESS[name](95_000, torch.float32))
        value = rotated_iou(first, second, aligned=True)
        grads = torch.autograd.grad(value.sum(), (first, second))
        assert value.isfinite().all()
        assert ((value >= 0) & (value <= 1)).all()
        assert all(g.isfinite().all() for g in grads)
        total += len(value)
    assert total > 1_000_000
