from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import shapely
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry import areas, boxes_from_quads, canonicalize, corners, min_area_boxes, points_in_boxes

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COORDINATES = st.floats(-100, 100) | st.integers(-3, 3).map(float)
POINT_SETS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=9)


def random_sets(count: int, size: int, seed: int) -> Tensor:
    return torch.randn(count, size, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 30 + 50


def smallest_area(points: list[tuple[float, float]]) -> float:
    """Every direction from point to point is tried: the hull's edges are among them."""
    best = math.inf
    for px, py in points:
        for qx, qy in points:
            length = math.hypot(qx - px, qy - py)
            if length > 0:
                ux, uy = (qx - px) / length, (qy - py) / length
                along = [(x - px) * ux + (y - py) * uy for x, y in points]
                across = [(y - py) * ux - (x - px) * uy for x, y in points]
                best = min(best, (max(along) - min(along)) * (max(across) - min(across)))
    return 0.0 if best == math.inf else best


def farthest_outside(boxes: Tensor, points: Tensor) -> float:
    """How far a point (N, P, 2) lies outside its box (N, 5), in pixels."""
    dx, dy = (points - boxes[:, None, :2]).unbind(-1)
    cos, sin = boxes[:, 4:].cos(), boxes[:, 4:].sin()
    along, across = (dx * cos + dy * sin).abs(), (dy * cos - dx * sin).abs()
    return float(torch.maximum(along - boxes[:, 2:3] / 2, across - boxes[:, 3:4] / 2).max())


def test_boxes_by_hand() -> None:
    triangle = torch.tensor([[0, 0], [4, 0], [1, 2]]).double()
    dart = torch.tensor([[0, 0], [6, 0], [6, 4], [0, 4], [3, 2]]).double()
    tilted = corners(torch.tensor([5, 5, 6, 2, math.pi / 6], dtype=torch.float64))
    got = min_area_boxes([triangle, dart, torch.cat([tilted, tilted.mean(0, keepdim=True)])])
    expected = [[2, 1, 4, 2, 0], [3, 2, 6, 4, 0], [5, 5, 6, 2, math.pi / 6]]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("size", [3, 5, 30, 300])
def test_random_sets_match_shapely(size: int) -> None:
    points = random_sets(60, size, size)
    got = min_area_boxes(points)
    rectangles = shapely.minimum_rotated_rectangle(shapely.multipoints(points.numpy()))
    torch.testing.assert_close(areas(got), torch.from_numpy(shapely.area(rectangles)), rtol=1e-9, atol=0)
    assert farthest_outside(got, points) < 1e-10
    assert torch.equal(got, canonicalize(got))


@settings(max_examples=100)
@given(points=POINT_SETS)
def test_no_direction_between_points_does_better(points: list[tuple[float, float]]) -> None:
    """Also for repeated points, points in a line, and a single one."""
    sets = torch.tensor([points], dtype=torch.float64)
    got = min_area_boxes(sets)
    assert areas(got).item() == pytest.approx(smallest_area(points), abs=1e-9)
    assert farthest_outside(got, sets) < 1e-9
    assert got[0, 2] >= got[0, 3] >= 0
    assert -math.pi / 2 <= got[0, 4] < math.pi / 2


def test_four_points_agree_with_boxes_from_quads() -> None:
    quads = random_sets(500, 4, 0)
    got, expected = min_area_boxes(quads), boxes_from_quads(quads)
    torch.testing.assert_close(areas(got), areas(expected), rtol=1e-9, atol=0)
    same = (got[:, 4] - expected[:, 4]).abs() < 1e-6  # around a triangle up to three boxes are the smallest
    assert same.sum() > 400
    torch.testing.assert_close(got[same], expected[same], rtol=1e-9, atol=1e-9)


def test_order_repetition_and_inner_points_do_not_matter() -> None:
    points = random_sets(40, 12, 1)
    expected = min_area_boxes(points)
    inner = points.mean(dim=1, keepdim=True)
    for other in (points.flip(1), torch.cat([points, points[:, 2:5]], dim=1), torch.cat([inner, points], dim=1)):
        torch.testing.assert_close(min_area_boxes(other), expected, rtol=1e-9, atol=1e-9)


def test_grids_have_many_points_in_line() -> None:
    """Every hull edge of a turned grid holds a row of points, in line only up to rounding."""
    steps = torch.arange(8, dtype=torch.float64)
    grid = torch.cartesian_prod(steps * 2, steps)
    for angle in (0.0, 0.3, math.pi / 4, 1.5, -1.2):
        turn = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64
        )
        got = min_area_boxes((grid @ turn)[None])
        assert areas(got).item() == pytest.approx(14 * 7, rel=1e-12)
        assert got[0, 4].item() == pytest.approx(angle, abs=1e-9)


