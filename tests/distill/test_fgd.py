from __future__ import annotations

import math

import pytest
import torch
from tests.distill.samples import (
    LEVELS,
    NOTHING,
    OBJECTS,
    batch_of,
    check_extremes,
    descend,
    fixed,
    leaves,
    pyramid,
    shortcut,
    total,
    turned,
)
from torch import Tensor

from fledge.distill.fgd import FGD, TERMS, Relation, background, focal_losses
from fledge.distill.parts.masks import inverse_areas
from fledge.types import Batch


def published_mask() -> Tensor:
    """Boxes rounded outwards by the authors' rule: 3 × 3 cells, and 5 × 5 of which 4 × 4 are on the map."""
    mask = torch.zeros(2, 4, 4, dtype=torch.float64)
    mask[0, :3, :3], mask[1] = 1 / 9, 1 / 25
    return mask


def softmax(values: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(v / temperature) for v in values]
    return [len(values) * e / sum(exponentials) for e in exponentials]


def slow(student: Tensor, teacher: Tensor, foreground: Tensor, temperature: float) -> list[float]:
    """Cell by cell, in plain Python."""
    found = [0.0, 0.0, 0.0]
    B, C, H, W = student.shape
    places = [(i, j) for i in range(H) for j in range(W)]
    for b in range(B):
        maps = [
            (
                softmax([sum(abs(float(x[b, c, i, j])) for c in range(C)) / C for i, j in places], temperature),
                softmax([sum(abs(float(x[b, c, i, j])) for i, j in places) / (H * W) for c in range(C)], temperature),
            )
            for x in (student, teacher)
        ]
        empty = sum(float(foreground[b, i, j]) == 0 for i, j in places)
        for k, (i, j) in enumerate(places):
            squares = sum(
                maps[1][0][k] * maps[1][1][c] * float(student[b, c, i, j] - teacher[b, c, i, j]) ** 2 for c in range(C)
            )
            found[0] += squares * float(foreground[b, i, j]) / B
            found[1] += squares * (float(foreground[b, i, j]) == 0) / max(1, empty) / B
        found[2] += sum(abs(a - b) for k in (0, 1) for a, b in zip(maps[0][k], maps[1][k], strict=True)) / B
    return found


