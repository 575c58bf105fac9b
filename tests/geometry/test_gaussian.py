from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fledge.geometry import (
    box_to_gaussian,
    canonicalize,
    kalman_iou,
    kl_divergence,
    squared_mahalanobis,
    squared_wasserstein,
)


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


def numpy_gaussian(box: list[float]) -> tuple[np.ndarray, np.ndarray]:
    cx, cy, w, h, a = box
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return np.array([cx, cy]), turn @ np.diag([w * w / 4, h * h / 4]) @ turn.T


def matrix_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    root: np.ndarray = vectors @ np.diag(np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def slow_wasserstein(first: list[float], second: list[float]) -> float:
    """The definition, with matrix roots."""
    (m1, s1), (m2, s2) = numpy_gaussian(first), numpy_gaussian(second)
    root = matrix_root(s1)
    cross = matrix_root(root @ s2 @ root)
    return float((m1 - m2) @ (m1 - m2) + np.trace(s1 + s2 - 2 * cross))


def slow_kalman_iou(first: list[float], second: list[float]) -> float:
    """The paper's steps: the Kalman gain, the fused covariance, and the areas of the three boxes."""
    (_, s1), (_, s2) = numpy_gaussian(first), numpy_gaussian(second)
    gain = s1 @ np.linalg.inv(s1 + s2)
    v1, v2, v = (4 * math.sqrt(np.linalg.det(s)) for s in (s1, s2, s1 - gain @ s1))
    return v / (v1 + v2 - v)


# Worked by hand. A against B: squared Wasserstein distance, KFIoU.
PAIRS = [
    (A, 0.0, 1 / 3),
    ((1, 0, 4, 2, 0), 1.0, 1 / 3),
    ((0, 0, 4, 2, math.pi / 2), 2.0, 0.25),
    ((0, 0, 4, 2, math.pi / 4), 0.944615, 0.283471),
    ((0, 0, 2, 1, 0), 1.25, 0.190476),
    ((0, 0, 2, 4, -math.pi / 2), 0.0, 1 / 3),
]


@pytest.mark.parametrize(("other", "wasserstein", "overlap"), PAIRS)
def test_known_distances_and_overlaps(other: tuple[float, ...], wasserstein: float, overlap: float) -> None:
    for first, second in ((box(*A), box(*other)), (box(*other), box(*A))):
        assert squared_wasserstein(first, second).item() == pytest.approx(wasserstein, abs=6e-7)
        assert kalman_iou(first, second).item() == pytest.approx(overlap, abs=6e-7)


def test_mahalanobis_by_hand() -> None:
    one = box(3, 4, 8, 2, math.pi / 2)
    points = torch.tensor([[3, 4], [3, 8], [4, 4], [5, 12]], dtype=torch.float64)
    found = squared_mahalanobis(points, one.expand(4, 5))
    torch.testing.assert_close(found, torch.tensor([0, 1, 1, 8], dtype=torch.float64))


def test_distances_match_their_definitions() -> None:
    first, second = random_boxes(200, 5), random_boxes(200, 6)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    expected = torch.tensor([slow_wasserstein(a, b) for a, b in pairs], dtype=torch.float64)
    torch.testing.assert_close(squared_wasserstein(first, second), expected, rtol=1e-9, atol=1e-9)
    expected = torch.tensor([slow_kalman_iou(a, b) for a, b in pairs], dtype=torch.float64)
    torch.testing.assert_close(kalman_iou(first, second), expected, rtol=1e-9, atol=1e-9)


def test_float32_keeps_the_distance_of_boxes_that_are_alike() -> None:
    first = torch.tensor([[500.0, 500, 400, 100, 0.3]])
    second = first + torch.tensor([[0.01, 0, 0.02, 0, 1e-4]])
    expected = slow_wasserstein(first[0].tolist(), second[0].tolist())
    assert squared_wasserstein(first, second).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_gradcheck_of_distances(seed: int) -> None:
    first, second = random_boxes(4, seed).requires_grad_(), random_boxes(4, 100 + seed).requires_grad_()
    assert torch.autograd.gradcheck(squared_wasserstein, (first, second))
    assert torch.autograd.gradcheck(kalman_iou, (first, second))
    assert torch.autograd.gradcheck(lambda a, b: squared_mahalanobis(a[:, :2], b), (first, second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_have_finite_distances(dtype: torch.dtype) -> None:
    index = torch.cartesian_prod(torch.arange(len(EXTREMES)), torch.arange(len(EXTREMES)))
    first = EXTREMES[index[:, 0]].to(dtype).requires_grad_()
    second = EXTREMES[index[:, 1]].to(dtype).requires_grad_()
    distance, overlap = squared_wasserstein(first, second), kalman_iou(first, second)
    torch.autograd.backward(distance.sum() + overlap.sum())
    assert distance.isfinite().all()
    assert (distance >= 0).all()
    assert ((overlap > 0) & (overlap < 1 / 3 + 1e-6)).all()
    for grad in (first.grad, second.grad):
        assert grad is not None
        assert grad.isfinite().all()


def test_nan_empty_and_half_precision_in_distances() -> None:
    for function in (squared_wasserstein, kalman_iou):
        assert function(box(0, 0, math.nan, 1, 0), box(*A)).isnan().all()
        assert function(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0,)
        assert function(box(*A).bfloat16(), box(*A).bfloat16()).dtype == torch.float32
