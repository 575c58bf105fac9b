from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.distill.samples import (
    LEVELS,
    NOTHING,
    changed,
    check_extremes,
    descend,
    doubled,
    fixed,
    pyramid,
    shortcut,
    total,
)

from fledge.distill.mgd import MGD, generation_loss, random_cells


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_golden_value() -> None:
    """Without mask and generator."""
    assert 2e-5 * generation_loss(*fixed()).item() == pytest.approx(0.0009207827, abs=1e-10)


def test_gradient() -> None:
    student, teacher = (x[:, :1, :2, :2].clone() for x in fixed())
    assert torch.autograd.gradcheck(lambda s: generation_loss(s, teacher), (student.requires_grad_(),))


@pytest.mark.parametrize("masked", [0.0, 0.45, 0.65, 1.0])
def test_share_of_the_cells(masked: float) -> None:
    """Within three deviations of the binomial distribution, and whole cells."""
    mask = random_cells((2, 100, 100), masked, dice())
    assert mask.shape == (2, 1, 100, 100)
    assert set(mask.flatten().tolist()) <= {0.0, 1.0}
    assert abs(float(mask.mean()) - (1 - masked)) <= 3 * math.sqrt(masked * (1 - masked) / 20_000)


def test_the_same_dice_the_same_mask() -> None:
    assert torch.equal(random_cells((2, 9, 7), 0.5, dice(1)), random_cells((2, 9, 7), 0.5, dice(1)))
    assert not torch.equal(random_cells((2, 9, 7), 0.5, dice(1)), random_cells((2, 9, 7), 0.5, dice(2)))


def test_masks_follow_the_steps() -> None:
    """Each step another mask, the same again after the state is restored, and none used up outside training."""
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), MGD(4, 4, LEVELS)
    first = total(method, student, teacher, NOTHING)
    kept = copy.deepcopy(method.state_dict())
    second = total(method, student, teacher, NOTHING)
    assert float(first.detach()) != float(second.detach())
    method.load_state_dict(kept)
    torch.rand(5)
    total(method.eval(), student, teacher, NOTHING)
    assert torch.equal(total(method.train(), student, teacher, NOTHING), second)


def test_a_blanked_cell_is_not_seen() -> None:
    """All blanked: the student's map does not matter. None: it does, and the loss is that of the generators."""
    student, teacher = pyramid(4, 0), pyramid(4, 1)
    blind = MGD(4, 4, LEVELS, masked=1.0)
    assert torch.equal(total(blind, student, teacher, NOTHING), total(blind, teacher, teacher, NOTHING))
    method = MGD(4, 4, LEVELS, 1.0, masked=0.0)
    each = [generation_loss(method.generators[n](student.features[n]), teacher.features[n]) for n in student.features]
    torch.testing.assert_close(total(method, student, teacher, NOTHING), torch.stack(each).sum())


def test_the_mean_over_the_images() -> None:
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), MGD(4, 4, LEVELS, masked=0.0)
    torch.testing.assert_close(
        total(method, doubled(student), doubled(teacher), NOTHING), total(method, student, teacher, NOTHING)
    )


def test_other_widths_and_sizes() -> None:
    method = MGD(4, 6, LEVELS)
    torch.autograd.backward(total(method, pyramid(4, 0), pyramid(6, 1, side=256), NOTHING))
    assert all(p.grad is not None for p in method.parameters())


def test_extremes() -> None:
    check_extremes(MGD(4, 6, LEVELS), (4, 6))


def test_a_student_learns_from_it() -> None:
    """Through generators that pass positive maps on, with nothing blanked."""
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), MGD(4, 4, LEVELS[:2], masked=0.0)
    for conv in method.generators.modules():
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.dirac_(conv.weight)
    assert descend(method, changed(student, torch.abs), changed(teacher, torch.abs), NOTHING, 100, 0.1) < 0.1


def test_no_shortcut() -> None:
    method = MGD(4, 4, LEVELS[:1])
    assert shortcut(method, pyramid(4, 0, side=512), pyramid(4, 1, side=512), NOTHING) > 0.5
