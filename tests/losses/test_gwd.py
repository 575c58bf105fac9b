from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fledge.losses.gwd import gwd_loss

A = (0, 0, 4, 2, 0)


def boxes(*rows: tuple[float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).view(-1, 5)


def random_boxes(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u * torch.tensor([40, 40, 60, 30, 6]) + torch.tensor([0, 0, 3, 3, -3])


def slow_loss(pred: list[float], target: list[float], tau: float) -> float:
    """The definition, with the eigenvalues of the product: tr((S½ T S½)½) is the sum of the roots of those of S T."""

    def gaussian(box: list[float]) -> tuple[np.ndarray, np.ndarray]:
        cx, cy, w, h, a = box
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        return np.array([cx, cy]), turn @ np.diag([w * w / 4, h * h / 4]) @ turn.T

    (mp, sp), (mt, st) = gaussian(pred), gaussian(target)
    roots = np.sqrt(np.linalg.eigvals(sp @ st).real.clip(min=0)).sum()
    distance = (mp - mt) @ (mp - mt) + np.trace(sp) + np.trace(st) - 2 * roots
    scale = math.sqrt(pred[2] * pred[3] * target[2] * target[3])
    return 1 - 1 / (tau + math.log(1 + distance / scale))


@pytest.mark.parametrize(
    ("target", "distance", "scale"),
    [
        (A, 0.0, 8.0),
        ((1, 0, 4, 2, 0), 1.0, 8.0),
        ((0, 0, 4, 2, math.pi / 2), 2.0, 8.0),
        ((0, 0, 4, 2, math.pi / 4), 0.944615, 8.0),
        ((0, 0, 2, 1, 0), 1.25, 4.0),
        ((0, 0, 2, 4, -math.pi / 2), 0.0, 8.0),
    ],
)
def test_known_values(target: tuple[float, ...], distance: float, scale: float) -> None:
    expected = 1 - 1 / (1 + math.log(1 + distance / scale))
    assert gwd_loss(boxes(A), boxes(target)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_matches_the_definition(tau: float) -> None:
    pred, target = random_boxes(200, 0), random_boxes(200, 1)
    expected = [slow_loss(p, t, tau) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(
        gwd_loss(pred, target, tau), torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-7
    )


def test_the_size_in_pixels_does_not_matter() -> None:
    pred, target, zoom = random_boxes(50, 2), random_boxes(50, 3), torch.tensor([7.0, 7, 7, 7, 1]).double()
    torch.testing.assert_close(gwd_loss(pred * zoom, target * zoom), gwd_loss(pred, target))


def test_both_orders_have_one_loss() -> None:
    pred, target = random_boxes(50, 4), random_boxes(50, 5)
    torch.testing.assert_close(gwd_loss(pred, target), gwd_loss(target, pred))


def test_the_turn_of_a_square_is_not_seen() -> None:
    assert gwd_loss(boxes((0, 0, 5, 5, 0)), boxes((0, 0, 5, 5, 0.7))).item() == pytest.approx(0, abs=1e-12)
