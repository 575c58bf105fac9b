from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal

import pytest
import shapely
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry import corners, quad_iou, quad_iou_pairs, rotated_iou

LABELS = Path(__file__).parents[2] / ".." / "shared" / "data" / "dota_samples" / "labelTxt"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

Mode = Literal["iou", "iof"]
Quad = Sequence[Sequence[float]]
Line = tuple[Fraction, Fraction, Fraction, Fraction]

MODES: tuple[Mode, ...] = ("iou", "iof")
SQUARE = [[0, 0], [2, 0], [2, 2], [0, 2]]
BOW_TIE = [[0, 0], [2, 2], [2, 0], [0, 2]]  # lobes left and right of (1, 1), of area 1 each
DART = [[0, 0], [4, 2], [0, 4], [1, 2]]  # concave at its last point, area 6
UNEVEN = [[0, 0], [4, 0], [1, 3], [1, -1]]  # crosses itself on its first edge at (1, 0): areas 4.5 and 0.5

# name, quad A, quad B, intersection, area A, area B
BY_HAND: list[tuple[str, Quad, Quad, float, float, float]] = [
    ("same", SQUARE, SQUARE, 4, 4, 4),
    ("half beside", SQUARE, [[1, 0], [3, 0], [3, 2], [1, 2]], 2, 4, 4),
    ("nested", SQUARE, [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]], 0.25, 4, 0.25),
    ("shared edge", SQUARE, [[2, 0], [4, 0], [4, 2], [2, 2]], 0, 4, 4),
    ("shared corner", SQUARE, [[2, 2], [4, 2], [4, 4], [2, 4]], 0, 4, 4),
    ("hulls meet, quads do not", [[0, 0], [4, 0], [4, 1], [0, 1]], [[5, 0.5], [9, 0.5], [9, 5], [3, 5]], 0, 4, 22.5),
    ("diamond", SQUARE, [[1, 0], [2, 1], [1, 2], [0, 1]], 2, 4, 2),
    ("bow-tie in a square", SQUARE, BOW_TIE, 2, 4, 2),
    ("bow-tie and itself", BOW_TIE, BOW_TIE, 2, 2, 2),
    ("bow-tie and its turned self", BOW_TIE, [[0, 0], [2, 2], [0, 2], [2, 0]], 0, 2, 2),
    ("one lobe", BOW_TIE, [[0, 0], [1, 0], [1, 2], [0, 2]], 1, 2, 2),
    ("uneven bow-tie", UNEVEN, [[0, 0], [4, 0], [4, 4], [0, 4]], 4.5, 5, 16),
    ("dart in its notch", DART, [[0, 1.5], [0.25, 1.5], [0.25, 2.5], [0, 2.5]], 0, 6, 0.25),
    ("dart and square", DART, [[0, 0], [4, 0], [4, 4], [0, 4]], 6, 6, 16),
    ("triangle by a repeated point", [[0, 0], [2, 0], [2, 0], [0, 2]], SQUARE, 2, 2, 4),
    ("triangle by a point in line", [[0, 0], [1, 0], [2, 0], [0, 2]], SQUARE, 2, 2, 4),
    ("spike", [[0, 0], [2, 0], [1, 0], [1, 1]], SQUARE, 0.5, 0.5, 4),
    ("point", [[1, 1]] * 4, SQUARE, 0, 0, 4),
    ("line", [[0, 0], [1, 1], [2, 2], [0.5, 0.5]], SQUARE, 0, 0, 4),
    ("line and itself", [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.7, 0.7]], [[0.1, 0.1], [0.2, 0.2]] * 2, 0, 0, 0),
]


def sides(quad: Quad) -> list[Line]:
    points = [(Fraction(x), Fraction(y)) for x, y in quad]
    return [(*p, *q) for p, q in pairwise([*points, points[0]])]


