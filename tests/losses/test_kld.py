from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.losses.kld import kld_loss

A = (0, 0, 4, 2, 0)


def boxes(*rows: tuple[float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).view(-1, 5)


def random_boxes(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u * torch.tensor([40, 40, 60, 30, 6]) + torch.tensor([0, 0, 3, 3, -3])


def slow_divergence(pred: list[float], target: list[float]) -> float:
    """The textbook formula with explicit covariance matrices: KL(target || pred)."""

    def gaussian(box: list[float]) -> tuple[np.ndarray, np.ndarray]:
        cx, cy, w, h, a = box
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        return np.array([cx, cy]), turn @ np.diag([w * w / 4, h * h / 4]) @ turn.T

    (mp, sp), (mt, st_) = gaussian(pred), gaussian(target)
    inverse = np.linalg.inv(sp)
    logs = np.linalg.slogdet(sp)[1] - np.linalg.slogdet(st_)[1]
    return float((mp - mt) @ inverse @ (mp - mt) + np.trace(inverse @ st_) + logs) / 2 - 1


@pytest.mark.parametrize(
    ("pred", "target", "divergence"),
    [
        (A, A, 0.0),
        (A, (1, 0, 4, 2, 0), 0.125),
        (A, (0, 0, 4, 2, math.pi / 2), 1.125),
        (A, (0, 0, 4, 2, math.pi / 4), 0.5625),
        (A, (0, 0, 2, 1, 0), 0.636294),
        ((0, 0, 2, 1, 0), A, 1.613706),
        (A, (0, 0, 2, 4, -math.pi / 2), 0.0),
    ],
)
def test_known_divergences(pred: tuple[float, ...], target: tuple[float, ...], divergence: float) -> None:
    expected = 1 - 1 / (1 + math.log(1 + divergence))
    assert kld_loss(boxes(pred), boxes(target)).item() == pytest.approx(expected, abs=1e-6)


def test_known_loss_without_a_square_root() -> None:
    loss = kld_loss(boxes((12, 10, 40, 10, 0.1)), boxes((10, 10, 40, 10, 0)))
    assert loss.item() == pytest.approx(0.068111, abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_matches_the_matrix_form(tau: float) -> None:
    pred, target = random_boxes(200, 0), random_boxes(200, 1)
    divergences = [slow_divergence(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    expected = torch.tensor([1 - 1 / (tau + math.log(1 + d)) for d in divergences], dtype=torch.float64)
    torch.testing.assert_close(kld_loss(pred, target, tau), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_gradient(seed: int) -> None:
    pred, target = random_boxes(4, seed).requires_grad_(), random_boxes(4, seed + 50).requires_grad_()
    assert torch.autograd.gradcheck(kld_loss, (pred, target))


def test_no_boxes() -> None:
    pred = torch.zeros(0, 5, requires_grad=True)
    loss = kld_loss(pred, torch.zeros(0, 5))
    assert loss.shape == (0,)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert pred.grad is not None


DEGENERATE = [
    (10, 10, 0, 0, 0.3),
    (10, 10, 1e-3, 1e-3, 0),
    (10, 10, 400, 1e-3, 1.0),
    (10, 10, 20, 0, -math.pi / 2),
    (10, 10, 20, 20, math.pi / 2),
    (1e5, 1e5, 4000, 5, 0.7),
]


@pytest.mark.parametrize("target", DEGENERATE)
@pytest.mark.parametrize("pred", DEGENERATE)
def test_degenerate_boxes_give_finite_values_and_gradients(pred: tuple[float, ...], target: tuple[float, ...]) -> None:
    first = boxes(pred, dtype=torch.float32).requires_grad_()
    loss = kld_loss(first, boxes(target, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(loss.sum(), first)
    assert 0 <= loss.item() < 1
    assert bool(gradient.isfinite().all())


def test_nan_is_never_hidden() -> None:
    assert bool(kld_loss(boxes((math.nan, 0, 4, 2, 0)), boxes(A)).isnan().all())


BOX = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0, 2000), st.floats(0, 2000), st.floats(-10, 10))
BATCH = st.lists(st.tuples(BOX, BOX), max_size=12)


@settings(max_examples=200)
@given(BATCH)
def test_any_batch_is_bounded_with_finite_gradient(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    pred = boxes(*(p for p, _ in pairs), dtype=torch.float32).requires_grad_()
    target = boxes(*(t for _, t in pairs), dtype=torch.float32)
    loss = kld_loss(pred, target)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    assert bool(((loss >= 0) & (loss < 1)).all())
    assert bool(gradient.isfinite().all())
    assert bool((kld_loss(pred.detach(), pred.detach()) < 1e-5).all())


@settings(max_examples=100)
@given(BATCH)
def test_one_set_of_points_has_one_loss(pairs: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> None:
    pred, target = boxes(*(p for p, _ in pairs)), boxes(*(t for _, t in pairs))
    turn = torch.tensor([0, 0, 0, 0, math.pi / 2], dtype=torch.float64)
    turned = pred[:, [0, 1, 3, 2, 4]] + turn
    expected = kld_loss(pred, target)
    torch.testing.assert_close(kld_loss(turned, target), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(kld_loss(pred, target[:, [0, 1, 3, 2, 4]] + turn), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(kld_loss(pred + 4 * turn, target - 2 * turn), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_any_number_of_equal_boxes(count: int) -> None:
    pred = boxes((50, 40, 30, 10, 0.4), dtype=torch.float32).expand(count, 5).clone().requires_grad_()
    loss = kld_loss(pred, pred.detach()).sum()
    (gradient,) = torch.autograd.grad(loss, pred)
    assert loss == 0
    assert bool((gradient.abs() < 1e-5).all())
