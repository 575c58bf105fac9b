from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fledge.losses.focal import focal_loss


def slow_focal(logits: NDArray[np.float64], labels: list[int], alpha: float, gamma: float) -> list[float]:
    """The paper's equation 5, one score at a time."""
    losses = []
    for row, label in zip(logits.tolist(), labels, strict=True):
        total = 0.0
        for k, z in enumerate(row):
            p = 1 / (1 + math.exp(-z))
            p_t, alpha_t = (p, alpha) if k == label else (1 - p, 1 - alpha)
            total -= alpha_t * (1 - p_t) ** gamma * math.log(p_t)
        losses.append(total)
    return losses


def test_by_hand() -> None:
    # p = 1/2: 0.25 · 0.25 · ln 2 for the right class, 0.75 · 0.25 · ln 2 for each other one.
    loss = focal_loss(torch.zeros(3, 2), torch.tensor([0, 1, 2]))
    positive, negative = 0.0625 * math.log(2), 0.1875 * math.log(2)
    torch.testing.assert_close(loss, torch.tensor([positive + negative] * 2 + [2 * negative]))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
@pytest.mark.parametrize("seed", range(3))
def test_matches_the_formula(alpha: float, gamma: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(40, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 7, (40,), generator=generator)
    expected = slow_focal(logits.numpy(), labels.tolist(), alpha, gamma)
    torch.testing.assert_close(focal_loss(logits, labels, alpha, gamma), torch.tensor(expected, dtype=torch.float64))


def test_any_label_from_k_on_is_background() -> None:
    logits = torch.tensor([[0.3, -1.0]])
    background = focal_loss(logits, torch.tensor([2]))
    assert torch.equal(focal_loss(logits, torch.tensor([9])), background)
    assert not torch.equal(focal_loss(logits, torch.tensor([1])), background)


def test_permuting_classes_changes_nothing() -> None:
    logits, labels = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 5
    order = torch.tensor([2, 0, 3, 1])
    renamed = torch.cat([order.argsort(), torch.tensor([4])])[labels]
    torch.testing.assert_close(focal_loss(logits[:, order], renamed), focal_loss(logits, labels))


@pytest.mark.parametrize("seed", range(3))
def test_gradient(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 4, (5,), generator=generator)
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, labels), logits)


def test_no_anchors() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = focal_loss(logits, torch.zeros(0, dtype=torch.int64))
    assert loss.shape == (0,)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_stay_finite(size: float) -> None:
    logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]))
    assert loss.tolist() == pytest.approx([0, 0.25 * size + 0.75 * size])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert bool(gradient.isfinite().all())
