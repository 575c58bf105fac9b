from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.tiny import recipe
from torch import Tensor

from fledge.build import build_detector, build_train_step
from fledge.distill.pkd import LEVELS, PKD, pearson_loss, standardised
from fledge.types import Batch, Outputs

EMPTY = Batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([[8, 8]]), ())


def fixed() -> tuple[Tensor, Tensor]:
    """The tensors of the notes: sin(0.7 k + 0.1) and cos(0.31 k + 0.5), (2, 3, 4, 4)."""
    k = torch.arange(96, dtype=torch.float64)
    return (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)


def correlations(student: Tensor, teacher: Tensor) -> list[float]:
    """Pearson's r of each channel, by NumPy's definition through covariances."""
    pairs = zip(student.transpose(0, 1).flatten(1), teacher.transpose(0, 1).flatten(1), strict=True)
    return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]


def test_golden_value() -> None:
    student, teacher = fixed()
    assert pearson_loss(student, teacher).item() == pytest.approx(0.9381394647, abs=1e-9)


def test_is_one_minus_the_correlation() -> None:
    student, teacher = fixed()
    r = correlations(student, teacher)
    assert pearson_loss(student, teacher).item() == pytest.approx(31 / 32 * (1 - sum(r) / 3), abs=1e-5)


def test_by_hand() -> None:
    """1, 2, 3 and 3, 2, 1 have r = -1: two thirds of two. 1, 2, 3 and 10, 20, 30 have r = 1."""
    up = torch.tensor([1.0, 2, 3], dtype=torch.float64).view(1, 1, 1, 3)
    assert pearson_loss(up, up.flip(-1)).item() == pytest.approx(4 / 3, abs=1e-5)
    assert pearson_loss(up, 10 * up).item() == pytest.approx(0, abs=1e-10)


@given(st.floats(0.1, 50), st.floats(-100, 100))
def test_scale_and_shift_of_a_channel_do_not_matter(scale: float, shift: float) -> None:
    student, teacher = fixed()
    expected = pearson_loss(student, teacher)
    torch.testing.assert_close(pearson_loss(student * scale + shift, teacher), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(pearson_loss(student, teacher * scale + shift), expected, atol=1e-4, rtol=0)


def test_gradient() -> None:
    student, teacher = fixed()
    small = student[:, :1, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: pearson_loss(s, teacher[:, :1, :2, :2]), (small,))


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 2, 1, 1), (1, 2, 3, 3)])
@pytest.mark.parametrize("value", [0.0, 1000.0])
def test_constant_maps_are_finite(shape: tuple[int, ...], value: float) -> None:
    constant = torch.full(shape, value, requires_grad=True)
    loss = pearson_loss(constant, torch.full(shape, value))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


def test_half_precision_is_computed_in_single() -> None:
    x = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1000 + 5000).bfloat16()
    assert standardised(x).dtype == torch.float32
    torch.testing.assert_close(standardised(x), standardised(x.float()))


def outputs(channels: int, side: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    maps = {f"p{k}": torch.randn(2, channels, side >> k, side >> k, generator=generator) for k in (3, 4, 5, 6)}
    return Outputs((), (), maps)


def test_sum_over_the_levels() -> None:
    student, teacher = outputs(4, 256, 0), outputs(4, 256, 1)
    term = PKD(4, 4, 10.0)(student, teacher, EMPTY)["kd_pkd"]
    expected = 10 * sum(pearson_loss(student.features[n], teacher.features[n]) for n in ("p3", "p4", "p5", "p6"))
    torch.testing.assert_close(term, expected)


def test_other_widths_and_sizes_are_adapted() -> None:
    method = PKD(4, 6)
    term = method(outputs(4, 128, 0), outputs(6, 256, 1), EMPTY)["kd_pkd"]
    torch.autograd.backward(term)
    assert all(p.grad is not None for p in method.parameters())
    assert len(list(method.parameters())) == 8
    assert not list(PKD(4, 4).parameters())


def test_a_student_learns_the_pattern() -> None:
    """Maps that start unlike the teacher's come to correlate with them."""
    teacher = outputs(4, 256, 1)
    student = {k: v.clone().requires_grad_() for k, v in outputs(4, 256, 0).features.items()}
    method = PKD(4, 4, 1.0)
    optimizer = torch.optim.Adam(student.values(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = method(Outputs((), (), student), teacher, EMPTY)["kd_pkd"]
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.05


def test_the_convolutions_between_come_from_the_seed() -> None:
    """Whatever the process has drawn before, and the process goes on as if nothing had been drawn."""

    def drawn(seed: int, before: int) -> dict[str, Tensor]:
        settings = recipe(Path("none"), method="pkd", seed=seed)
        student = build_detector(settings, ["a"])
        teacher = build_detector(recipe(Path("none"), neck_channels=16), ["a"])
        torch.manual_seed(before)
        state = torch.get_rng_state()
        step = build_train_step(settings, student, teacher)
        assert torch.equal(torch.get_rng_state(), state)
        return {name: value for name, value in step.state_dict().items() if name.startswith("distiller.")}

    first, again, other = drawn(1, 0), drawn(1, 5), drawn(2, 0)
    assert first.keys() == {
        f"distiller.adapters.convs.{level}.{part}" for level in LEVELS for part in ("weight", "bias")
    }
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())
