from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fledge.geometry import box_to_gaussian, canonicalize, kl_divergence


def box(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def random_boxes(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u * torch.tensor([30, 30, 40, 40, 6]) + torch.tensor([0, 0, 2, 2, -3])


def matrix_divergence(pred: Tensor, target: Tensor) -> Tensor:
    """The definition, with matrix inverses: KL(target ‖ pred)."""
    (mp, sp), (mt, st) = box_to_gaussian(pred), box_to_gaussian(target)
    shift = mp - mt
    inverse = torch.linalg.inv(sp)
    quadratic = torch.einsum("ni,nij,nj->n", shift, inverse, shift)
    trace: Tensor = (inverse @ st).diagonal(dim1=-2, dim2=-1).sum(-1)
    divergence: Tensor = (quadratic + trace + torch.logdet(sp) - torch.logdet(st)) / 2 - 1
    return divergence


def test_gaussian_by_hand() -> None:
    mu, sigma = box_to_gaussian(box(3, 4, 8, 2, math.pi / 2))
    torch.testing.assert_close(mu, torch.tensor([[3, 4]]).double())
    torch.testing.assert_close(sigma, torch.tensor([[[1, 0], [0, 16]]]).double())
    _, sigma = box_to_gaussian(box(0, 0, 4, 2, math.pi / 4))
    torch.testing.assert_close(sigma, torch.tensor([[[2.5, 1.5], [1.5, 2.5]]]).double())


A = (0, 0, 4, 2, 0)
TABLE = [
    (A, A, 0.0),
    (A, (1, 0, 4, 2, 0), 0.125),
    (A, (0, 0, 4, 2, math.pi / 2), 1.125),
    (A, (0, 0, 4, 2, math.pi / 4), 0.5625),
    (A, (0, 0, 2, 1, 0), 0.636294),
    ((0, 0, 2, 1, 0), A, 1.613706),
    (A, (0, 0, 2, 4, -math.pi / 2), 0.0),
    ((12, 10, 40, 10, 0.1), (10, 10, 40, 10, 0), 0.075826),
]


@pytest.mark.parametrize(("pred", "target", "expected"), TABLE)
def test_known_values(pred: tuple[float, ...], target: tuple[float, ...], expected: float) -> None:
    assert kl_divergence(box(*pred), box(*target)).item() == pytest.approx(expected, abs=6e-7)


def test_matches_the_matrix_form() -> None:
    pred, target = random_boxes(200, 0), random_boxes(200, 1)
    torch.testing.assert_close(kl_divergence(pred, target), matrix_divergence(pred, target), rtol=1e-9, atol=1e-9)


def test_same_points_same_divergence() -> None:
    pred, target = random_boxes(200, 2), random_boxes(200, 3)
    expected = kl_divergence(pred, target)
    torch.testing.assert_close(kl_divergence(canonicalize(pred), canonicalize(target)), expected)
    assert (kl_divergence(pred, canonicalize(pred)).abs() < 1e-12).all()


@pytest.mark.parametrize("seed", range(10))
def test_gradcheck(seed: int) -> None:
    pred, target = random_boxes(4, seed).requires_grad_(), random_boxes(4, 100 + seed).requires_grad_()
    assert torch.autograd.gradcheck(kl_divergence, (pred, target))
    assert torch.autograd.gradcheck(lambda b: box_to_gaussian(b), (pred,))


EXTREMES = torch.tensor(
    [
        [10, 10, 0, 0, 0],
        [10, 10, 4000, 1e-3, 1],
        [10, 10, -5, 3, 2],
        [10, 10, 5, 5, 0],
        [1e5, 10, 1e-3, 1e-3, -math.pi / 2],
        [10, 10, 4, 2, 0.3],
    ]
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite_and_never_negative(dtype: torch.dtype) -> None:
    index = torch.cartesian_prod(torch.arange(len(EXTREMES)), torch.arange(len(EXTREMES)))
    pred = EXTREMES[index[:, 0]].to(dtype).requires_grad_()
    target = EXTREMES[index[:, 1]].to(dtype).requires_grad_()
    divergence = kl_divergence(pred, target)
    torch.autograd.backward(divergence.sum())
    assert divergence.isfinite().all()
    assert (divergence >= 0).all()
    for grad in (pred.grad, target.grad):
        assert grad is not None
        assert grad.isfinite().all()


def test_rounding_below_zero_keeps_the_gradient() -> None:
    pred = (random_boxes(500, 4).float()).requires_grad_()
    target = pred.detach() + torch.tensor([1e-4, 0, 0, 0, 0])
    divergence = kl_divergence(pred, target)
    assert (divergence >= 0).all()
    torch.autograd.backward(divergence.sum())
    assert pred.grad is not None
    assert (pred.grad[:, :2].norm(dim=1) > 0).all()


def test_nan_empty_and_half_precision() -> None:
    assert kl_divergence(box(math.nan, 0, 1, 1, 0), box(*A)).isnan().all()
    assert kl_divergence(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0,)
    mu, sigma = box_to_gaussian(torch.zeros(0, 5))
    assert (mu.shape, sigma.shape) == ((0, 2), (0, 2, 2))
    assert kl_divergence(box(*A).half(), box(*A).half()).dtype == torch.float32