def crossing_height(p: Line, q: Line) -> list[Fraction]:
    ax, ay, bx, by = p[2] - p[0], p[3] - p[1], q[2] - q[0], q[3] - q[1]
    turn = ax * by - ay * bx
    return [p[1] + ay * ((q[0] - p[0]) * by - (q[1] - p[1]) * bx) / turn] if turn else []


def covered(edges: list[Line], y: Fraction) -> list[tuple[Fraction, Fraction]]:
    """The intervals of x inside the polygon at a height of no corner or crossing, by the even-odd rule."""
    across = sorted(x0 + (y - y0) * (x1 - x0) / (y1 - y0) for x0, y0, x1, y1 in edges if (y0 < y) != (y1 < y))
    return list(zip(across[::2], across[1::2], strict=True))


def exact_areas(first: Quad, second: Quad) -> list[Fraction]:
    """Intersection and both areas in rational numbers: cut into layers in which every width is linear in y."""
    one, two = sides(first), sides(second)
    heights = {line[1] for line in one + two}
    for p, q in combinations(one + two, 2):
        heights.update(crossing_height(p, q))
    areas = [Fraction(0)] * 3
    for low, high in pairwise(sorted(heights)):
        a, b = covered(one, (low + high) / 2), covered(two, (low + high) / 2)
        common = [max(Fraction(0), min(r1, r2) - max(l1, l2)) for l1, r1 in a for l2, r2 in b]
        for k, width in enumerate((sum(common), sum(r - x for x, r in a), sum(r - x for x, r in b))):
            areas[k] += (high - low) * width
    return areas


def exact_iou(first: Tensor, second: Tensor, mode: Mode = "iou") -> Tensor:
    found = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        inter, area1, area2 = exact_areas(a, b)
        whole = area1 + area2 - inter if mode == "iou" else area1
        found.append(float(inter / whole) if whole else 0.0)
    return torch.tensor(found, dtype=torch.float64)


