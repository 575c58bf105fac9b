from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fledge.distill.parts import masks
from fledge.distill.parts.masks import object_cells, object_mask, stride_of
from fledge.types import Targets

SIDE = st.floats(0.5, 90)
PLACE = st.floats(-20, 120)
BOX = st.tuples(PLACE, PLACE, SIDE, SIDE, st.floats(-math.pi, math.pi))


def slow(box: tuple[float, ...], height: int, width: int, stride: float) -> set[tuple[int, int]]:
    """Cell by cell, in plain Python."""
    cx, cy, w, h, angle = box
    found = set()
    for i in range(height):
        for j in range(width):
            x, y = stride * (j + 0.5) - cx, stride * (i + 0.5) - cy
            along, across = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
            if abs(along) <= w / 2 and abs(across) <= h / 2:
                found.add((i, j))
    near = min(max(math.floor(cy / stride), 0), height - 1), min(max(math.floor(cx / stride), 0), width - 1)
    return found or {near}


def cells(boxes: torch.Tensor, height: int, width: int, stride: float) -> list[set[tuple[int, int]]]:
    objects, where = object_cells(boxes, (height, width), stride)
    found: list[set[tuple[int, int]]] = [set() for _ in boxes]
    for n, cell in zip(objects.tolist(), where.tolist(), strict=True):
        assert divmod(cell, width) not in found[n]
        found[n].add(divmod(cell, width))
    return found


@given(st.lists(BOX, max_size=4), st.sampled_from([4, 8, 32]))
def test_cell_by_cell(boxes: list[tuple[float, ...]], stride: int) -> None:
    height, width = math.ceil(70 / stride), math.ceil(100 / stride)
    found = cells(torch.tensor(boxes, dtype=torch.float64).view(-1, 5), height, width, stride)
    assert found == [slow(box, height, width, stride) for box in boxes]


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.1, math.pi / 4])
def test_area_by_finer_and_finer_sampling(angle: float) -> None:
    """A grid of 16 × 16 points a cell: a cell is inside exactly if the point in its middle is."""
    box = torch.tensor([[33.0, 41, 40, 18, angle]], dtype=torch.float64)
    coarse = cells(box, 10, 10, 8)[0]
    fine = cells(box, 170, 170, 8 / 17)[0]
    assert coarse == {(i // 17, j // 17) for i, j in fine if i % 17 == 8 and j % 17 == 8}
    inside = len(fine) * (8 / 17) ** 2
    assert inside == pytest.approx(40 * 18, rel=0.02)


def test_a_level_box_is_a_slice() -> None:
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:5, 1:6] = True
    objects, where = object_cells(torch.tensor([[28.0, 28, 40, 24, 0]]), (8, 8), 8)
    mask = torch.zeros(64, dtype=torch.bool)
    mask[where] = True
    assert torch.equal(mask.view(8, 8), expected)
    assert objects.tolist() == [0] * 15


@given(BOX)
def test_the_same_rectangle_in_other_numbers(box: tuple[float, ...]) -> None:
    cx, cy, w, h, angle = box
    same = torch.tensor([box, (cx, cy, w, h, angle + math.pi), (cx, cy, h, w, angle + math.pi / 2)]).double()
    lighter = same * torch.tensor([1, 1, 0.999, 0.999, 1])  # away from the rounding of an edge that meets a centre
    heavier = same * torch.tensor([1, 1, 1.001, 1.001, 1])
    for low, high in zip(cells(lighter, 10, 14, 8), cells(heavier, 10, 14, 8), strict=True):
        if low == high:
            assert cells(same, 10, 14, 8) == [low] * 3


def test_a_tiny_object_has_the_cell_of_its_centre() -> None:
    assert cells(torch.tensor([[17.0, 9, 2, 1, 0.4], [-5.0, 200, 3, 2, 0]]), 4, 4, 8) == [{(1, 2)}, {(3, 0)}]


def test_many_objects_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.rand(50, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([100.0, 100, 60, 60, 3])
    whole = object_cells(boxes, (25, 25), 4)
    monkeypatch.setattr(masks, "_CELLS", 100)
    assert all(torch.equal(a, b) for a, b in zip(object_cells(boxes, (25, 25), 4), whole, strict=True))


def test_nothing() -> None:
    objects, where = object_cells(torch.zeros(0, 5), (3, 3), 8)
    assert (objects.shape, where.shape) == ((0,), (0,))


def test_the_ignored_do_not_count() -> None:
    boxes = torch.tensor([[4.0, 4, 4, 4, 0], [20.0, 20, 4, 4, 0]])
    no = torch.zeros(2, dtype=torch.bool)
    mask = object_mask(Targets(boxes, torch.zeros(2, dtype=torch.int64), torch.tensor([True, False]), no), (3, 3), 8)
    assert mask.nonzero().tolist() == [[2, 2]]


def test_stride_of_a_level() -> None:
    assert [stride_of(f"p{n}") for n in (2, 3, 7)] == [4, 8, 128]
