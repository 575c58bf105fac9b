from __future__ import annotations

import math

import pytest
import torch
from shapely.geometry import Polygon
from torch import Tensor

from fledge.losses.rotated_iou import rotated_iou_loss

A = (0, 0, 4, 2, 0)


def boxes(*rows: tuple[float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).view(-1, 5)


def polygon(box: list[float]) -> Polygon:
    cx, cy, w, h, a = box
    c, s = math.cos(a), math.sin(a)
    offsets = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return Polygon([(cx + u * c - v * s, cy + u * s + v * c) for u, v in offsets])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (A, 0.0),
        ((2, 0, 4, 2, 0), 1 - 4 / 12),
        ((0, 0, 4, 2, math.pi / 2), 1 - 4 / 12),
        ((0, 0, 2, 1, 0), 0.75),
        ((4, 0, 4, 2, 0), 1.0),  # they touch
        ((100, 0, 4, 2, 0), 1.0),
        ((0, 0, 0, 2, 0), 1 - 1e-3 * 2 / 8),  # a side is at least a thousandth of a pixel
        ((0, 0, 2, 4, -math.pi / 2), 0.0),
    ],
)
def test_known_values(target: tuple[float, ...], expected: float) -> None:
    assert rotated_iou_loss(boxes(A), boxes(target)).item() == pytest.approx(expected, abs=1e-12)


def test_matches_polygons() -> None:
    u = torch.rand(2, 200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pred, target = (u * torch.tensor([20, 20, 40, 20, 6]) + torch.tensor([0, 0, 3, 3, -3])).unbind(0)
    expected = []
    for p, t in zip(map(polygon, pred.tolist()), map(polygon, target.tolist()), strict=True):
        expected.append(1 - p.intersection(t).area / p.union(t).area)
    assert 20 < sum(e < 0.9 for e in expected) < 200
    torch.testing.assert_close(
        rotated_iou_loss(pred, target), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


def test_boxes_apart_are_not_pulled_together() -> None:
    """As the docstring says: no overlap, no gradient."""
    pred = boxes((0, 0, 4, 2, 0.3)).requires_grad_()
    (gradient,) = torch.autograd.grad(rotated_iou_loss(pred, boxes((10, 0, 4, 2, 0))).sum(), pred)
    assert gradient.abs().max() == 0


def test_overlapping_boxes_are_pulled_together() -> None:
    pred = boxes((1, 0, 4, 2, 0), (0, 0.5, 4, 2, 0), (0, 0, 5, 2, 0), (0, 0, 4, 3, 0), (0, 0, 4, 2, 0.3))
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(rotated_iou_loss(pred, boxes(*[A] * 5)).sum(), pred)
    assert (gradient.diagonal() > 0.05).all()