def random_quads(count: int, seed: int, size: float = 60, area: float = 40) -> Tensor:
    """Four random points each: half of them convex or concave, a third bow-ties; float64."""
    u = torch.rand(count, 5, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u[:, :1] * area + u[:, 1:] * size


def all_writings(quads: Tensor) -> list[Tensor]:
    """The same quads from other starting points, and the other way round."""
    return [order.roll(k, dims=1) for order in (quads, quads.flip(1)) for k in range(4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "a", "b", "inter", "area1", "area2"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_by_hand(
    name: str,
    a: Quad,
    b: Quad,
    inter: float,
    area1: float,
    area2: float,
    dtype: torch.dtype,
) -> None:
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    one, two = torch.tensor([a], dtype=dtype), torch.tensor([b], dtype=dtype)
    union = area1 + area2 - inter
    one, two = torch.cat(all_writings(one)), torch.cat(all_writings(two))
    for first, second, area in ((one, two, area1), (two, one, area2)):
        for mode, whole in zip(MODES, (union, area), strict=True):
            expected = inter / whole if whole else 0
            got = quad_iou(first, second, mode=mode)
            torch.testing.assert_close(got, torch.full_like(got, expected), atol=tolerance, rtol=0)
            aligned = quad_iou(first, second, aligned=True, mode=mode)
            assert torch.equal(aligned, got.diag())


def test_the_rational_reference_by_hand() -> None:
    for _, a, b, inter, area1, area2 in BY_HAND[:-1]:  # 0.1 times 3 is not on the line in binary
        assert exact_areas(a, b) == [inter, area1, area2]


@pytest.mark.parametrize("mode", MODES)
def test_any_shape_matches_rational_arithmetic(mode: Mode) -> None:
    first, second = random_quads(120, 0), random_quads(120, 1)
    got = quad_iou(first, second, aligned=True, mode=mode)
    assert (got > 0).sum() > 60
    torch.testing.assert_close(got, exact_iou(first, second, mode), atol=1e-13, rtol=0)


def test_small_integers_match_rational_arithmetic() -> None:
    """Points on a grid of 4: shared points and edges, lines, spikes, bow-ties and repeated points abound."""
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randint(0, 4, (300, 4, 2), generator=generator) for _ in range(2))
    got = quad_iou(first.double(), second.double(), aligned=True)
    torch.testing.assert_close(got, exact_iou(first, second), atol=1e-14, rtol=0)
    as_integers = quad_iou(first, second, aligned=True)
    assert as_integers.dtype == torch.float32
    torch.testing.assert_close(as_integers, got.float(), atol=0, rtol=0)


def test_many_shapes_match_shapely() -> None:
    first, second = random_quads(1500, 3), random_quads(1500, 4)
    one, two = (shapely.make_valid(shapely.polygons(quads.numpy())) for quads in (first, second))
    inter = shapely.area(shapely.intersection(one, two))
    expected = torch.from_numpy(inter / (shapely.area(one) + shapely.area(two) - inter))
    got = quad_iou(first, second, aligned=True)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
    sample = slice(0, 150)
    torch.testing.assert_close(quad_iou(first[sample], second[sample]).diag(), got[sample], atol=1e-14, rtol=0)


@pytest.mark.skipif(not LABELS.exists(), reason="needs the shared data")
def test_dota_labels_match_shapely() -> None:
    lines = [line.split() for path in sorted(LABELS.glob("*.txt")) for line in path.read_text().splitlines()]
    points = [[float(x) for x in fields[:8]] for fields in lines if len(fields) >= 9]
    labelled = torch.tensor(points, dtype=torch.float64).view(-1, 4, 2)
    assert len(labelled) > 600
    noise = torch.randn(labelled.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = labelled + 2 * noise
    i, j, got = quad_iou_pairs(found, labelled)
    one, two = (shapely.make_valid(shapely.polygons(quads.numpy())) for quads in (found, labelled))
    inter = shapely.area(shapely.intersection(one[i], two[j]))
    expected = torch.from_numpy(inter / (shapely.area(one)[i] + shapely.area(two)[j] - inter))
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
    missed = torch.ones(len(found), len(labelled), dtype=torch.bool)
    missed[i, j] = False
    rows, columns = missed.nonzero(as_tuple=True)
    assert shapely.area(shapely.intersection(one[rows[::50]], two[columns[::50]])).max() < 1e-9
    itself = quad_iou(labelled, labelled, aligned=True)
    torch.testing.assert_close(itself, torch.ones_like(itself), atol=1e-9, rtol=0)


def test_rectangles_match_rotated_iou() -> None:
    u = torch.rand(400, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    boxes = torch.cat([u[:, :2] * 200, 0.5 * 600 ** u[:, 2:4], u[:, 4:] * 7], dim=1)
    near = boxes + torch.tensor([1e-4, 0, 1e-4, 0, 1e-5], dtype=torch.float64)
    got, expected = quad_iou(corners(boxes), corners(boxes)), rotated_iou(boxes, boxes)
    assert (got > 0).sum() > 3000
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    got = quad_iou(corners(boxes), corners(near), aligned=True)
    torch.testing.assert_close(got, rotated_iou(boxes, near, aligned=True), atol=1e-9, rtol=0)


def test_identical_quads_overlap_wholly() -> None:
    quads = random_quads(500, 7)
    for other in all_writings(quads):
        got = quad_iou(quads, other, aligned=True)
        torch.testing.assert_close(got, torch.ones_like(got), atol=1e-9, rtol=0)


def test_thin_quads() -> None:
    """One pixel wide and up to 10,000 long, at any angle, moved across by half a pixel: a third is common."""
    u = torch.rand(200, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    boxes = torch.cat([u[:, :2] * 4000, 10_000 ** u[:, 2:3], torch.ones(200, 1), u[:, 4:] * 7], dim=1)
    across = torch.stack([-boxes[:, 4].sin(), boxes[:, 4].cos()], dim=1) / 2
    moved = torch.cat([boxes[:, :2] + across, boxes[:, 2:]], dim=1)
    got = quad_iou(corners(boxes), corners(moved), aligned=True)
    torch.testing.assert_close(got, torch.full_like(got, 1 / 3), atol=1e-9, rtol=0)


def test_lines_have_no_area_but_rounding() -> None:
    """Four points on a slanting line are off it by a rounding error, which is no area to compare."""
    u = torch.rand(200, 5, 1, generator=torch.Generator().manual_seed(19), dtype=torch.float64)
    direction = torch.cat([u[:, :1].cos(), u[:, :1].sin()], dim=-1)
    lines = 30 + u[:, 1:] * direction * 100
    assert sum(exact_areas(line, line)[1] > 0 for line in lines[:20].tolist()) > 5
    assert not quad_iou(lines, lines, aligned=True).any()
    assert not quad_iou(lines, lines, mode="iof").any()


def test_far_from_the_origin_in_float32() -> None:
    """At 1e5 px, against rational numbers from the points that float32 holds there."""
    first = (random_quads(80, 9) + 1e5).float()
    second = (random_quads(80, 10) + 1e5).float()
    got = quad_iou(first, second, aligned=True)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact_iou(first, second), atol=1e-7, rtol=0)


def test_aligned_quads_far_from_each_other_are_apart() -> None:
    """Above one another at 1e9 px, where rounding of the strips would exceed the areas."""
    quads = random_quads(50, 11)
    got = quad_iou(quads, quads + torch.tensor([0.3, 1e9], dtype=torch.float64), aligned=True)
    assert torch.equal(got, torch.zeros_like(got))


COORDINATES = st.floats(-100, 100) | st.integers(-3, 3).map(float)
QUADS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=4, max_size=4)


@settings(max_examples=60)
@given(
    a=QUADS,
    b=QUADS,
    turn=st.floats(-math.pi, math.pi),
    scale=st.floats(0.01, 100),
    shift=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    mirrored=st.booleans(),
)
def test_moving_both_changes_nothing(
    a: list[tuple[float, float]],
    b: list[tuple[float, float]],
    turn: float,
    scale: float,
    shift: tuple[float, float],
    mirrored: bool,
) -> None:
    assume(all(area > 1 for area in exact_areas(a, b)[1:]))
    quads = torch.tensor([a, b], dtype=torch.float64)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    matrix = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    moved = (quads.flip(-1) if mirrored else quads) @ matrix + torch.tensor(shift, dtype=torch.float64)
    expected = quad_iou(quads[:1], quads[1:])
    assert 0 <= expected.item() <= 1
    torch.testing.assert_close(quad_iou(moved[:1], moved[1:]), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(quad_iou(quads[1:], quads[:1]), expected, atol=1e-9, rtol=0)


@settings(max_examples=60)
@given(a=QUADS, b=QUADS)
def test_anything_finite_gives_a_share(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    """Also lines and points: never NaN, never outside [0, 1], and what overlaps nothing does not even itself."""
    one, two = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    for mode in MODES:
        share = quad_iou(one, two, mode=mode).item()
        assert 0 <= share <= 1
    if quad_iou(one, one).item() == 0:
        assert share == 0
        assert exact_areas(a, b)[1] < 1e-7


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (3, 0)])
def test_what_is_not_finite_propagates(bad: float, place: tuple[int, int]) -> None:
    """Also to quads far away, bow-ties and points, in both forms and both modes."""
    good = torch.tensor([SQUARE, BOW_TIE, [[1, 1]] * 4, [[900, 0], [901, 0], [901, 1], [900, 1]]]).float()
    broken = good.clone()
    broken[(slice(None), *place)] = bad
    mixed = torch.cat([good, broken])
    for mode in MODES:
        assert quad_iou(broken, good, mode=mode).isnan().all()
        assert quad_iou(good, broken, aligned=True, mode=mode).isnan().all()
    assert quad_iou(mixed, mixed).isnan().sum() == 64 - 16
    i, j, values = quad_iou_pairs(mixed, good, 0.5)
    assert values[i >= 4].isnan().all()
    assert list(zip(i[i < 4].tolist(), j[i < 4].tolist(), strict=True)) == [(0, 0), (1, 1), (3, 3)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("least", [0.0, 0.1, 0.5])
def test_pairs_are_the_dense_values_above_the_least(least: float, mode: Mode) -> None:
    first, second = random_quads(60, 12), random_quads(50, 13)
    i, j, values = quad_iou_pairs(first, second, least, mode)
    dense = quad_iou(first, second, mode=mode)
    assert i.dtype == j.dtype == torch.int64
    assert 0 < len(i) < 2990
    torch.testing.assert_close(values, dense[i, j], atol=1e-13, rtol=0)
    assert (values > least).all()
    assert len(i) == (dense > least).sum()


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = random_quads(37, 14), random_quads(53, 15)
    whole, aligned = quad_iou(first, second), quad_iou(first, second[:37], aligned=True)
    monkeypatch.setattr("fledge.geometry.quads._PAIR_CHUNK", 3)
    torch.testing.assert_close(quad_iou(first, second), whole, atol=1e-13, rtol=0)
    torch.testing.assert_close(quad_iou(first, second[:37], aligned=True), aligned, atol=1e-13, rtol=0)


def test_company_does_not_matter() -> None:
    """A bow-tie among them gives all quads room for six edges; the others are not changed by that."""
    first, second = (corners(torch.rand(30, 5, dtype=torch.float64) * 9) for _ in range(2))
    alone = quad_iou(first, second)
    with_bow_tie = quad_iou(torch.cat([torch.tensor([BOW_TIE]), first]), second)
    torch.testing.assert_close(with_bow_tie[1:], alone, atol=1e-13, rtol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_devices_and_autocast(dtype: torch.dtype, device: str) -> None:
    first, second = random_quads(30, 16).to(device, dtype), random_quads(20, 17).to(device, dtype)
    expected = quad_iou(first.cpu().double(), second.cpu().double())
    with torch.autocast(device, torch.bfloat16):
        got = quad_iou(first, second)
    assert got.dtype == torch.promote_types(dtype, torch.float32)
    assert got.device.type == device
    torch.testing.assert_close(got.cpu().double(), expected, atol=1e-14 if dtype == torch.float64 else 1e-7, rtol=0)


def test_there_is_no_gradient() -> None:
    quads = random_quads(3, 18).requires_grad_()
    assert not quad_iou(quads, quads).requires_grad
    assert not quad_iou(quads, quads, aligned=True).requires_grad
    assert not quad_iou_pairs(quads, quads)[2].requires_grad


def test_empty() -> None:
    none, some = torch.zeros(0, 4, 2), torch.tensor([SQUARE, BOW_TIE]).float()
    assert quad_iou(none, some).shape == (0, 2)
    assert quad_iou(some, none).shape == (2, 0)
    assert quad_iou(none, none, aligned=True).shape == (0,)
    i, j, values = quad_iou_pairs(none, some)
    assert i.shape == j.shape == values.shape == (0,)
    assert i.dtype == torch.int64
    assert values.dtype == torch.float32


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UsageError, match=r"shape \(3, 8\): give \(N, 4, 2\)"):
        quad_iou(torch.zeros(3, 8), torch.zeros(3, 4, 2))
    with pytest.raises(UsageError, match=r"shape \(3, 5, 2\)"):
        quad_iou_pairs(torch.zeros(3, 4, 2), torch.zeros(3, 5, 2))
    with pytest.raises(UsageError, match="3 and 2 quads"):
        quad_iou(torch.zeros(3, 4, 2), torch.zeros(2, 4, 2), aligned=True)
