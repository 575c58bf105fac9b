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

from fledge.distill.insdist import TERMS, InsDist, alike, object_means, relation_loss, similarities
from fledge.types import Batch


def test_golden_values() -> None:
    """Rescaled as released, by the largest value alone."""
    teacher = fixed()[1][0]
    box = torch.tensor([[20.0, 16, 24, 16, 0]], dtype=torch.float64)
    found = similarities(teacher, object_means(teacher, box, 8)).flatten()
    released = (found - found.min()) / found.max()
    assert released[:4].tolist() == pytest.approx([0, 0.2323647251, 0.5157643621, 0.8231816131], abs=1e-9)
    assert released.max().item() == pytest.approx(1.7676987056, abs=1e-6)


def test_means_and_mask_cell_by_cell() -> None:
    """Two boxes of whole cells."""
    x = fixed()[1][0]
    boxes = torch.tensor([[12.0, 12, 24, 8, 0], [28, 24, 8, 16, 0]], dtype=torch.float64)
    cells = [[(1, 0), (1, 1), (1, 2)], [(2, 3), (3, 3)]]
    expected = torch.zeros(4, 4, dtype=torch.bool)
    for n, inside in enumerate(cells):
        mean = [sum(float(x[c, i, j]) for i, j in inside) / len(inside) for c in range(3)]
        assert object_means(x, boxes, 8)[n].tolist() == pytest.approx(mean)
        found = [[sum(mean[c] * float(x[c, i, j]) for c in range(3)) for j in range(4)] for i in range(4)]
        low, high = min(map(min, found)), max(map(max, found))
        expected |= torch.tensor([[(v - low) / (high - low) > 0.6 for v in row] for row in found])
    assert 0 < int(expected.sum()) < 16
    assert torch.equal(alike(x, boxes, 8, 0.6), expected)


def test_no_object_and_a_flat_map_have_no_mask() -> None:
    x = fixed()[1][0]
    assert not alike(x, torch.zeros(0, 5), 8, 0.5).any()
    assert not alike(torch.ones(3, 4, 4), torch.tensor([[8.0, 8, 8, 8, 0]]), 8, 0.5).any()


