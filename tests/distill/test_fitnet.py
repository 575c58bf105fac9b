from __future__ import annotations

import pytest
import torch
from tests.distill.samples import LEVELS, NOTHING, check_extremes, descend, doubled, fixed, pyramid, shortcut, total

from fledge.distill.fitnet import FitNet, hint_loss


def identity(method: FitNet) -> FitNet:
    """The same with convolutions that change nothing."""
    for conv in method.adapters.convs.values():
        assert isinstance(conv, torch.nn.Conv2d)
        assert conv.bias is not None
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    return method


def test_golden_value() -> None:
    student, teacher = fixed()
    assert hint_loss(student, teacher).item() == pytest.approx(0.9591486271, abs=1e-9)
    assert hint_loss(student, teacher).item() * student[0].numel() == pytest.approx(46.0391340899, abs=1e-8)


def test_gradient_is_the_difference() -> None:
    student, teacher = fixed()
    student.requires_grad_()
    torch.autograd.backward(hint_loss(student, teacher))
    assert student.grad is not None
    torch.testing.assert_close(student.grad, 2 * (student.detach() - teacher) / 96)
    assert torch.autograd.gradcheck(hint_loss, (student[:, :1, :2, :2], teacher[:, :1, :2, :2]))


def test_sum_of_all_levels_after_a_convolution_each() -> None:
    """By loops: a 1×1 convolution is a matrix at each place."""
    student, teacher = pyramid(3, 0), pyramid(5, 1)
    method = FitNet(3, 5, LEVELS, 0.5)
    expected = 0.0
    for name in LEVELS:
        conv = method.adapters.convs[name]
        assert isinstance(conv, torch.nn.Conv2d)
        moved = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], student.features[name])
        difference = moved + conv.bias.view(1, -1, 1, 1) - teacher.features[name]  # type: ignore[union-attr]
        expected += 0.5 * float((difference**2).sum().detach()) / difference.numel()
    term = method(student, teacher, NOTHING)["kd_fitnet"]
    assert float(term.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_twin_behind_the_identity_has_nothing_to_teach() -> None:
    twin = pyramid(4, 0)
    assert total(identity(FitNet(4, 4, LEVELS)), twin, twin, NOTHING).item() == 0


def test_the_same_images_twice_have_the_same_loss() -> None:
    student, teacher = pyramid(4, 0), pyramid(4, 1)
    method = FitNet(4, 4, LEVELS)
    torch.testing.assert_close(
        total(method, doubled(student), doubled(teacher), NOTHING), total(method, student, teacher, NOTHING)
    )


def test_extremes() -> None:
    check_extremes(FitNet(4, 6, LEVELS), (4, 6))


def test_a_student_learns_the_maps() -> None:
    assert descend(FitNet(4, 4, LEVELS), pyramid(4, 0), pyramid(4, 1), NOTHING, 100, 0.2) < 0.1


def test_the_convolutions_alone_cannot_do_it() -> None:
    large = pyramid(4, 0, side=512), pyramid(4, 1, side=512)
    assert shortcut(FitNet(4, 4, LEVELS[:2]), *large, NOTHING) > 0.5
