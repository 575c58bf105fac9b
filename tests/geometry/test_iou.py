from __future__ import annotations

import math
import warnings
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from torch import Tensor

from fledge.geometry import canonicalize, corners, rotated_iou, rotated_iou_pairs
from fledge.geometry.convert import from_torchvision

from .oracle import slow_intersection, slow_iou

D2_2154 = (
    [296.6620178222656, 458.73883056640625, 23.515729904174805, 47.677001953125, 0.08795166015625],
    [296.66201, 458.73882000000003, 23.51573, 47.67702, 0.087951],
)
D2_2167 = (
    [2563.7446289062500, 1436.7901611328125, 2174.7033691406250, 214.0950012207031, 115.1183471679688],
    [2563.7446289062500, 1436.7902832031250, 2174.7028808593750, 214.0949554443359, 115.1183547973633],
)
D2_1266 = [-1.117407639806935e17, 1.3858420478349148e18, 1000.0000610351562, 1000.0000610351562, 1612.0]
D2_4961 = (
    [1010.5, 860.00012207, 12.20655537, 48.82622528, 55.00798035],
    [1022, 870.49993896, 10.81665134, 43.26660919, 56.30992889],
)
MMCV_2621 = [0, 0, 180.6422271729, 136.3633728027, 0.9559648633]
RMRCNN_46 = [672.4067, 290.7776, 791.0275, 38.9333, 34.1454]

# name, box A, box B, true IoU, degrees counter-clockwise (True) or radians clockwise
FIXTURES = [
    ("d2-1207", [160, 153, 230, 23, -37], [190, 127, 80, 21, -46], 0.0, True),
    ("d2-1207s", [3, 3, 8, 2, -45], [6, 0, 8, 2, -45], 0.0, True),
    ("d2-4961", *D2_4961, 0.368759, True),
    ("d2-2154", *D2_2154, 0.999999, True),
    ("d2-2167", *D2_2167, 0.999999, True),
    ("mmcv-2621", MMCV_2621, MMCV_2621, 1.0, False),
    ("rmrcnn-46", RMRCNN_46, RMRCNN_46, 1.0, True),
    ("rot-8", [0, 0, 2, 2, 0], [0, 2, 2, 2, 0], 0.0, False),
    ("rot-38", [0, 0, 2, 2, math.pi / 4], [0, 0, 2, 2, math.pi / 4], 1.0, False),
    ("rrpn-44", [46.83, 44.03, 3.9, 1.63, 0], [46.83, 44.03, 1.63, 3.9, 1.45], 0.854834, False),
    ("d2-1266", [160, 153, 230, 23, -37], D2_1266, 0.0, True),
    ("half", [565, 565, 10, 10, 0], [565, 565, 10, 8.3, 0], 0.83, False),
    ("swap", [10, 10, 8, 4, 0], [10, 10, 4, 8, 90], 1.0, True),
]
FLIPPED = [("d2-1207", 0.265493), ("d2-1207s", 0.306908), ("d2-4961", 0.0)]


def random_boxes(count: int, seed: int, low: float = 0.5, high: float = 60, area: float = 100) -> Tensor:
    """Boxes with log-uniform sides and angles over four half turns, float64."""
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sides = low * (high / low) ** u[:, 2:4]
    return torch.cat([u[:, :2] * area, sides, (u[:, 4:] - 0.5) * 4 * math.pi], dim=1)


def truth(first: Tensor, second: Tensor) -> Tensor:
    rows = zip(first.tolist(), second.tolist(), strict=True)
    return torch.tensor([slow_iou(a, b) for a, b in rows], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "a", "b", "expected", "degrees"), FIXTURES, ids=[f[0] for f in FIXTURES])
