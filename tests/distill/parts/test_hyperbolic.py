from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.distill.parts.hyperbolic import exponential_map, hyperbolic_mask, poincare_distance


def point(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None]


def moebius(x: list[float], y: list[float], c: float) -> list[float]:
    """Equation 9, with one curvature."""
    xy, xx, yy = (sum(p * q for p, q in zip(a, b, strict=True)) for a, b in ((x, y), (x, x), (y, y)))
    below = 1 + 2 * c * xy + c**2 * xx * yy
    return [((1 + 2 * c * xy + c * yy) * p + (1 - c * xx) * q) / below for p, q in zip(x, y, strict=True)]


def distance(x: list[float], y: list[float], c: float) -> float:
    """Equation 10."""
    length = math.hypot(*moebius([-p for p in x], y, c))
    return 2 / math.sqrt(c) * math.atanh(math.sqrt(c) * length)


@pytest.mark.parametrize(
    ("x", "y", "c", "expected"),
    [
        ((0.1, 0.2), (0.3, -0.1), 1.0, 0.76134),
        ((0.1, 0.2), (0.3, -0.1), 0.1, 0.72497),
        ((0.0, 0.0), (0.5, 0.0), 1.0, math.log(3)),
        ((0.3, 0.1), (-0.2, 0.4), 1.0, 1.2842718182),
        ((0.3, 0.1), (-0.3, -0.1), 1.0, 1.3098006010),
    ],
)
def test_golden_values(x: tuple[float, float], y: tuple[float, float], c: float, expected: float) -> None:
    found = poincare_distance(point(*x), point(*y), c).item()
    assert found == pytest.approx(expected, abs=6e-6 if expected in (0.76134, 0.72497) else 1e-9)
    assert found == pytest.approx(distance(list(x), list(y), c), abs=1e-12)


COORDINATE = st.floats(-0.56, 0.56)
POINT = st.lists(COORDINATE, min_size=3, max_size=3)


@given(POINT, POINT, st.floats(0.05, 1.0))
def test_the_moebius_addition_gives_the_same(x: list[float], y: list[float], c: float) -> None:
    assert poincare_distance(point(*x), point(*y), c).item() == pytest.approx(distance(x, y, c), abs=1e-7)


@given(POINT, POINT, POINT)
def test_it_is_a_distance(x: list[float], y: list[float], z: list[float]) -> None:
    a, b, c = point(*x), point(*y), point(*z)
    assert poincare_distance(a, b).item() == pytest.approx(poincare_distance(b, a).item(), abs=1e-12)
    assert poincare_distance(a, a).item() == 0
    assert poincare_distance(a, c).item() <= poincare_distance(a, b).item() + poincare_distance(b, c).item() + 1e-9


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_it_grows_with_the_distance(near: float, far: float) -> None:
    near, far = min(near, far), max(near, far)
    direction = point(0.6, 0.8)
    d = [poincare_distance(0 * direction, direction * r).item() for r in (near, far)]
    assert d[0] <= d[1]
    assert d == pytest.approx([2 * math.atanh(near), 2 * math.atanh(far)])


def test_the_curvature_goes_to_zero() -> None:
    x, y = point(0.3, 0.1), point(-0.2, 0.4)
    assert poincare_distance(x, y, 1e-10).item() == pytest.approx(2 * math.hypot(0.5, 0.3), abs=1e-8)


def test_outside_the_ball_there_is_no_distance() -> None:
    inside, outside = point(0.1, 0.1), point(0.9, 0.9)
    assert poincare_distance(inside, outside).isnan()
    assert poincare_distance(outside, outside + 0.1).isnan()


@pytest.mark.parametrize("c", [0.1, 1.0, 4.0])
def test_the_exponential_map(c: float) -> None:
    u = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, length = exponential_map(u, c), u.norm(dim=1, keepdim=True)
    expected = torch.tanh(c**0.5 * length).clamp(max=0.999) * u / (c**0.5 * length)
    torch.testing.assert_close(x, expected)
    # The geodesic from 0 in the direction of u has twice u's length.
    inside = (c**0.5 * length).tanh() < 0.999
    torch.testing.assert_close(poincare_distance(torch.zeros_like(x), x, c)[inside], 2 * length[inside])
    far = exponential_map(1e6 * u.float(), c)
    torch.testing.assert_close(far.norm(dim=1), torch.full((2, 4, 5), 0.999 / c**0.5))


def test_the_mask_by_loops() -> None:
    k = torch.arange(96, dtype=torch.float64)
    s, t = (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)
    mask = hyperbolic_mask(s, t, 0.5)
    assert mask.shape == (2, 1, 4, 4)
    for b, i, j in ((0, 0, 0), (1, 2, 3), (1, 3, 0)):
        ends = []
        for z in (t, s):
            u = [v / math.sqrt(3) for v in z[b, :, i, j].tolist()]
            n = math.sqrt(0.5) * math.hypot(*u)
            ends.append([math.tanh(n) * v / n for v in u])
        assert mask[b, 0, i, j].item() == pytest.approx(distance(ends[0], ends[1], 0.5), abs=1e-12)


def spread(x: Tensor) -> float:
    return float(x.std() / x.mean())


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_it_is_not_constant_on_ordinary_maps(channels: int) -> None:
    """Independent normal numbers are the worst case: in 256 dimensions even their plain distances vary by 4 % only.
    As soon as places differ in strength, as in any map, the mask does, too.
    """
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(2, channels, 16, 16, generator=generator) for _ in range(2))
    strength = 2 * torch.rand(2, 1, 16, 16, generator=generator)
    assert spread(hyperbolic_mask(s, t)) > 0.8 * spread((s - t).norm(dim=1))
    assert spread(hyperbolic_mask(s, t)) > 0.05 or channels == 256
    assert spread(hyperbolic_mask(s * strength, t * strength)) > 0.5
    unscaled = poincare_distance(exponential_map(s), exponential_map(t))  # as all at the rim
    assert channels == 16 or spread(unscaled) < 0.3 * spread((s - t).norm(dim=1))


def test_equal_maps_weigh_nothing_and_no_gradient_passes() -> None:
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    assert not hyperbolic_mask(x, x).any()
    assert not hyperbolic_mask(x, 2 * x).requires_grad


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_finite(scale: float, dtype: torch.dtype) -> None:
    s, t = (torch.randn(1, 8, 1, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    mask = hyperbolic_mask((s * min(scale, 1e4)).to(dtype), (-t * min(scale, 1e4)).to(dtype))
    assert mask.dtype == torch.float32
    assert mask.isfinite().all()