def test_padding_and_lists() -> None:
    sets = [random_sets(1, size, size)[0] for size in (7, 1, 3, 20)]
    expected = torch.cat([min_area_boxes(points[None]) for points in sets])
    torch.testing.assert_close(min_area_boxes(sets), expected)
    padded = torch.full((4, 25, 2), math.nan, dtype=torch.float64)
    mask = torch.zeros(4, 25, dtype=torch.bool)
    for row, points in enumerate(sets):
        place = slice(row, row + len(points))  # in the middle
        padded[row, place], mask[row, place] = points, True
    torch.testing.assert_close(min_area_boxes(padded, mask), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_point_that_is_not_finite_makes_the_box_nan(bad: float) -> None:
    points = random_sets(3, 6, 2)
    points[1, 4, 0] = bad
    points[2, 0, 1] = bad
    got = min_area_boxes(points)
    assert got[0].isfinite().all()
    assert got[1:].isnan().all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_boxes_in_every_dtype(dtype: torch.dtype, device: str) -> None:
    points = random_sets(20, 9, 3).to(device, dtype).requires_grad_(dtype.is_floating_point)
    expected = min_area_boxes(points.detach().cpu().double())
    with torch.autocast(device, torch.bfloat16):
        got = min_area_boxes(points)
    assert got.dtype == torch.promote_types(dtype, torch.float32)
    assert got.device.type == device
    assert not got.requires_grad
    torch.testing.assert_close(got.cpu(), expected.to(got.dtype), rtol=1e-6, atol=1e-6)


def test_far_from_the_origin() -> None:
    """At 1e5 px a float32 box is as near as its dtype can write it."""
    points = (random_sets(50, 10, 4) + 1e5).float()
    got = min_area_boxes(points)
    torch.testing.assert_close(areas(got).double(), areas(min_area_boxes(points.double())), rtol=1e-6, atol=0)
    assert farthest_outside(got.double(), points.double()) < 0.02


def test_few_directions_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = random_sets(20, 50, 5)
    expected = min_area_boxes(points)
    monkeypatch.setattr("fledge.geometry.boxes._PROJECTIONS", 700)
    torch.testing.assert_close(min_area_boxes(points), expected, rtol=1e-12, atol=1e-12)


def test_no_sets() -> None:
    assert min_area_boxes([]).shape == (0, 5)
    assert min_area_boxes(torch.zeros(0, 0, 2)).shape == (0, 5)
    assert min_area_boxes(torch.zeros(0, 5, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: min_area_boxes(torch.zeros(3, 8)), r"shape \(3, 8\): give \(N, P, 2\)"),
        (lambda: min_area_boxes(torch.zeros(2, 0, 2)), "set 0: it has no points"),
        (lambda: min_area_boxes([torch.zeros(3, 2), torch.zeros(0, 2)]), "set 1: it has no points"),
        (lambda: min_area_boxes(torch.zeros(2, 3, 2), torch.ones(2, 4, dtype=torch.bool)), "mask of shape"),
        (lambda: min_area_boxes(torch.zeros(2, 3, 2), torch.ones(2, 3)), r"float32: give \(N, P\) bool"),
        (lambda: min_area_boxes([torch.zeros(3, 2)], torch.ones(1, 3, dtype=torch.bool)), "with a tensor"),
        (lambda: points_in_boxes(torch.zeros(3, 3), torch.zeros(2, 5)), r"give \(M, 2\) and \(N, 5\)"),
        (lambda: points_in_boxes(torch.zeros(3, 2), torch.zeros(2, 4)), r"\(3, 2\) and \(2, 4\)"),
    ],
)
def test_what_cannot_be_is_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_points_by_hand() -> None:
    boxes = torch.tensor([[2, 1, 4, 2, 0], [0, 0, 2, 2, math.pi / 4], [0, 0, 4, 1, math.pi / 2]])
    points = torch.tensor([[0.0, 0], [4, 2], [4.001, 1], [0.9, 0.9], [0, 1.4], [0, 1.42]])
    expected = [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1], [1, 0, 1]]
    assert points_in_boxes(points, boxes).int().tolist() == expected


