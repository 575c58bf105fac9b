from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fledge.inference.windows import Window, windows


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, int, int]:
    size = draw(st.integers(8, 64))
    return draw(st.integers(1, 200)), draw(st.integers(1, 200)), size, draw(st.integers(0, size - 4))


def spans(found: list[Window], axis: str) -> list[tuple[int, int]]:
    return sorted({(w.x, w.width) if axis == "x" else (w.y, w.height) for w in found})


@given(plans())
def test_every_pixel_is_seen_and_nothing_beyond(plan: tuple[int, int, int, int]) -> None:
    height, width, size, overlap = plan
    seen = np.zeros((height, width), dtype=bool)
    for w in windows(height, width, size, overlap):
        assert w.x >= 0
        assert w.y >= 0
        assert w.x + w.width <= width
        assert w.y + w.height <= height
        assert (w.width, w.height) == (min(size, width), min(size, height))
        seen[w.y : w.y + w.height, w.x : w.x + w.width] = True
    assert seen.all()


@given(plans())
def test_neighbours_overlap_by_at_least_what_was_asked(plan: tuple[int, int, int, int]) -> None:
    height, width, size, overlap = plan
    found = windows(height, width, size, overlap)
    for axis in "xy":
        row = spans(found, axis)
        assert all(a + extent - b >= overlap for (a, extent), (b, _) in pairwise(row))
        assert all(b > a for (a, _), (b, _) in pairwise(row))


@given(plans(), st.lists(st.tuples(st.floats(-50, 250), st.floats(-50, 250)), min_size=1, max_size=5))
def test_every_place_is_owned_once(plan: tuple[int, int, int, int], points: list[tuple[float, float]]) -> None:
    found = windows(*plan)
    columns, rows = ({w.owned[i] for w in found} - {-np.inf} for i in (0, 1))
    for x, y in [*points, *zip(sorted(columns), sorted(rows), strict=False)]:  # corners of four windows too
        owners = [w for w in found if w.owned[0] <= x < w.owned[2] and w.owned[1] <= y < w.owned[3]]
        assert len(owners) == 1


@given(plans())
def test_each_window_sees_half_the_overlap_beyond_what_it_owns(plan: tuple[int, int, int, int]) -> None:
    _, _, _, overlap = plan
    for w in windows(*plan):
        for low, high, start, extent in ((*w.owned[::2], w.x, w.width), (*w.owned[1::2], w.y, w.height)):
            assert low == -np.inf or low - start >= overlap / 2
            assert high == np.inf or start + extent - high >= overlap / 2


def test_a_small_image_is_one_window() -> None:
    everywhere = (-np.inf, -np.inf, np.inf, np.inf)
    assert windows(30, 64, 64, 20) == [Window(0, 0, 64, 30, everywhere)]


def test_by_hand() -> None:
    found = windows(64, 130, 64, 16)
    assert [(w.x, w.y, w.width, w.height) for w in found] == [(0, 0, 64, 64), (48, 0, 64, 64), (66, 0, 64, 64)]
    assert [w.owned[::2] for w in found] == [(-np.inf, 56.0), (56.0, 89.0), (89.0, np.inf)]
