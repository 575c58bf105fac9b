from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.geometry.test_quads import BY_HAND, Quad

from fledge.geometry import compiled as compiling
from fledge.geometry.quad_kernels import outlines, overlaps
from fledge.geometry.quads import _outlines, quad_iou

Floats = NDArray[np.float64]


def both(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """IoU and IoF of all pairs, stacked, by the compiled loops and by the tensor code."""
    rows = np.indices((len(first), len(second))).reshape(2, -1)
    one, two = outlines(first), outlines(second)
    compiled = np.stack([overlaps(one, two, rows[0], rows[1], over_first) for over_first in (False, True)])
    a, b = torch.from_numpy(first), torch.from_numpy(second)
    tensors = np.stack([quad_iou(a, b, mode=mode).numpy().ravel() for mode in ("iou", "iof")])
    return compiled, tensors


def quads(seed: int, count: int) -> Floats:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 30, (count, 4, 2))
    points[::5, 2] = points[::5, 1]  # triangles
    points[1::7] = np.round(points[1::7])
    points[2::11, :, 1] = 3.0  # flat
    points[3::13] = points[3::13, :1] + np.array([[0, 0], [9, 0], [9, 4], [0, 4]])
    return points


@pytest.mark.parametrize("shift", [0.0, 1e5])
def test_equal_to_the_tensor_code(shift: float) -> None:
    first, second = quads(0, 120) + shift, quads(1, 110) + shift
    compiled, tensors = both(first, second)
    np.testing.assert_allclose(compiled, tensors, rtol=0, atol=1e-12)
    assert ((tensors > 0) & (tensors < 1)).sum() > 5000


def test_without_crossing_quads_there_are_four_edges() -> None:
    first = np.array([[[0, 0], [2, 0], [2, 2], [0, 2]]], dtype=np.float64)
    assert outlines(first)[1].shape == (1, 4, 5)
    assert outlines(quads(0, 9))[1].shape == (9, 6, 5)


@pytest.mark.parametrize(("name", "a", "b", "inter", "area_a", "area_b"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_by_hand(name: str, a: Quad, b: Quad, inter: float, area_a: float, area_b: float) -> None:
    first, second = outlines(np.array([a], dtype=np.float64)), outlines(np.array([b], dtype=np.float64))
    assert (first[2][0], second[2][0]) == (pytest.approx(area_a), pytest.approx(area_b))
    union = area_a + area_b - inter
    zero = np.zeros(1, dtype=np.int64)
    assert overlaps(first, second, zero, zero, False)[0] == pytest.approx(inter / union if union else 0)


lattice = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=4, max_size=4)


@given(first=lattice, second=lattice)
def test_degenerate_quads(first: Quad, second: Quad) -> None:
    compiled, tensors = both(np.array([first], dtype=np.float64), np.array([second], dtype=np.float64))
    np.testing.assert_allclose(compiled, tensors, rtol=0, atol=1e-12)


def test_areas_and_hulls() -> None:
    points = quads(2, 60)
    expected = _outlines(torch.from_numpy(points))
    _, _, areas, hulls = outlines(points)
    np.testing.assert_allclose(areas, expected.areas.numpy(), rtol=1e-13)
    np.testing.assert_array_equal(hulls, expected.hulls.numpy())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_makes_nan(value: float) -> None:
    points = quads(3, 8)
    for corner in range(4):
        broken = points[:1].copy()
        broken[0, corner, corner % 2] = value
        compiled, tensors = both(broken, points)
        assert np.isnan(compiled).all()
        assert np.isnan(tensors).all()


def test_without_a_place_to_keep_it_a_loop_is_compiled_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = numba.njit

    def nowhere(cache: bool = False, **rest: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return made(**rest)

    monkeypatch.setattr(compiling, "njit", nowhere)

    @compiling.compiled
    def half(x: float) -> float:
        return x / 2

    assert half(3.0) == 1.5


def test_nothing() -> None:
    none = np.zeros((0, 4, 2))
    compiled, _ = both(none, quads(0, 3))
    assert compiled.shape == (2, 0)
    assert [part.shape for part in outlines(none)] == [(0, 2), (0, 4, 5), (0,), (0, 4)]
