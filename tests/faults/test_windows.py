"""Boxes cut by windows (§ labels and datasets): one function a row, its docstring the row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box
from shapely.ops import unary_union
from tests.data.made import indexed, rectangle

from fledge.data.tiling import Cut, tile_split


@st.composite
def images(draw: st.DrawFn) -> tuple[int, int, list[Any], Cut]:
    height, width = draw(st.integers(32, 200)), draw(st.integers(32, 200))
    share = st.floats(0, 1)
    size = draw(st.integers(32, 80))
    quads = [
        rectangle(a * width, b * height, 2 + 60 * c, 2 + 30 * d, 180 * e)
        for a, b, c, d, e in draw(st.lists(st.tuples(*[share] * 5), min_size=1, max_size=5))
    ]
    return height, width, quads, Cut(size, draw(st.integers(0, size // 2)))


@given(images())
@settings(max_examples=40)
def test_a_box_cut_by_a_window(case: tuple[int, int, list[Any], Cut]) -> None:
    """Box cut by a window: kept when IoF >= 0.7, else ignore-flagged; never a sliver as a positive; the windows that
    know a box together cover all of it that lies in the image."""
    height, width, quads, cut = case
    tiled = tile_split(indexed([(height, width)], [quads]), cut)
    found, frame = tiled.index, box(0, 0, width, height)
    seen: dict[int, list[Any]] = {k: [] for k in range(len(quads))}
    for tile, (x, y) in enumerate(tiled.origin.tolist()):
        window = box(x, y, x + found.sizes[tile][1], y + found.sizes[tile][0])
        for row in range(found.offsets[tile], found.offsets[tile + 1]):
            moved = found.quads[row] + [x, y]
            same = [k for k, quad in enumerate(quads) if np.abs(moved - quad).max() < 1e-3]
            assert same, "kept at its full extent"
            whole = Polygon(quads[same[0]])
            inside = whole.intersection(window)
            if inside.area < 0.7 * whole.area - 1e-3:
                assert found.ignore[row], "a sliver is no positive"
            if inside.area > 0.7 * whole.area + 1e-3:
                assert not found.ignore[row]
            for k in same:
                seen[k].append(inside)
    for k, parts in seen.items():
        visible = Polygon(quads[k]).intersection(frame)
        assert abs(unary_union(parts).area - visible.area) < 0.05 * max(1, visible.length)
