from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.geometry import canonicalize, decode, encode
from fledge.geometry.coder import MAX_LOG_RATIO, MIN_SIDE

from .test_boxes import same_points

PI = math.pi


def box(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def random_boxes(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u * torch.tensor([300, 300, 90, 90, 12]) + torch.tensor([0, 0, 4, 4, -6])


@pytest.mark.parametrize(
    ("anchor", "target", "deltas"),
    [
        ((10, 20, 8, 4, 0), (12, 19, 16, 4, 0.2), (0.25, -0.25, math.log(2), 0, 0.2)),
        ((0, 0, 8, 4, PI / 2), (0, 4, 8, 4, PI / 2), (0.5, 0, 0, 0, 0)),
        ((0, 0, 8, 4, PI / 2), (4, 0, 8, 4, PI / 2), (0, -1, 0, 0, 0)),
        ((0, 0, 4, 8, 0), (0, 0, 8, 4, -PI / 2), (0, 0, 0, 0, 0)),
        ((0, 0, 4, 8, 0), (0, 0, 8, 4, -PI / 2 + 0.1), (0, 0, 0, 0, 0.1)),
        ((0, 0, 4, 8, 0), (0, 0, 8, 4, 0.1), (0, 0, math.log(2), -math.log(2), 0.1)),
        ((0, 0, 8, 4, 0), (0, 0, 8, 4, PI), (0, 0, 0, 0, 0)),
        ((0, 0, 8, 4, PI / 2 - 0.05), (0, 0, 8, 4, -PI / 2 + 0.05), (0, 0, 0, 0, 0.1)),
    ],
)
def test_by_hand(anchor: tuple[float, ...], target: tuple[float, ...], deltas: tuple[float, ...]) -> None:
    torch.testing.assert_close(encode(box(*anchor), box(*target)), box(*deltas), atol=1e-9, rtol=0)
    torch.testing.assert_close(decode(box(*anchor), box(*deltas)), canonicalize(box(*target)), atol=1e-9, rtol=0)


POSITION = st.floats(-500, 500)
SIDE = st.floats(8, 300)
ANGLE = st.floats(-7, 7) | st.sampled_from([k * PI / 4 for k in range(-8, 9)])
BOX = st.tuples(POSITION, POSITION, SIDE, SIDE, ANGLE)


@given(anchor=BOX, target=BOX)
def test_round_trip(anchor: tuple[float, ...], target: tuple[float, ...]) -> None:
    deltas = encode(box(*anchor), box(*target))
    assert deltas[0, 4].abs() <= PI / 4 + 1e-12
    back = decode(box(*anchor), deltas)
    assert torch.equal(canonicalize(back), back)
    assert same_points(back, box(*target)) < 1e-9


def test_round_trip_in_float32() -> None:
    anchors, boxes = random_boxes(1000, 0).float(), random_boxes(1000, 1).float()
    assert same_points(decode(anchors, encode(anchors, boxes)), boxes) < 2e-3


@pytest.mark.parametrize("seed", range(10))
def test_gradcheck(seed: int) -> None:
    anchors, boxes = random_boxes(4, seed).requires_grad_(), random_boxes(4, 100 + seed).requires_grad_()
    assert torch.autograd.gradcheck(encode, (anchors, boxes))
    deltas = (torch.randn(4, 5, generator=torch.Generator().manual_seed(seed)).double() * 0.3).requires_grad_()
    assert torch.autograd.gradcheck(decode, (anchors, deltas))


def test_sides_are_limited() -> None:
    got = decode(box(0, 0, 8, 4, 0), box(0, 0, 100, -100, 0))
    torch.testing.assert_close(got, box(0, 0, 8 * 62.5, 4 / 62.5, 0))
    assert math.exp(MAX_LOG_RATIO) == pytest.approx(62.5)
    tiny = decode(box(0, 0, 1e-3, 0, 0), box(0, 0, -3, -3, 0))
    assert (tiny[:, 2:4] >= MIN_SIDE).all()


def test_degenerate_boxes_are_finite() -> None:
    flat = torch.tensor([[1.0, 2, 0, 0, 0], [1, 2, -4, 3, 1], [1, 2, 1e-3, 4, 2]], requires_grad=True)
    anchors = torch.tensor([[0.0, 0, 32, 32, 0], [0, 0, 0, 8, 0], [0, 0, 8, -1, 0]], requires_grad=True)
    deltas = encode(anchors, flat)
    boxes = decode(anchors, deltas)
    torch.autograd.backward(deltas.sum() + boxes.sum())
    assert deltas.isfinite().all()
    assert boxes.isfinite().all()
    for grad in (flat.grad, anchors.grad):
        assert grad is not None
        assert grad.isfinite().all()


def test_nan_empty_shape_and_half_precision() -> None:
    assert decode(box(0, 0, 8, 4, 0), box(0, 0, math.nan, 0, 0)).isnan().any()
    assert encode(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0, 5)
    assert decode(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0, 5)
    anchors = random_boxes(6, 2)
    deltas = encode(anchors, random_boxes(6, 3))
    batched = decode(anchors.view(2, 3, 5), deltas.view(2, 3, 5))
    torch.testing.assert_close(batched.view(6, 5), decode(anchors, deltas))
    assert decode(torch.ones(1, 5), torch.zeros(1, 5, dtype=torch.bfloat16)).dtype == torch.float32
