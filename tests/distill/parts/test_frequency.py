from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fledge.distill.parts.frequency import FrequencyFilter, FrequencyReconstruction, low_band, reconstructed

SHAPES = [(1, 1), (1, 5), (4, 1), (2, 2), (8, 8), (7, 7), (6, 9), (9, 6), (13, 16)]
Array = np.ndarray


def full_band(height: int, width: int, radius: float) -> Array:
    """Equation 4 on the shifted spectrum, by loops."""
    band = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            away = max(abs(i - height // 2), abs(j - width // 2))
            band[i, j] = away <= radius * min(height, width) / 2
    return band


def full_filter(half: Tensor, width: int) -> Array:
    """A half plane's filter (H, W // 2 + 1) and its mirror image, on the shifted spectrum (H, W)."""
    height = half.shape[0]
    whole = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            whole[i, j] = half[i, j] if j < half.shape[1] else half[-i % height, width - j]
    return np.fft.fftshift(whole)


def algorithm_1(f: Array, mask: Array, radius: float, weight: Array | float = 1.0) -> Array:
    """Of one channel, with NumPy's whole complex spectrum, step by step as printed."""
    spectrum = np.fft.fftshift(np.fft.fft2(f))
    band = full_band(f.shape[0], f.shape[1], radius)
    low, high = band * spectrum, (1 - band) * spectrum
    masked = np.real(np.fft.ifft2(np.fft.ifftshift(low))) * mask
    again = np.fft.fftshift(np.fft.fft2(masked))
    result = np.fft.ifft2(np.fft.ifftshift((high + again) * weight))
    # A real, symmetric filter leaves it real; where a side is even, one row of frequencies is its own neighbour's
    # mirror image, and the band is symmetric about it.
    assert np.abs(result.imag).max() < 1e-12 * max(1.0, float(np.abs(f).max()))
    return np.real(result)


@pytest.mark.parametrize(("radius", "ones"), [(0.0, 1), (0.25, 9), (0.5, 25), (1.0, 64)])
def test_golden_bands(radius: float, ones: int) -> None:
    half = low_band((8, 8), radius)
    assert full_filter(half.double(), 8).sum() == ones


@given(st.sampled_from(SHAPES), st.floats(0, 1))
def test_the_band_by_loops(shape: tuple[int, int], radius: float) -> None:
    half = low_band(shape, radius)
    expected = np.fft.ifftshift(full_band(*shape, radius))[:, : shape[1] // 2 + 1]
    np.testing.assert_array_equal(half.numpy(), expected)


def fixed(shape: tuple[int, int], channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(shape[0] * 31 + shape[1])
    features = torch.randn(2, channels, *shape, dtype=torch.float64, generator=generator)
    return features, torch.rand(2, 1, *shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.0, 0.1, 0.5, 1.0])
def test_algorithm_1(shape: tuple[int, int], radius: float) -> None:
    features, mask = fixed(shape)
    learned = FrequencyFilter(2, 4).double()
    nn.init.normal_(learned.deviation, std=0.3)
    weight = learned(shape)
    plain, filtered = reconstructed(features, mask, radius), reconstructed(features, mask, radius, weight)
    for b in range(2):
        for c in range(2):
            args = features[b, c].numpy(), mask[b, 0].numpy(), radius
            np.testing.assert_allclose(plain[b, c].numpy(), algorithm_1(*args), atol=1e-12)
            whole = full_filter(weight[c].detach(), shape[1])
            np.testing.assert_allclose(filtered[b, c].detach().numpy(), algorithm_1(*args, whole), atol=1e-12)


@given(st.sampled_from(SHAPES), st.floats(0, 1))
def test_both_bands_make_the_map_again(shape: tuple[int, int], radius: float) -> None:
    features, mask = fixed(shape)
    torch.testing.assert_close(reconstructed(features, torch.ones_like(mask), radius), features)
    filter_ = FrequencyFilter(2).double()(shape)
    torch.testing.assert_close(reconstructed(features, torch.ones_like(mask), radius, filter_), features)


def test_the_mean_goes_with_an_empty_mask() -> None:
    features, mask = fixed((8, 8))
    found = reconstructed(features, torch.zeros_like(mask), 0.0)
    torch.testing.assert_close(found, features - features.mean(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(reconstructed(features, torch.zeros_like(mask), 1.0), torch.zeros_like(features))


def test_gradient() -> None:
    features, mask = fixed((3, 4), 1)
    learned = FrequencyFilter(1, 2).double()
    small = features[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda f: reconstructed(f, mask[:1], 0.5, learned((3, 4))), (small,))
    nn.init.normal_(learned.deviation)
    learned.zero_grad()
    reconstructed(small, mask[:1], 0.5, learned((3, 4))).square().sum().backward()  # type: ignore[no-untyped-call]
    for place in ((0, 0, 0), (0, 1, 0), (0, 2, 1)):
        values = []
        for shift in (1e-6, -2e-6):
            with torch.no_grad():
                learned.deviation[place] += shift
            values.append(float(reconstructed(small, mask[:1], 0.5, learned((3, 4))).square().sum().detach()))
        with torch.no_grad():
            learned.deviation[place] += 1e-6
        assert learned.deviation.grad is not None
        assert learned.deviation.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_a_filter_is_the_same_function_of_the_frequency_at_any_size() -> None:
    learned = FrequencyFilter(3, 4).double()
    nn.init.normal_(learned.deviation)
    large, small = learned((16, 16)), learned((8, 8))
    torch.testing.assert_close(small, large[:, ::2, ::2])
    torch.testing.assert_close(
        small[:, 0, 1] - 1, (learned.deviation[:, 2, 0] + 0) / 2 + learned.deviation[:, 2, 1] / 2
    )
    torch.testing.assert_close(learned.penalty(), learned.deviation.square().sum())
    assert torch.equal(FrequencyFilter(3)((5, 7)), torch.ones(3, 5, 4))


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(scale: float, dtype: torch.dtype) -> None:
    features = (torch.randn(1, 2, 5, 3) * scale).to(dtype)
    found = reconstructed(features, torch.rand(1, 1, 5, 3), 0.3, FrequencyFilter(2)((5, 3)))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def reconstruction(**settings: object) -> FrequencyReconstruction:
    return FrequencyReconstruction(("p3", "p4"), 2, **settings)  # type: ignore[arg-type]


def pairs() -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    maps = {name: fixed(shape) for name, shape in (("p3", (8, 8)), ("p4", (4, 4)))}
    return {n: (2 * f, f) for n, (f, _) in maps.items()}, {n: mask for n, (_, mask) in maps.items()}


def drawn(module: FrequencyReconstruction, steps: int) -> list[float]:
    return [module._draw() for _ in range(steps)]


def test_radii_are_drawn_and_go_on_after_a_resumption() -> None:
    module = reconstruction(radius=(0.2, 0.4), seed=3)
    radii = drawn(module, 200)
    assert 0.2 <= min(radii) < 0.22
    assert 0.38 < max(radii) <= 0.4
    assert sum(radii) / 200 == pytest.approx(0.3, abs=0.015)
    resumed = reconstruction(radius=(0.2, 0.4), seed=3)
    drawn(resumed, 50)
    fresh = reconstruction(radius=(0.2, 0.4), seed=3)
    fresh.load_state_dict(resumed.state_dict())
    assert drawn(fresh, 20) == radii[50:70]
    assert drawn(reconstruction(radius=(0.2, 0.4), seed=4), 5) != radii[:5]


def test_in_eval_the_radius_is_fixed_and_the_global_generator_is_left_alone() -> None:
    module = reconstruction().eval()
    assert drawn(module, 3) == [0.25] * 3
    assert int(module.count) == 0
    state = torch.get_rng_state()
    drawn(module.train(), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_student_and_teacher_have_one_radius_and_only_the_target_moves_the_filter() -> None:
    maps, masks = pairs()
    module = reconstruction(student=True).double()
    for filter_ in module.filters.values():
        nn.init.normal_(filter_.deviation, std=0.1)  # type: ignore[arg-type]
    found = module(maps, masks)
    for student, teacher in found.values():
        torch.testing.assert_close(student, 2 * teacher)  # one radius, one filter
        assert not student.requires_grad
        assert teacher.requires_grad
    alone = reconstruction().double()(maps, masks)
    assert all(alone[name][0] is maps[name][0] for name in maps)


def test_without_a_filter_nothing_learns() -> None:
    maps, masks = pairs()
    module = reconstruction(filter_size=0)
    assert not list(module.parameters())
    assert module.penalty() is None
    assert not any(teacher.requires_grad for _, teacher in module(maps, masks).values())
