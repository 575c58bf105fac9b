from __future__ import annotations

import math
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.distill.samples import LEVELS, NOTHING, check_extremes, descend, fixed, pyramid
from torch import Tensor

from fledge.distill.at import AT, activity, attention_loss
from fledge.types import Outputs


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    return attention_loss(activity(student), activity(teacher))


def slow(student: Tensor, teacher: Tensor) -> float:
    """Place by place, in plain Python."""
    found = []
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        maps = []
        for image in (own, other):
            cells = [sum(v**2 for v in places) for places in zip(*(chain(*c) for c in image), strict=True)]
            length = math.sqrt(sum(v**2 for v in cells))
            maps.append([v / length for v in cells])
        found.append(sum((a - b) ** 2 for a, b in zip(*maps, strict=True)) / 2)
    return math.fsum(found) / len(found)


def test_golden_value() -> None:
    """The notes' is the mean over the 16 places, without the half."""
    assert loss(*fixed()).item() * 2 / 16 == pytest.approx(0.004235781940, abs=1e-12)


def test_place_by_place() -> None:
    student, teacher = fixed()
    assert loss(student, teacher[:, :2]).item() == pytest.approx(slow(student, teacher[:, :2]), abs=1e-12)


def test_by_hand() -> None:
    """All activity here, all activity there: two vectors of length 1 at a right angle, half of two."""
    here = torch.tensor([5.0, 0]).view(1, 1, 1, 2)
    assert loss(here, here.flip(-1)).item() == 1
    assert loss(here, -here).item() == 0


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_scale_of_an_image_does_not_matter(first: float, second: float) -> None:
    student, teacher = fixed()
    scale = torch.tensor([first, -second], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(loss(student * scale, teacher), loss(student, teacher))
    torch.testing.assert_close(loss(student, teacher * scale), loss(student, teacher))


def test_gradient() -> None:
    student, teacher = fixed()
    small = student[:, :2, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher[:, :2, :2, :2]), (small,))


def test_any_width_and_size_without_an_adapter() -> None:
    method = AT(LEVELS, 2.0)
    student, teacher = pyramid(3, 0), pyramid(7, 1, side=256)
    expected = 0.0
    for name in LEVELS:
        own = torch.nn.functional.interpolate(
            student.features[name].square().mean(1, keepdim=True), teacher.features[name].shape[2:], mode="bilinear"
        )
        expected += 2 * float(attention_loss(own, activity(teacher.features[name])))
    assert method(student, teacher, NOTHING)["kd_at"].item() == pytest.approx(expected, rel=1e-6)
    assert not list(method.parameters())


def test_images_are_a_mean() -> None:
    student, teacher = pyramid(4, 0), pyramid(4, 1)
    each = [
        [Outputs((), (), {k: v[b : b + 1] for k, v in x.features.items()}) for x in (student, teacher)] for b in (0, 1)
    ]
    method = AT(LEVELS)
    single = torch.stack([method(*maps, NOTHING)["kd_at"] for maps in each]).mean()
    torch.testing.assert_close(method(student, teacher, NOTHING)["kd_at"], single)


def test_extremes() -> None:
    check_extremes(AT(LEVELS), (4, 6))


def test_a_student_learns_where_to_look() -> None:
    assert descend(AT(LEVELS[:3]), pyramid(4, 0), pyramid(6, 1), NOTHING, 100, 0.1) < 0.05
