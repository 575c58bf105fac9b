from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box as rectangle
from torch import Tensor

from fledge.losses.giou import giou_loss

ROW = st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(1, 30), st.floats(1, 30))


def one(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@given(ROW, ROW)
def test_against_polygons(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    a, b = (rectangle(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (first, second))
    union = a.union(b)
    hull = rectangle(*union.bounds)
    expected = 1 - a.intersection(b).area / union.area + (hull.area - union.area) / hull.area
    assert giou_loss(one(*first, 0), one(*second, 0)).item() == pytest.approx(expected, abs=1e-6)


def test_a_quarter_turn_is_the_same_box() -> None:
    assert giou_loss(one(3, 4, 10, 6, 0), one(3, 4, 6, 10, -math.pi / 2)).item() == pytest.approx(0, abs=1e-8)


def test_boxes_apart_have_a_gradient_towards_each_other() -> None:
    pred = one(0, 0, 4, 4, 0).requires_grad_()
    loss = giou_loss(pred, one(20, 0, 4, 4, 0))
    torch.autograd.backward(loss.sum())
    assert pred.grad is not None
    assert loss.item() > 1
    assert pred.grad[0, 0] < 0  # to the right


def test_gradient() -> None:
    pred = torch.tensor([[0.0, 1, 8, 5, 0], [9, 4, 3, 7, 0.4]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[1.0, 0, 6, 6, 0], [0, 0, 4, 2, 0.1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: giou_loss(p, target), (pred,))


def test_empty_and_without_area() -> None:
    assert giou_loss(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0,)
    flat = torch.zeros(1, 5).requires_grad_()
    loss = giou_loss(flat, torch.zeros(1, 5))
    torch.autograd.backward(loss.sum())
    assert loss.isfinite().all()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
