from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.distill.parts.quality_focal import quality_focal


def fixed() -> tuple[Tensor, Tensor]:
    """The logits of the notes: sin(0.37 k - 1) and sin(0.23 k - 2)."""
    k = torch.arange(160, dtype=torch.float64)
    return (0.37 * k - 1).sin(), (0.23 * k - 2).sin()


def logit(p: float) -> Tensor:
    return torch.tensor(math.log(p / (1 - p)), dtype=torch.float64)


def test_golden_values() -> None:
    assert quality_focal(*fixed()).sum().item() == pytest.approx(26.9750757946, abs=1e-9)
    student, teacher = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    assert quality_focal(student, teacher).item() == pytest.approx(0.0747911075, abs=1e-9)


@given(st.floats(-8, 8), st.floats(-8, 8), st.sampled_from([0.5, 1.0, 2.0]))
def test_by_hand(student: float, teacher: float, beta: float) -> None:
    p, q = (1 / (1 + math.exp(-x)) for x in (student, teacher))
    expected = abs(p - q) ** beta * -(q * math.log(p) + (1 - q) * math.log(1 - p))
    pair = torch.tensor([student, teacher], dtype=torch.float64)
    value = quality_focal(pair[0], pair[1], beta)
    assert float(value) == pytest.approx(expected, abs=1e-9)


def test_nothing_to_learn_from_an_equal() -> None:
    student, _ = fixed()
    assert not quality_focal(student, student).any()


def test_gradient() -> None:
    student, teacher = (x[:12].clone().requires_grad_() for x in fixed())
    assert torch.autograd.gradcheck(lambda s: quality_focal(s, teacher), (student,))
    quality_focal(student, teacher).sum().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


def test_extremes_are_finite() -> None:
    student = torch.tensor([1e3, -1e3, 0, 1e3], dtype=torch.float16).requires_grad_()
    loss = quality_focal(student, torch.tensor([-1e3, 1e3, 0, 1e3], dtype=torch.float16))
    assert loss.dtype == torch.float32
    torch.autograd.backward(loss.sum())
    assert loss.tolist() == pytest.approx([1000, 1000, 0, 0])
    assert student.grad is not None
    assert student.grad.isfinite().all()