def test_the_border_belongs_to_the_box() -> None:
    """Corners and sides of upright boxes exactly, also at 1e5 px in float32; one step further is outside."""
    u = torch.randint(-100, 100, (50, 4), generator=torch.Generator().manual_seed(6)).float()
    low, high = u[:, :2] + 1e5, u[:, :2] + 1e5 + u[:, 2:].abs() + 1
    boxes = torch.cat([(low + high) / 2, high - low, torch.zeros(50, 1)], dim=1)
    for border, beyond in ((low, low.nextafter(torch.tensor(0.0))), (high, high.nextafter(torch.tensor(1e9)))):
        assert points_in_boxes(border, boxes).diag().all()
        assert not points_in_boxes(beyond, boxes).diag().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_match_shapely(dtype: torch.dtype) -> None:
    u = torch.rand(40, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    boxes = (u * torch.tensor([100, 100, 60, 60, 9.0])).to(dtype)
    points = (torch.rand(400, 2, generator=torch.Generator().manual_seed(8)) * 100).to(dtype)
    shapes = shapely.polygons(corners(boxes.double()).numpy())
    expected = shapely.contains(shapes[None], shapely.points(points.double().numpy())[:, None])
    got = points_in_boxes(points, boxes)
    assert got.dtype == torch.bool
    assert 1000 < got.sum() < 10_000
    assert torch.equal(got, torch.from_numpy(expected))


@settings(max_examples=60)
@given(
    point=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    box=st.tuples(*(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.1, 90), st.floats(0.1, 90), st.floats(-9, 9))),
    turn=st.floats(-math.pi, math.pi),
    shift=st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)),
)
def test_moving_both_keeps_points_inside(
    point: tuple[float, float],
    box: tuple[float, float, float, float, float],
    turn: float,
    shift: tuple[float, float],
) -> None:
    points, boxes = torch.tensor([point], dtype=torch.float64), torch.tensor([box], dtype=torch.float64)
    assume(abs(farthest_outside(boxes, points[None])) > 1e-6)
    inside = points_in_boxes(points, boxes)
    assert inside.item() == (farthest_outside(boxes, points[None]) < 0)
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    offset = torch.tensor(shift, dtype=torch.float64)
    moved = torch.cat([boxes[:, :2] @ matrix + offset, boxes[:, 2:4], boxes[:, 4:] + turn], dim=1)
    assert torch.equal(points_in_boxes(points @ matrix + offset, moved), inside)
    assert torch.equal(points_in_boxes(points, canonicalize(boxes)), inside)


def test_boxes_without_area_hold_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 2, 0], [0, 0, 2, 0, 0], [0, 0, -2, 2, 0], [0, 0, 2, 2, 0]])
    assert points_in_boxes(torch.zeros(1, 2), boxes).tolist() == [[False, False, False, True]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_nowhere(bad: float) -> None:
    good = torch.tensor([[0.0, 0, 2, 2, 0.3]])
    boxes = good.repeat(5, 1)
    boxes[range(5), range(5)] = bad
    assert not points_in_boxes(torch.zeros(2, 2), boxes).any()
    assert not points_in_boxes(torch.tensor([[bad, 0], [0, bad]]), good).any()


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_devices_and_autocast_do_not_show(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(9)
    boxes = torch.rand(30, 5, generator=generator) * torch.tensor([100, 100, 60, 60, 9.0])
    points = torch.rand(70, 2, generator=generator) * 100
    whole = points_in_boxes(points, boxes)
    for chunk in (7, 64, 1 << 18):
        monkeypatch.setattr("fledge.geometry.points._CHUNK", chunk)
        with torch.autocast(device, torch.bfloat16):
            assert torch.equal(points_in_boxes(points.to(device), boxes.to(device)).cpu(), whole)


def test_no_points_or_boxes() -> None:
    assert points_in_boxes(torch.zeros(0, 2), torch.zeros(3, 5)).shape == (0, 3)
    assert points_in_boxes(torch.zeros(3, 2), torch.zeros(0, 5)).shape == (3, 0)
