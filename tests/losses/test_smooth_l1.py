from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fledge.losses.smooth_l1 import smooth_l1_loss


@pytest.mark.parametrize(("difference", "expected"), [(0, 0), (0.05, 0.00125), (0.5, 0.125), (1, 0.5), (2, 1.5)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("column", range(5))
def test_known_values(difference: float, expected: float, sign: int, column: int) -> None:
    pred, target = torch.full((1, 5), 3.0, dtype=torch.float64), torch.full((1, 5), 3.0, dtype=torch.float64)
    pred[0, column] += sign * difference
    assert smooth_l1_loss(pred, target).item() == pytest.approx(expected, abs=1e-12)


def test_sum_over_the_deltas_and_one_loss_per_box() -> None:
    pred = torch.tensor([[0.05, 0.5, 2, 0, -2], [0, 0, 0, 0, 1]], dtype=torch.float64)
    expected = torch.tensor([0.00125 + 0.125 + 1.5 + 1.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(smooth_l1_loss(pred, torch.zeros_like(pred)), expected)


def test_beta() -> None:
    pred = torch.tensor([[0.1, 0.5, 0, 0, 0]], dtype=torch.float64)
    loss = smooth_l1_loss(pred, torch.zeros_like(pred), beta=0.2)
    assert loss.item() == pytest.approx(0.5 * 0.1**2 / 0.2 + 0.5 - 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_gradient(seed: int) -> None:
    u = 3 * torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.autograd.gradcheck(smooth_l1_loss, (u[0].requires_grad_(), u[1].requires_grad_()))


def test_no_boxes() -> None:
    pred = torch.zeros(0, 5, requires_grad=True)
    loss = smooth_l1_loss(pred, torch.zeros(0, 5))
    assert loss.shape == (0,)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert pred.grad is not None


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5), max_size=10))
def test_finite_symmetric_and_zero_only_for_equals(rows: list[list[float]]) -> None:
    pred = torch.tensor(rows, dtype=torch.float32).view(-1, 5).requires_grad_()
    target = torch.zeros_like(pred)
    loss = smooth_l1_loss(pred, target)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    assert bool((gradient.abs() <= 1).all())
    assert torch.equal(loss, smooth_l1_loss(target, pred))
    assert bool((smooth_l1_loss(pred, pred) == 0).all())
    assert bool((loss[(pred.abs() > 1e-3).any(dim=1)] > 0).all())
