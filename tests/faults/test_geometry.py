"""Rotated boxes as data, networks and scenes hand them over. One function a row of the list of faults."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from tests.geometry.oracle import slow_iou
from tests.geometry.test_iou import FIXTURES
from torch import Tensor

from fledge.errors import NumericError
from fledge.geometry import canonicalize, corners, rotated_iou, rotated_iou_pairs, rotated_nms
from fledge.geometry.convert import from_torchvision


def any_boxes(count: int, seed: int, side: float = 1500) -> Tensor:
    """Boxes (count, 5) float64 with sides of 0.5 to 2,000 px, many of them 1:50."""
    u = torch.rand(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    w = 0.5 * 4000 ** u[:, 2]
    h = torch.where(u[:, 5] < 0.3, w / 50, 0.5 * 4000 ** u[:, 3])
    return torch.stack([u[:, 0] * side, u[:, 1] * side, w, h, (u[:, 4] - 0.5) * 4 * math.pi], dim=1)


def by_shapely(first: Tensor, second: Tensor) -> Tensor:
    values = []
    for p, q in zip(corners(first).tolist(), corners(second).tolist(), strict=True):
        a, b = Polygon(p), Polygon(q)
        inter = a.intersection(b).area
        values.append(inter / (a.area + b.area - inter))
    return torch.tensor(values, dtype=torch.float64)


def check_against_shapely(count: int) -> None:
    first, second = any_boxes(count, 0), any_boxes(count, 1)
    expected = by_shapely(first, second)
    assert (expected > 0).sum() > count / 20
    exact = rotated_iou(first, second, aligned=True)
    torch.testing.assert_close(exact, expected, atol=1e-9, rtol=0)
    single = rotated_iou(first.float(), second.float(), aligned=True)
    torch.testing.assert_close(single.double(), expected, atol=1e-4, rtol=0)


def test_g1_against_shapely() -> None:
    """G1: IoU of random pairs, sides of 0.5 to 2,000 px and aspects to 1:50: within 1e-4 of Shapely in float32, 1e-9 in
    float64."""
    check_against_shapely(2000)


@pytest.mark.slow
def test_g1_against_shapely_100_000_pairs() -> None:
    """G1 on 100,000 pairs."""
    check_against_shapely(100_000)


def test_g2_near_identical_boxes() -> None:
    """G2: 12,000 near-identical pairs (half or full turns, one unit in the last place, 1e-6, swapped sides): none below
    0.998, all in [0, 1], symmetric."""
    boxes = any_boxes(2000, 2).float()
    boxes[:, 2:4].clamp_(min=2)  # below, a unit of a coordinate of 1,500 px is a ten-thousandth of a side
    turn = torch.tensor([0, 0, 0, 0, math.pi])
    swapped = boxes[:, [0, 1, 3, 2, 4]] + turn / 2
    relative = boxes * (1 + 1e-6 * torch.tensor([0, 0, 1, 1, 0]))
    copies = (boxes + turn, boxes - turn, boxes + 2 * turn, boxes.nextafter(boxes + 1), relative, swapped)
    for copy in copies:
        there, back = rotated_iou(boxes, copy, aligned=True), rotated_iou(copy, boxes, aligned=True)
        assert ((there > 0.998) & (there <= 1)).all()
        torch.testing.assert_close(there, back, atol=1e-6, rtol=0)


def test_g3_published_failures() -> None:
    """G3: pairs from the issues of other libraries, on which one said 0 for a box with itself, another 1.35."""
    for _, a, b, expected, degrees in FIXTURES:
        one, two = torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
        if degrees:
            one, two = from_torchvision(one), from_torchvision(two)
        assert rotated_iou(one, two).item() == pytest.approx(expected, abs=2e-6)


def test_zero_boxes() -> None:
    """Zero boxes (0, 5) on either side: result shape (0, M) or (N, 0), no pairs, nothing kept; no warning."""
    none, some = torch.zeros(0, 5), torch.rand(3, 5)
    assert rotated_iou(none, some).shape == (0, 3)
    assert rotated_iou(some, none).shape == (3, 0)
    assert len(rotated_iou_pairs(none, some)[0]) == 0
    assert rotated_nms(none, torch.zeros(0), 0.5).tolist() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(value: float) -> None:
    """NaN or infinity in a coordinate: the overlap is NaN, never 0, and its gradient too; suppression refuses it by
    name."""
    good = torch.tensor([[500.0, 500, 5, 5, 0.3]])
    for column in range(5):
        bad = good.clone()
        bad[0, column] = value
        bad.requires_grad_()
        overlap = rotated_iou(bad, good)
        assert overlap.isnan().all()
        (gradient,) = torch.autograd.grad(overlap.sum(), bad)
        assert gradient.isnan().any()
        with pytest.raises(NumericError, match="box 0"):
            rotated_nms(bad.detach(), torch.ones(1), 0.5)


@settings(max_examples=300)
@given(
    st.floats(-1e3, 1e3),
    st.floats(0.5, 200),
    st.floats(0.5, 200),
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([1e6, -math.pi / 2, math.pi / 2, 0.0])),
    st.booleans(),
)
def test_angles(centre: float, w: float, h: float, angle: float, square: bool) -> None:
    """An angle of 1e6 rad, of -pi/2 and pi/2, square boxes: the canonical form is one, and keeps the corners."""
    box = torch.tensor([[centre, -centre, w, w if square else h, angle]], dtype=torch.float64)
    once = canonicalize(box)
    assert torch.equal(canonicalize(once), once)
    assert once[0, 2] >= once[0, 3]
    assert -math.pi / 2 <= once[0, 4] < math.pi / 2
    apart = torch.cdist(corners(box)[0], corners(once)[0])
    assert apart.amin(dim=1).max() < 1e-3
    assert rotated_iou(box, once).item() == pytest.approx(1, abs=1e-6)


def test_scene_coordinates() -> None:
    """Coordinates of 1e5 px (a scene's) in float32: the error of an overlap is below 1e-4."""
    first = any_boxes(500, 3)
    first[:, :2] += 1e5
    second = first + torch.randn(500, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([3, 3, 0, 0, 0.1])
    first, second = first.float(), second.float()
    expected = [slow_iou(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    got = rotated_iou(first, second, aligned=True)
    torch.testing.assert_close(got.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([4, 0, 4, 2, 0], 0.0),  # an edge
        ([4, 2, 4, 2, 0], 0.0),  # a corner
        ([0, 0, 2, 1, 0], 0.25),  # inside
        ([1, 0.5, 2, 1, 0], 0.25),  # inside, along two edges
        ([0, 0, 2, 4, math.pi / 2], 1.0),
    ],
)
def test_shared_boundaries(other: list[float], expected: float) -> None:
    """Shared edges, shared corners, contained boxes: exact at any common angle."""
    for angle in (0.0, 0.3, -1.2, math.pi / 4):
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        pair = torch.tensor([[0, 0, 4, 2, 0], other], dtype=torch.float64)
        pair = torch.cat([pair[:, :2] @ turn.T.double(), pair[:, 2:4], pair[:, 4:] + angle], dim=1)
        assert rotated_iou(pair[:1], pair[1:]).item() == pytest.approx(expected, abs=1e-7)


def test_half_precision() -> None:
    """Half precision: overlaps are computed in float64 and given as float32, also under autocast."""
    boxes = any_boxes(50, 4, 100).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = rotated_iou(boxes, boxes)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, rotated_iou(boxes.float(), boxes.float()))
