"""What every loss between decoded and labelled boxes owes: gradients, and finite numbers whatever the boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.build import BOX_LOSSES
from fledge.geometry import decode, encode
from fledge.losses.gwd import gwd_loss
from fledge.losses.kfiou import kfiou_loss
from fledge.losses.kld import kld_loss
from fledge.losses.rotated_iou import rotated_iou_loss

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"kld": kld_loss, "gwd": gwd_loss, "kfiou": kfiou_loss, "rotated_iou": rotated_iou_loss}
LEAST = {"kfiou": math.exp(2 / 3) - 1}
each_loss = pytest.mark.parametrize("name", LOSSES)


def overlapping(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of boxes that overlap without sharing a line: every loss is differentiable there."""
    u = torch.rand(2, count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high = torch.tensor([18.0, 18, 20, 8, -1.5]), torch.tensor([22.0, 22, 40, 18, 1.5])
    first, second = (low + (high - low) * u).unbind(0)
    return first, second


@each_loss
@pytest.mark.parametrize("seed", range(10))
def test_gradient(name: str, seed: int) -> None:
    pred, target = (x.requires_grad_() for x in overlapping(3, seed))
    assert torch.autograd.gradcheck(LOSSES[name], (pred, target))


@each_loss
def test_no_boxes(name: str) -> None:
    pred = torch.zeros(0, 5, requires_grad=True)
    loss = LOSSES[name](pred, torch.zeros(0, 5))
    assert loss.shape == (0,)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert pred.grad is not None


@each_loss
def test_a_step_downhill_helps(name: str) -> None:
    pred, target = overlapping(50, 20)
    pred.requires_grad_()
    before = LOSSES[name](pred, target)
    (gradient,) = torch.autograd.grad(before.sum(), pred)
    assert bool((gradient.norm(dim=1) > 1e-6).all())
    size = 1e-4 / gradient.norm(dim=1, keepdim=True)
    assert bool((LOSSES[name](pred - size * gradient, target) < before).all())


@each_loss
@pytest.mark.parametrize("column", range(5))
def test_nan_is_never_hidden(name: str, column: int) -> None:
    sound = torch.tensor([[10.0, 10, 8, 4, 0.2], [50, 50, 8, 4, 0.2]])
    broken = sound.clone()
    broken[0, column] = math.nan
    for loss in (LOSSES[name](broken, sound), LOSSES[name](sound, broken)):
        assert loss.isnan().tolist() == [True, False]


@each_loss
def test_its_name_in_a_recipe(name: str) -> None:
    """What the detector calls with codes, anchors and labelled boxes is this loss of the decoded boxes."""
    pred, target = overlapping(20, 30)
    anchors = torch.tensor([[20.0, 20, 24, 24, 0]], dtype=torch.float64).expand(20, 5)
    codes = encode(anchors, pred)
    torch.testing.assert_close(BOX_LOSSES[name](codes, anchors, target), LOSSES[name](decode(anchors, codes), target))
    torch.testing.assert_close(BOX_LOSSES[name](codes, anchors, target), LOSSES[name](pred, target))


VALUE = st.floats(-1e5, 1e5, width=32)
SIDE = st.one_of(st.sampled_from([0.0, 1e-42, 1e-3, 1.0, 20.0, 4000.0]), st.floats(0, 5000, width=32))
ANGLE = st.one_of(st.sampled_from([0.0, math.pi / 2, -math.pi / 2, math.pi / 4]), st.floats(-10, 10, width=32))
BOX = st.tuples(VALUE, VALUE, SIDE, SIDE, ANGLE)
NEAR = st.tuples(st.floats(-20, 20, width=32), st.floats(-20, 20, width=32), SIDE, SIDE, ANGLE)
PAIR = st.one_of(st.tuples(BOX, BOX), st.tuples(NEAR, NEAR), NEAR.map(lambda box: (box, box)))


@each_loss
@settings(max_examples=100)
@given(pairs=st.lists(PAIR, min_size=1, max_size=10))
def test_any_batch_has_finite_losses_and_gradients(name: str, pairs: list[tuple[tuple[float, ...], ...]]) -> None:
    pred, target = (torch.tensor(rows, dtype=torch.float32) for rows in zip(*pairs, strict=True))
    pred.requires_grad_()
    loss = LOSSES[name](pred, target)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    assert loss.dtype == torch.float32
    assert bool((loss >= LEAST.get(name, 0.0) - 1e-6).all())
    assert bool(loss.isfinite().all())
    assert bool(gradient.isfinite().all())


@each_loss
@settings(max_examples=40)
@given(pairs=st.lists(st.tuples(NEAR, NEAR), min_size=1, max_size=6))
def test_one_set_of_points_has_one_loss(name: str, pairs: list[tuple[tuple[float, ...], ...]]) -> None:
    pred, target = (torch.tensor(rows, dtype=torch.float64) for rows in zip(*pairs, strict=True))
    turned = pred[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, math.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](turned, target), LOSSES[name](pred, target), rtol=1e-6, atol=1e-6)
    moved = torch.tensor([3.0, -2, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(
        LOSSES[name](pred + moved, target + moved), LOSSES[name](pred, target), rtol=1e-6, atol=1e-6
    )