def slow_relation(student: Tensor, teacher: Tensor, labels: list[int], balanced: bool) -> float:
    """Pair by pair, in plain Python."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    found: dict[bool, list[float]] = {True: [], False: []}
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j:
                s, t = (cosine(x[i].tolist(), x[j].tolist()) for x in (student, teacher))
                found[labels[i] == labels[j]].append((s - t) ** 2)
    groups = [g for g in found.values() if g] if balanced else [found[True] + found[False]]
    return sum(sum(g) / len(g) for g in groups) / len(groups)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
def test_relation_pair_by_pair(labels: list[int], balanced: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, c, generator=generator, dtype=torch.float64) for c in (3, 4))
    found = relation_loss(student, teacher, torch.tensor(labels), balanced)
    assert found.item() == pytest.approx(slow_relation(student, teacher, labels, balanced), abs=1e-12)
    turn = torch.tensor([3, 1, 4, 0, 2])
    again = relation_loss(7 * student[turn], teacher[turn], torch.tensor(labels)[turn], balanced)
    torch.testing.assert_close(again, found)


def test_gradients() -> None:
    student, teacher = (x[:, :, 0, :2].flatten(1).clone() for x in fixed())
    labels = torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda s: relation_loss(s, teacher, labels), (student.requires_grad_(),))
    x = fixed()[0][0].clone().requires_grad_()
    boxes = torch.tensor([[12.0, 12, 24, 8, 0.3], [28, 24, 8, 16, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: object_means(x, boxes, 8), (x,))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_objects_have_no_relation(count: int) -> None:
    student = torch.ones(count, 3, requires_grad=True)
    loss = relation_loss(student, torch.ones(count, 4), torch.zeros(count, dtype=torch.int64))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert student.grad is not None


def identity(method: InsDist) -> InsDist:
    for conv in method.adapters.convs.values():
        assert isinstance(conv, torch.nn.Conv2d)
        assert conv.bias is not None
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    return method


def test_terms() -> None:
    """Squares inside and outside the mask, level by level; a twin has nothing to teach."""
    student, teacher = pyramid(4, 0, side=256), pyramid(4, 1, side=256)
    method = identity(InsDist(4, 4, LEVELS))
    coarse = teacher.features["p5"]
    masks = [alike(x, t.boxes, 32, 0.5) for x, t in zip(coarse, OBJECTS.targets, strict=True)]
    expected = dict.fromkeys(TERMS, 0.0)
    for name in LEVELS:
        squares = (student.features[name] - teacher.features[name]).square().sum(dim=1)
        H, W = squares.shape[1:]
        sums = [0.0, 0.0]
        for b, mask in enumerate(masks):
            for i in range(H):
                for j in range(W):
                    sums[0 if mask[i * 8 // H, j * 8 // W] else 1] += float(squares[b, i, j])
        expected["kd_insdist_fg"] += 1e-3 * math.sqrt(sums[0])
        expected["kd_insdist_bg"] += 5e-4 * math.sqrt(sums[1])
    maps = [x.features["p3"] for x in (student, teacher)]
    means = [torch.cat([object_means(x, t.boxes, 8) for x, t in zip(m, OBJECTS.targets, strict=True)]) for m in maps]
    expected["kd_insdist_relation"] = slow_relation(means[0], means[1], [0, 0, 1], balanced=False)
    found = {k: float(v.detach()) for k, v in method(student, teacher, OBJECTS).items()}
    assert found == pytest.approx(expected, rel=1e-4)
    assert total(method, teacher, teacher, OBJECTS).item() == 0


def test_the_ignored_do_not_count_and_other_images_have_other_masks() -> None:
    student, teacher, method = pyramid(4, 0, side=256), pyramid(4, 1, side=256), InsDist(4, 4, LEVELS)
    rows = [[[30.0, 40, 40, 20, 0.4]], [[90.0, 60, 60, 30, -0.5]]]
    loss = total(method, student, teacher, batch_of(*rows))
    hidden = batch_of(*rows, ignored=[[100.0, 200, 90, 60, 0]])
    assert torch.equal(total(method, student, teacher, hidden), loss)
    swapped = Batch(hidden.images, hidden.sizes, hidden.targets[::-1])
    torch.testing.assert_close(total(method, turned(student), turned(teacher), swapped), loss)
    assert abs(float((total(method, turned(student), turned(teacher), hidden) - loss).detach())) > 1e-6


def test_at_most_256_objects_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends are among those that are taken."""
    rows = [[8.0 * (k % 16), 8.0 * (k // 16), 6, 6, 0] for k in range(250)]
    seen: list[Tensor] = []

    def watching(student: Tensor, *more: object) -> Tensor:
        seen.append(student)
        return student.sum()

    monkeypatch.setattr("fledge.distill.insdist.relation_loss", watching)
    student = pyramid(4, 0)
    InsDist(4, 4, LEVELS)(student, pyramid(4, 1), batch_of(rows, rows))
    assert seen[0].shape == (256, 4)
    assert torch.equal(seen[0][0], student.features["p3"][0, :, 0, 0])


def test_without_objects_all_is_outside() -> None:
    terms = InsDist(4, 4, LEVELS)(leaves(pyramid(4, 0)), pyramid(4, 1), NOTHING)
    assert [terms[k].item() > 0 for k in TERMS] == [False, True, False]
    assert all(v.requires_grad for v in terms.values())


def test_other_widths_and_sizes() -> None:
    method = InsDist(4, 6, LEVELS)
    torch.autograd.backward(total(method, pyramid(4, 0), pyramid(6, 1, side=256), OBJECTS))
    assert all(p.grad is not None for p in method.parameters())


def test_extremes() -> None:
    check_extremes(InsDist(4, 6, LEVELS), (4, 6))


def test_a_student_learns_the_maps() -> None:
    method = identity(InsDist(4, 4, LEVELS[:2]))
    assert descend(method, pyramid(4, 0), pyramid(4, 1), OBJECTS, 60, 0.1) < 0.3


def test_no_shortcut() -> None:
    method = InsDist(4, 4, LEVELS[:1], {**dict.fromkeys(TERMS, 1.0), "kd_insdist_relation": 0.0})
    assert shortcut(method, pyramid(4, 0), pyramid(4, 1), OBJECTS) > 0.5
