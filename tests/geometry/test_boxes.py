from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.geometry import areas, boxes_from_quads, canonicalize, corners, hulls

from .oracle import corner_points

ANGLES = st.floats(-1e6, 1e6) | st.sampled_from([k * math.pi / 4 for k in range(-9, 10)])
SIDES = st.floats(0, 1000) | st.sampled_from([0.0, 1e-3, 10.0])


def same_points(a: Tensor, b: Tensor) -> float:
    """Largest distance from a corner of one box to the nearest corner of the other, per set."""
    distance = (corners(a.double())[:, :, None] - corners(b.double())[:, None]).norm(dim=-1)
    return float(torch.maximum(distance.amin(1), distance.amin(2)).max())


def test_corners_by_hand() -> None:
    got = corners(torch.tensor([10.0, 20.0, 4.0, 2.0, math.pi / 2]))
    torch.testing.assert_close(got, torch.tensor([[11.0, 18.0], [11.0, 22.0], [9.0, 22.0], [9.0, 18.0]]))


def test_corners_match_the_oracle() -> None:
    box = [3.0, -2.0, 7.0, 2.5, 0.7]
    torch.testing.assert_close(corners(torch.tensor([box]).double())[0], torch.tensor(corner_points(box)).double())


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 2, 1, 0.3], [0, 0, 2, 1, 0.3]),
        ([0, 0, 1, 2, 0.3], [0, 0, 2, 1, 0.3 - math.pi / 2]),
        ([0, 0, 1, 2, -0.3], [0, 0, 2, 1, math.pi / 2 - 0.3]),
        ([0, 0, 1, 2, 0], [0, 0, 2, 1, -math.pi / 2]),
        ([0, 0, 2, 1, -math.pi / 2], [0, 0, 2, 1, -math.pi / 2]),
        ([0, 0, 2, 1, math.pi / 2], [0, 0, 2, 1, -math.pi / 2]),
        ([0, 0, 2, 2, 1.0], [0, 0, 2, 2, 1.0]),
        ([0, 0, 2, 1, 3.5], [0, 0, 2, 1, 3.5 - math.pi]),
    ],
)
def test_canonicalize_by_hand(box: list[float], expected: list[float]) -> None:
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(
            canonicalize(torch.tensor([box], dtype=dtype)), torch.tensor([expected], dtype=dtype)
        )


@given(w=SIDES, h=SIDES, angle=ANGLES, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_canonicalize_keeps_the_corners_and_settles(w: float, h: float, angle: float, dtype: torch.dtype) -> None:
    box = torch.tensor([[5.0, -7.0, w, h, angle]], dtype=dtype)
    once = canonicalize(box)
    assert once[0, 2] >= once[0, 3]
    assert -math.pi / 2 <= once[0, 4] < math.pi / 2
    assert torch.equal(canonicalize(once), once)
    assert same_points(box, once) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_canonicalize_settles_at_the_borders(dtype: torch.dtype) -> None:
    border = torch.tensor([-math.pi / 2, math.pi / 2, -math.pi, 0.0, math.pi], dtype=dtype)
    infinity = torch.tensor(math.inf, dtype=dtype)
    angle = torch.cat([border, border.nextafter(infinity), border.nextafter(-infinity)])
    for w, h in ((2.0, 1.0), (1.0, 2.0), (1.0, 1.0)):
        boxes = torch.stack(
            [torch.zeros_like(angle)] * 2 + [torch.full_like(angle, s) for s in (w, h)] + [angle], dim=1
        )
        once = canonicalize(boxes)
        assert torch.equal(canonicalize(once), once)
        assert ((once[:, 4] >= -math.pi / 2) & (once[:, 4] < math.pi / 2)).all()


def test_canonicalize_is_differentiable_and_passes_nan() -> None:
    boxes = torch.tensor([[1, 2, 3, 4, 5.0], [1, 2, 4, 3, 0.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(canonicalize, boxes)
    assert canonicalize(torch.tensor([[0, 0, 2, 1, math.nan]])).isnan()[0, 4]


def test_hulls_and_areas() -> None:
    boxes = torch.randn(200, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 20
    boxes[:, 2:4] = boxes[:, 2:4].abs()
    points = corners(boxes)
    torch.testing.assert_close(hulls(boxes), torch.cat([points.amin(1), points.amax(1)], dim=1))
    assert areas(torch.tensor([[0, 0, 3, 4, 1.0], [0, 0, -3, -4, 1.0]])).tolist() == [12.0, 0.0]


def test_quads_of_boxes_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2000, 5, generator=generator, dtype=torch.float64)
    boxes = canonicalize(boxes * torch.tensor([1000, 1000, 300, 300, 10.0], dtype=torch.float64))
    for shift in range(4):
        quads = corners(boxes).roll(shift, dims=1)
        for order in (quads, quads.flip(1), quads[:, [0, 2, 1, 3]]):
            back = boxes_from_quads(order)
            assert same_points(back, boxes) < 1e-9
            torch.testing.assert_close(back[:, 2:4], boxes[:, 2:4])


def test_quads_in_float32_are_canonical() -> None:
    boxes = torch.tensor([[500.0, 300, 40, 10, -math.pi / 2], [500, 300, 40, 10, 0], [9, 9, 5, 5, 0.4]])
    back = boxes_from_quads(corners(boxes))
    assert torch.equal(canonicalize(back), back)
    assert same_points(back, boxes) < 1e-4


def test_quads_get_the_smallest_box() -> None:
    """All points are inside, and no direction of a fine sweep does it in less area, convex or not."""
    quads = torch.rand(300, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 100
    boxes = boxes_from_quads(quads)
    angle = torch.linspace(0, math.pi / 2, 721, dtype=torch.float64)
    along = torch.stack([angle.cos(), angle.sin()], dim=1)
    across = torch.stack([-angle.sin(), angle.cos()], dim=1)
    extent = [(p.amax(1) - p.amin(1)) for p in (quads @ along.T, quads @ across.T)]
    best = (extent[0] * extent[1]).amin(dim=1)
    assert (areas(boxes) <= best + 1e-9).all()
    assert (areas(boxes) >= best * 0.98).all()
    local = quads - boxes[:, None, :2]
    cos, sin = boxes[:, 4:5].cos(), boxes[:, 4:5].sin()
    assert ((local[..., 0] * cos + local[..., 1] * sin).abs() <= boxes[:, 2:3] / 2 + 1e-9).all()
    assert ((local[..., 1] * cos - local[..., 0] * sin).abs() <= boxes[:, 3:4] / 2 + 1e-9).all()


def test_degenerate_quads_are_finite() -> None:
    quads = torch.tensor(
        [
            [[5, 5]] * 4,
            [[0, 0], [1, 1], [3, 3], [2, 2]],
            [[0, 0], [4, 0], [4, 0], [0, 0]],
            [[0, 0], [4, 0], [0, 3], [0, 0]],
        ]
    ).float()
    boxes = boxes_from_quads(quads)
    assert boxes.isfinite().all()
    torch.testing.assert_close(areas(boxes), torch.tensor([0.0, 0.0, 0.0, 12.0]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(boxes[1, 2], torch.tensor(math.sqrt(18)))


def test_empty() -> None:
    empty = torch.zeros(0, 5)
    assert corners(empty).shape == (0, 4, 2)
    assert canonicalize(empty).shape == (0, 5)
    assert hulls(empty).shape == (0, 4)
    assert areas(empty).shape == (0,)
    assert boxes_from_quads(torch.zeros(0, 4, 2)).shape == (0, 5)