def test_golden_values() -> None:
    student, teacher = fixed()
    found = [x.item() for x in focal_losses(student, teacher, published_mask(), 0.5)]
    assert found == pytest.approx([2.0762028409, 1.8294619327, 3.0897955611], abs=1e-7)
    relation = (student - teacher).square().sum() / 2
    weighted = 1e-3 * found[0] + 5e-4 * found[1] + 1e-3 * found[2] + 5e-6 * relation.item()
    assert weighted == pytest.approx(0.0063109251, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_cell_by_cell(temperature: float) -> None:
    student, teacher = (x[:, :, :3, :2] for x in fixed())
    foreground = torch.tensor([[[0.5, 0], [0, 1], [0, 0.5]], [[0, 0], [0, 0], [0, 0]]]).double()
    found = [x.item() for x in focal_losses(student, teacher, foreground, temperature)]
    assert found == pytest.approx(slow(student, teacher, foreground, temperature), abs=1e-12)


def test_gradient() -> None:
    student, teacher = (x[:, :2, :2, :2].clone() for x in fixed())
    mask = torch.tensor([[[0.5, 0], [0.5, 0]], [[0, 0], [0, 1]]]).double()
    for k in range(3):
        assert torch.autograd.gradcheck(
            lambda s, k=k: focal_losses(s, teacher, mask, 0.5)[k], (student.requires_grad_(),)
        )


def test_background_sums_to_one() -> None:
    foreground = torch.tensor([[[0.5, 0], [0, 0]], [[0.1, 0.1], [1, 1]]])
    third = 1 / 3
    torch.testing.assert_close(background(foreground)[0], torch.tensor([[0, third], [third, third]]))
    assert background(foreground)[1].sum() == 0


def test_the_smaller_object_wins() -> None:
    """A box of 4 × 2 cells over one of 2 × 1, and an ignored one."""
    batch = batch_of([[16.0, 8, 32, 16, 0], [8.0, 4, 16, 8, 0]], ignored=[[60.0, 60, 30, 30, 0.3]])
    mask = inverse_areas(batch.targets[0], (8, 8), 8)
    expected = torch.zeros(8, 8)
    expected[:2, :4] = 1 / 8
    expected[0, :2] = 1 / 2
    assert torch.equal(mask, expected)


def test_disjoint_objects_weigh_one_each() -> None:
    batch = batch_of([[30.0, 40, 40, 20, 0.7], [90.0, 90, 3, 2, 0.1], [90.0, 30, 50, 8, -0.6]])
    assert float(inverse_areas(batch.targets[0], (16, 16), 8).sum()) == pytest.approx(3)


def test_relation_block() -> None:
    """An attention over the cells, by loops; zero at the start."""
    block = Relation(3).double()
    x = fixed()[0]
    assert (block(x) == 0).all()
    torch.nn.init.normal_(next(iter(block.what[3].parameters())))
    for b in range(2):
        scores = [float(block.where(x[b : b + 1])[0, 0, i, j].detach()) for i in range(4) for j in range(4)]
        shares = softmax(scores, 1.0)
        context = sum(share / 16 * x[b, :, k // 4, k % 4] for k, share in enumerate(shares))
        torch.testing.assert_close(block(x)[b, :, 0, 0], block.what(context))


def test_terms_add_up_over_the_levels() -> None:
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), FGD(4, 4, LEVELS)
    terms = method(student, teacher, OBJECTS)
    expected = dict.fromkeys(TERMS, 0.0)
    for name in LEVELS:
        own, other = student.features[name], teacher.features[name]
        stride = 2 ** int(name[1])
        mask = torch.stack([inverse_areas(t, (own.shape[2], own.shape[3]), stride) for t in OBJECTS.targets])
        each = [*focal_losses(own, other, mask, 0.5), (own - other).square().sum() / 2]
        for term, value in zip(TERMS, each, strict=True):
            expected[term] += method.weights[term] * float(value)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_other_images_other_masks() -> None:
    """Turning the batch round changes nothing; giving the images each other's objects does."""
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), FGD(4, 4, LEVELS)
    other = Batch(OBJECTS.images, OBJECTS.sizes, OBJECTS.targets[::-1])
    loss = total(method, student, teacher, OBJECTS)
    torch.testing.assert_close(total(method, turned(student), turned(teacher), other), loss)
    assert abs(float((total(method, turned(student), turned(teacher), OBJECTS) - loss).detach())) > 1e-4


def test_without_objects_all_is_background() -> None:
    student = leaves(pyramid(4, 0))
    terms = FGD(4, 4, LEVELS)(student, pyramid(4, 1), NOTHING)
    assert terms["kd_fgd_fg"].item() == 0
    assert terms["kd_fgd_fg"].requires_grad
    assert terms["kd_fgd_bg"].item() > 0


def test_other_widths_and_sizes() -> None:
    method = FGD(4, 6, LEVELS)
    torch.autograd.backward(total(method, pyramid(4, 0), pyramid(6, 1, side=256), OBJECTS))
    assert all(p.grad is not None for p in method.parameters())


def test_extremes() -> None:
    check_extremes(FGD(4, 6, LEVELS), (4, 6))


def test_a_student_learns_the_maps() -> None:
    assert descend(FGD(4, 4, LEVELS[:2]), pyramid(4, 0), pyramid(4, 1), OBJECTS, 100, 0.1) < 0.2


def test_no_shortcut() -> None:
    """The figure in the header."""
    only_global = dict.fromkeys(TERMS, 0.0) | {"kd_fgd_global": 1e-3}
    method = FGD(8, 8, LEVELS[:1], only_global)
    assert shortcut(method, pyramid(8, 0), pyramid(8, 1), OBJECTS) == pytest.approx(0.99, abs=0.02)
