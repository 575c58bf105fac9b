from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.distill.samples import LEVELS, NOTHING, check_extremes, descend, doubled, fixed, pyramid, total
from torch import Tensor

from fledge.distill.cwd import CWD, channel_divergence
from fledge.distill.pkd import standardised
from fledge.types import Outputs


def slow(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Channel by channel, in plain Python."""
    found = []
    rows = zip(student.flatten(2).flatten(0, 1).tolist(), teacher.flatten(2).flatten(0, 1).tolist(), strict=True)
    for pair in rows:
        shares = []
        for row in pair:
            exponentials = [math.exp(v / temperature) for v in row]
            shares.append([e / sum(exponentials) for e in exponentials])
        found.append(sum(t * math.log(t / s) for s, t in zip(*shares, strict=True)))
    return temperature**2 * math.fsum(found) / len(found)


def test_golden_value() -> None:
    assert channel_divergence(*fixed(), 1.0).item() == pytest.approx(0.4143690625, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_channel_by_channel(temperature: float) -> None:
    student, teacher = fixed()
    found = channel_divergence(student, teacher, temperature).item()
    assert found == pytest.approx(slow(student, teacher, temperature), abs=1e-12)


def test_by_hand() -> None:
    """Shares 1/2, 1/2 of the student and 1/4, 3/4 of the teacher."""
    student, teacher = torch.zeros(1, 1, 1, 2).double(), torch.tensor([1.0, 3]).double().log().view(1, 1, 1, 2)
    expected = math.log(0.5) / 4 + 3 / 4 * math.log(1.5)
    assert channel_divergence(student, teacher, 1.0).item() == pytest.approx(expected)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_constant_added_to_a_channel_does_not_matter(first: float, second: float) -> None:
    student, teacher = fixed()
    shift = torch.tensor([first, second, 0], dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(channel_divergence(student + shift, teacher, 1), channel_divergence(student, teacher, 1))
    torch.testing.assert_close(channel_divergence(student, teacher + shift, 1), channel_divergence(student, teacher, 1))


def test_gradient() -> None:
    student, teacher = (x[:, :2, :2, :2].clone() for x in fixed())
    assert torch.autograd.gradcheck(lambda s: channel_divergence(s, teacher, 2.0), (student.requires_grad_(),))


@pytest.mark.parametrize("standardise", [False, True])
def test_sum_over_the_levels(standardise: bool) -> None:
    student, teacher = pyramid(4, 0), pyramid(4, 1)
    method = CWD(4, 4, LEVELS, 3.0, 2.0, standardise)
    each = []
    for name in LEVELS:
        own, other = (x.features[name].double() for x in (student, teacher))
        pair = (standardised(own), standardised(other)) if standardise else (own, other)
        each.append(3 * slow(*pair, 2.0))
    assert total(method, student, teacher, NOTHING).item() == pytest.approx(sum(each), rel=1e-5)
    assert total(method, student, student, NOTHING).item() == 0


def test_the_mean_over_the_images() -> None:
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), CWD(4, 4, LEVELS)
    torch.testing.assert_close(
        total(method, doubled(student), doubled(teacher), NOTHING), total(method, student, teacher, NOTHING)
    )


def test_scale_does_not_matter_once_standardised() -> None:
    student, teacher = pyramid(4, 0), pyramid(4, 1)
    scaled = Outputs((), (), {k: 50 * v for k, v in teacher.features.items()})
    method = CWD(4, 4, LEVELS, standardise=True)
    torch.testing.assert_close(
        total(method, student, scaled, NOTHING), total(method, student, teacher, NOTHING), rtol=1e-3, atol=0
    )


def test_other_widths_and_sizes() -> None:
    method = CWD(4, 6, LEVELS[:3])
    torch.autograd.backward(total(method, pyramid(4, 0), pyramid(6, 1, side=256), NOTHING))
    assert all(p.grad is not None for p in method.parameters())


@pytest.mark.parametrize("standardise", [False, True])
def test_extremes(standardise: bool) -> None:
    check_extremes(CWD(4, 6, LEVELS, standardise=standardise), (4, 6))


def test_a_student_learns_the_maps() -> None:
    assert descend(CWD(4, 4, LEVELS[:3]), pyramid(4, 0), pyramid(4, 1), NOTHING, 100, 0.1) < 0.1