def test_published_failures(
    name: str, a: list[float], b: list[float], expected: float, degrees: bool, dtype: torch.dtype
) -> None:
    one, two = torch.tensor([a], dtype=dtype), torch.tensor([b], dtype=dtype)
    if degrees:
        one, two = from_torchvision(one), from_torchvision(two)
    for x, y in ((one, two), (two, one)):
        torch.testing.assert_close(rotated_iou(x, y).item(), expected, atol=2e-6, rtol=0)
        torch.testing.assert_close(rotated_iou(x, y, aligned=True).item(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("name", "flipped"), FLIPPED)
def test_sign_canaries_see_a_flipped_angle(name: str, flipped: float) -> None:
    a, b = next((f[1], f[2]) for f in FIXTURES if f[0] == name)
    one, two = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    one[:, 4], two[:, 4] = torch.deg2rad(one[:, 4]), torch.deg2rad(two[:, 4])
    assert rotated_iou(one, two).item() == pytest.approx(flipped, abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_all_pairs_match_the_clipper(dtype: torch.dtype, tolerance: float) -> None:
    first, second = random_boxes(60, 0).to(dtype), random_boxes(50, 1).to(dtype)
    expected = [[slow_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    got = rotated_iou(first, second)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), torch.tensor(expected, dtype=torch.float64), atol=tolerance, rtol=0)


@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_random_pairs_match_shapely(mode: Literal["iou", "iof"]) -> None:
    first, second = random_boxes(2000, 2, 0.5, 2000, 400), random_boxes(2000, 3, 0.5, 2000, 400)
    shapes = [[Polygon(q.tolist()) for q in corners(b)] for b in (first, second)]
    expected = []
    for a, b in zip(*shapes, strict=True):
        inter = a.intersection(b).area
        expected.append(inter / (a.area + b.area - inter if mode == "iou" else a.area))
    got = rotated_iou(first, second, aligned=True, mode=mode)
    assert (got > 0).sum() > 300
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.slow
def test_many_random_pairs_match_shapely() -> None:
    first, second = random_boxes(100_000, 4, 0.5, 2000, 1500), random_boxes(100_000, 5, 0.5, 2000, 1500)
    shapes = [[Polygon(q.tolist()) for q in corners(b)] for b in (first, second)]
    inter = torch.tensor([a.intersection(b).area for a, b in zip(*shapes, strict=True)], dtype=torch.float64)
    area = [torch.tensor([s.area for s in row], dtype=torch.float64) for row in shapes]
    got = rotated_iou(first, second, aligned=True)
    torch.testing.assert_close(got, inter / (area[0] + area[1] - inter), atol=1e-9, rtol=0)


def near_copies(boxes: Tensor) -> list[Tensor]:
    """The same boxes turned by half turns, described with swapped sides, and moved by one unit in the last place."""
    copies = [boxes + torch.tensor([0, 0, 0, 0, k * math.pi]) for k in (-4, -3, -2, -1, 1, 2, 3, 4)]
    swapped = boxes[:, [0, 1, 3, 2, 4]]
    copies += [swapped + torch.tensor([0, 0, 0, 0, s * math.pi / 2]) for s in (-1, 1)]
    for column in range(5):
        moved = boxes.clone()
        moved[:, column] = moved[:, column].nextafter(torch.tensor(math.inf))
        copies.append(moved)
    return [boxes, *copies, boxes + 1e-6]


def test_near_identical_boxes() -> None:
    boxes = random_boxes(2000, 6, 1, 500, 1000).float()
    boxes[:, 4] %= math.pi
    for copy in near_copies(boxes):
        got = rotated_iou(boxes, copy, aligned=True)
        assert (got > 0.998).all()
        assert (got <= 1).all()
        torch.testing.assert_close(got, rotated_iou(copy, boxes, aligned=True), atol=1e-6, rtol=0)
        torch.testing.assert_close(got.double(), truth(boxes, copy), atol=1e-5, rtol=0)


def test_far_from_the_origin() -> None:
    """Scene coordinates of 1e5 px in float32: exact for the coordinates that float32 can hold."""
    first = random_boxes(500, 7) + torch.tensor([1e5, 1e5, 0, 0, 0])
    second = first + torch.randn(500, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([5, 5, 0, 0, 0.2])
    first, second = first.float(), second.float()
    got = rotated_iou(first, second, aligned=True)
    torch.testing.assert_close(got.double(), truth(first, second), atol=1e-6, rtol=0)


def test_nested_and_touching() -> None:
    outer = torch.tensor([[0.0, 0, 10, 8, 0.4]])
    inner = torch.tensor([[0.0, 0, 5, 4, 0.4]])
    assert rotated_iou(outer, inner).item() == pytest.approx(0.25, abs=1e-6)
    assert rotated_iou(outer, inner, mode="iof").item() == pytest.approx(0.25, abs=1e-6)
    assert rotated_iou(inner, outer, mode="iof").item() == pytest.approx(1, abs=1e-6)
    corner = torch.tensor([[2.0, 2, 2, 2, 0]])
    assert rotated_iou(torch.tensor([[0.0, 0, 2, 2, 0]]), corner).item() == 0
    diamond = torch.tensor([[0.0, 0, 40, 40, math.pi / 4]])
    assert rotated_iou(torch.tensor([[0.0, 0, 40, 40, 0]]), diamond).item() == pytest.approx(math.sqrt(0.5), abs=1e-6)


COORDINATE = st.floats(-100, 100)
SIDE = st.floats(0.5, 100)
BOX = st.tuples(COORDINATE, COORDINATE, SIDE, SIDE, st.floats(-7, 7))


def iou(a: Tensor, b: Tensor) -> float:
    return rotated_iou(a[None], b[None], aligned=True).item()


@settings(max_examples=300)
@given(a=BOX, b=BOX, shift=st.tuples(COORDINATE, COORDINATE), turn=st.floats(-4, 4), scale=st.floats(0.1, 10))
def test_invariances(
    a: tuple[float, ...], b: tuple[float, ...], shift: tuple[float, float], turn: float, scale: float
) -> None:
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    expected = iou(x, y)
    assert 0 <= expected <= 1
    assert expected == pytest.approx(slow_iou(a, b), abs=1e-9)
    assert iou(y, x) == pytest.approx(expected, abs=1e-9)
    assert iou(canonicalize(x), canonicalize(y)) == pytest.approx(expected, abs=1e-9)
    assert iou(x, x) == pytest.approx(1, abs=1e-9)
    move = torch.tensor([*shift, 0, 0, 0], dtype=torch.float64)
    assert iou(x + move, y + move) == pytest.approx(expected, abs=1e-9)
    grow = torch.tensor([scale, scale, scale, scale, 1], dtype=torch.float64)
    assert iou(x * grow, y * grow) == pytest.approx(expected, abs=1e-9)
    assert iou(turned(x, turn), turned(y, turn)) == pytest.approx(expected, abs=1e-9)
    away = x + torch.tensor([300, 0, 0, 0, 0], dtype=torch.float64)
    assert iou(x - move.abs() - 300, away + move.abs()) == 0


def turned(box: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    x, y, w, h, a = box.tolist()
    return torch.tensor([x * c - y * s, x * s + y * c, w, h, a + angle], dtype=torch.float64)


def test_order_does_not_matter() -> None:
    first, second = random_boxes(40, 8), random_boxes(30, 9)
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randperm(40, generator=generator), torch.randperm(30, generator=generator)
    torch.testing.assert_close(rotated_iou(first[p], second[q]), rotated_iou(first, second)[p][:, q])


@pytest.mark.parametrize("mode", ["iou", "iof"])
@pytest.mark.parametrize("seed", range(10))
def test_gradcheck(seed: int, mode: Literal["iou", "iof"]) -> None:
    first = random_boxes(6, seed, 5, 40, 30).requires_grad_()
    second = random_boxes(6, 100 + seed, 5, 40, 30).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: rotated_iou(a, b, aligned=True, mode=mode), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: rotated_iou(a, b, mode=mode), (first[:3], second[:2]))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([5, 5, 4, 2, 0.3], [5, 5, 4, 2, 0.3]),
        ([5, 5, 4, 2, 0], [5, 5, 4, 2, 0]),
        ([5, 5, 4, 4, 0], [5, 5, 4, 4, math.pi / 2]),
        ([5, 5, 4, 2, 0], [5, 7, 4, 2, 0]),
        ([5, 5, 4, 2, 0], [5, 6, 4, 2, 0]),
        ([5, 5, 4, 2, 0], [50, 6, 4, 2, 1]),
        ([5, 5, 4, 2, -math.pi / 2], [5, 5, 2, 4, 0]),
        ([5, 5, 4, 2, 0], [5, 5, 4, 2, 1e-310]),
        ([5, 5, 4, 2, 0], [5, 5, 4, 2, 1e-16]),
        ([5, 5, 1e-3, 1e-3, 0], [5, 5, 4, 2, 0]),
        ([5, 5, 0, 2, 0], [5, 5, 4, 2, 0]),
        ([5, 5, -3, 2, 0], [5, 5, 4, -2, 0]),
        ([5, 5, 0, 0, 0], [5, 5, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("aligned", [True, False])
def test_gradients_are_finite_and_moderate(a: list[float], b: list[float], aligned: bool) -> None:
    one = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    two = torch.tensor([b], dtype=torch.float64, requires_grad=True)
    value = rotated_iou(one, two, aligned=aligned)
    torch.autograd.backward(value.sum())
    for grad in (one.grad, two.grad):
        assert grad is not None
        assert grad.isfinite().all()
        assert grad.abs().max() <= 2000  # at most 2 / side


@pytest.mark.parametrize("bad", [[1.0, 1, 0, 5, 0], [1.0, 1, 5, 0, 0.3], [1.0, 1, -5, 5, 0], [1.0, 1, -5, -5, 0.7]])
def test_flat_boxes_overlap_nothing(bad: list[float]) -> None:
    flat, good = torch.tensor([bad]), torch.tensor([[1.0, 1, 5, 5, 0.3]])
    for one, two in ((flat, good), (good, flat), (flat, flat)):
        for mode in ("iou", "iof"):
            assert rotated_iou(one, two, mode=mode).tolist() == [[0.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(5))
def test_nan_propagates(column: int, value: float) -> None:
    bad = torch.tensor([[1.0, 1, 5, 5, 0.3], [900.0, 900, 5, 5, 0.3]])
    bad[0, column] = value
    good = torch.tensor([[500.0, 1, 5, 5, 0], [1.0, 1, 0, 5, 0], [1.0, 1, 5, 5, 0]])
    assert rotated_iou(bad, good).isnan().tolist() == [[True] * 3, [False] * 3]
    assert rotated_iou(good, bad, mode="iof").isnan().tolist() == [[True, False]] * 3
    assert rotated_iou(bad[:1], good[:1], aligned=True).isnan().all()
    i, _, values = rotated_iou_pairs(bad, good, 0.5)
    assert i.tolist() == [0, 0, 0]
    assert values.isnan().all()


def test_empty() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes, none = torch.ones(3, 5, requires_grad=True), torch.zeros(0, 5, requires_grad=True)
        assert rotated_iou(boxes, none).shape == (3, 0)
        assert rotated_iou(none, boxes).shape == (0, 3)
        assert rotated_iou(none, none).shape == (0, 0)
        assert rotated_iou(none, none, aligned=True).shape == (0,)
        assert [x.shape for x in rotated_iou_pairs(none, boxes)] == [(0,)] * 3
        loss = rotated_iou(none, boxes).sum() + rotated_iou(boxes, boxes + 9).sum()
        torch.autograd.backward(loss)
    assert loss.item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32(dtype: torch.dtype) -> None:
    boxes = random_boxes(20, 10).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = rotated_iou(boxes, boxes)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, rotated_iou(boxes.float(), boxes.float()))


@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_pairs_agree_with_the_matrix(mode: Literal["iou", "iof"]) -> None:
    first, second = random_boxes(80, 11), random_boxes(70, 12)
    dense = rotated_iou(first, second, mode=mode)
    i, j, values = rotated_iou_pairs(first, second, 0.3, mode)
    assert torch.equal(torch.stack([i, j], dim=1), (dense > 0.3).nonzero())
    torch.testing.assert_close(values, dense[i, j])


@settings(max_examples=100)
@given(a=st.lists(BOX, max_size=5), b=st.lists(BOX, max_size=5), least=st.floats(0, 0.9))
@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_any_pairs_match_the_clipper(
    mode: Literal["iou", "iof"], a: list[tuple[float, ...]], b: list[tuple[float, ...]], least: float
) -> None:
    first, second = (torch.tensor(rows, dtype=torch.float64).view(-1, 5) for rows in (a, b))
    i, j, values = rotated_iou_pairs(first, second, least, mode)
    found = dict(zip(zip(i.tolist(), j.tolist(), strict=True), values.tolist(), strict=True))
    for row, box in enumerate(a):
        for column, other in enumerate(b):
            expected = slow_intersection(box, other) / (box[2] * box[3]) if mode == "iof" else slow_iou(box, other)
            assert found.get((row, column), 0.0) == pytest.approx(expected if expected > least else 0, abs=1e-9) or (
                abs(expected - least) < 1e-9
            )


@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_gradients_of_pairs(mode: Literal["iou", "iof"]) -> None:
    first = random_boxes(5, 21, 5, 40, 30).requires_grad_()
    second = random_boxes(4, 22, 5, 40, 30).requires_grad_()
    assert len(rotated_iou_pairs(first, second, 0.1, mode)[2]) > 3
    assert torch.autograd.gradcheck(lambda a, b: rotated_iou_pairs(a, b, 0.1, mode)[2], (first, second))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = random_boxes(37, 13), random_boxes(53, 14)
    whole, aligned = rotated_iou(first, second), rotated_iou(first, second[:37], aligned=True)
    monkeypatch.setattr("fledge.geometry.operators._FOUND", 3)
    assert torch.equal(rotated_iou(first, second), whole)
    assert torch.equal(rotated_iou(first, second[:37], aligned=True), aligned)


def test_one_against_very_many() -> None:
    many = random_boxes(200_000, 15, 5, 50, 4000).float()
    one = many[123_456:123_457]
    got = rotated_iou(one, many)
    assert got.shape == (1, 200_000)
    assert got[0].argmax() == 123_456
    near = got[0].nonzero()[:, 0]
    torch.testing.assert_close(got[0, near].double(), truth(one.expand(len(near), 5), many[near]), atol=1e-6, rtol=0)


def test_intersection_oracle_by_hand() -> None:
    assert slow_intersection([0, 0, 2, 2, 0], [1, 1, 2, 2, 0]) == pytest.approx(1)
