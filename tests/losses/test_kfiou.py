from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fledge.losses.kfiou import kfiou_loss

A = (0, 0, 4, 2, 0)
LEAST = math.exp(2 / 3) - 1


def boxes(*rows: tuple[float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).view(-1, 5)


def random_boxes(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u * torch.tensor([40, 40, 60, 30, 6]) + torch.tensor([0, 0, 3, 3, -3])


def slow_loss(pred: list[float], target: list[float]) -> float:
    """The paper's steps with explicit matrices; the centre is measured by the labelled Gaussian."""

    def gaussian(box: list[float]) -> tuple[np.ndarray, np.ndarray]:
        cx, cy, w, h, a = box
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        return np.array([cx, cy]), turn @ np.diag([w * w / 4, h * h / 4]) @ turn.T

    (mp, sp), (mt, st) = gaussian(pred), gaussian(target)
    gain = sp @ np.linalg.inv(sp + st)
    vp, vt, v = (4 * math.sqrt(np.linalg.det(s)) for s in (sp, st, sp - gain @ sp))
    centre = math.log(float((mp - mt) @ np.linalg.inv(st) @ (mp - mt)) + 1)
    return centre + math.exp(1 - v / (vp + vt - v)) - 1


@pytest.mark.parametrize(
    ("target", "distance", "overlap"),
    [
        (A, 0.0, 1 / 3),
        ((1, 0, 4, 2, 0), 0.25, 1 / 3),  # half a standard deviation along the long side
        ((0, 1, 4, 2, 0), 1.0, 1 / 3),
        ((0, 0, 4, 2, math.pi / 2), 0.0, 0.25),
        ((0, 0, 4, 2, math.pi / 4), 0.0, 0.283471),
        ((0, 0, 2, 1, 0), 0.0, 0.190476),
        ((0, 0, 2, 4, -math.pi / 2), 0.0, 1 / 3),
    ],
)
def test_known_values(target: tuple[float, ...], distance: float, overlap: float) -> None:
    expected = math.log(1 + distance) + math.exp(1 - overlap) - 1
    assert kfiou_loss(boxes(A), boxes(target)).item() == pytest.approx(expected, abs=2e-6)


def test_matches_the_definition() -> None:
    pred, target = random_boxes(200, 0), random_boxes(200, 1)
    expected = [slow_loss(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(
        kfiou_loss(pred, target), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


def test_the_least_loss_is_that_of_equal_boxes() -> None:
    target = random_boxes(100, 2)
    torch.testing.assert_close(kfiou_loss(target, target), torch.full((100,), LEAST, dtype=torch.float64))
    assert bool((kfiou_loss(random_boxes(100, 3), target) > LEAST).all())


def test_a_larger_prediction_does_not_excuse_its_offset() -> None:
    """The centre term does not depend on the predicted size: no prediction can inflate itself out of it."""
    target = boxes(A)
    offset = [kfiou_loss(boxes((3, 0, s * 4, s * 2, 0)), target) for s in (1, 10)]
    centred = [kfiou_loss(boxes((0, 0, s * 4, s * 2, 0)), target) for s in (1, 10)]
    assert (offset[0] - centred[0]).item() == pytest.approx((offset[1] - centred[1]).item(), abs=1e-12)


def test_the_size_in_pixels_does_not_matter() -> None:
    pred, target, zoom = random_boxes(50, 4), random_boxes(50, 5), torch.tensor([7.0, 7, 7, 7, 1]).double()
    torch.testing.assert_close(kfiou_loss(pred * zoom, target * zoom), kfiou_loss(pred, target))
