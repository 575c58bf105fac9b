from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.distill.samples import LEVELS, OBJECTS, batch_of, descend, fixed, pyramid, shortcut
from torch import Tensor

from fledge.assign.max_iou import Assignment
from fledge.distill.arsd import ARSD, TERMS, better_boxes, centredness, level_and_weight, masked_squares
from fledge.errors import UsageError
from fledge.geometry.coder import decode, encode
from fledge.geometry.iou import rotated_iou
from fledge.types import Batch, Outputs


def nothing_assigned(outputs: Outputs, batch: Batch) -> Assignment:
    labels = torch.full((len(batch.targets), 1), -1)
    return Assignment(labels, labels >= 0, labels > -2, torch.zeros(0, 5))


def method(channels: tuple[int, int] = (4, 4), **settings: Any) -> ARSD:
    """Without a single anchor that learns."""
    given = {"assign": nothing_assigned, "anchor_boxes": lambda _: torch.zeros(1, 5), "boxes_at": decode}
    return ARSD(*channels, LEVELS, **{**given, **settings})


def with_logits(outputs: Outputs, seed: int) -> Outputs:
    """Two anchors and three classes at P3 alone, one anchor with codes."""
    generator = torch.Generator().manual_seed(seed)
    logits = tuple(torch.randn(len(x), 2, 3, *x.shape[2:], generator=generator) for x in outputs.features.values())
    codes = tuple(torch.zeros(len(x), 1, 5, 1, 1) for x in list(outputs.features.values())[:1])
    return replace(outputs, logits=logits, codes=codes)


def sample(channels: int, seed: int, **more: Any) -> Outputs:
    return with_logits(pyramid(channels, seed, **more), seed)


@pytest.mark.parametrize(
    ("side", "level", "weight"),
    [(16, 0, 1.9692), (64, 0, 1.8825), (128, 1, 1.7788), (256, 2, 1.6065), (512, 3, 1.3679)],
)
def test_golden_levels_and_weights(side: float, level: int, weight: float) -> None:
    boxes = torch.tensor([[500.0, 500, 2 * side, side / 2, 0.7]], dtype=torch.float64)
    found = level_and_weight(boxes, (1024, 1024))
    assert found[0].item() == level
    assert found[1].item() == pytest.approx(weight, abs=5e-5)


def test_the_ends_of_the_pyramid() -> None:
    boxes = torch.tensor([[5.0, 5, 0, 3, 0], [5, 5, 4096, 4096, 0]])
    assert level_and_weight(boxes, (1024, 1024))[0].tolist() == [0, 4]
    assert level_and_weight(boxes, (1024, 1024), 4)[0].tolist() == [0, 3]
    assert [len(x) for x in level_and_weight(boxes[:0], (8, 8))] == [0, 0]


def test_squares_by_loops_and_their_gradient() -> None:
    student, teacher = fixed()
    mask = (torch.arange(32).view(2, 4, 4) % 3).double()
    total = 0.0
    for b in range(2):
        for i in range(4):
            for j in range(4):
                total += float(mask[b, i, j]) * sum(
                    float(student[b, c, i, j] - teacher[b, c, i, j]) ** 2 for c in range(3)
                )
    assert masked_squares(student, teacher, mask).item() == pytest.approx(total / (2 * float(mask.sum()) + 1))
    small = student[:, :2, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: masked_squares(s, teacher[:, :2, :2, :2], mask[:, :2, :2]), (small,))


def test_centredness_by_hand() -> None:
    """A box of 8 × 4 turned by a quarter: along it 1 from the middle, 3 and 5 to the ends; across in the middle."""
    box = torch.tensor([[10.0, 20, 8, 4, math.pi / 2]], dtype=torch.float64).expand(4, 5)
    points = torch.tensor([[10.0, 20], [10, 21], [9, 21], [10, 25]], dtype=torch.float64)
    expected = [1, math.sqrt(3 / 5), math.sqrt(3 / 5 * 1 / 3), 0]
    assert centredness(points, box).tolist() == pytest.approx(expected)
    flat = torch.tensor([[10.0, 20, 0, 0, 0]])
    assert centredness(flat[:, :2], flat).isfinite().all()


OBJECT = torch.tensor([[50.0, 50, 40, 20, 0.3]])
NEAR, NEARER, NEAREST = (OBJECT + torch.tensor([[d, 0, 0, 0, 0]]) for d in (12.0, 6.0, 2.0))


def test_only_where_the_teacher_is_better() -> None:
    rows = [(NEARER, NEAREST, NEAR), (NEAREST, NEARER, NEAR), (NEAR, NEAREST, NEARER), (NEARER, NEARER, NEAR)]
    student, teacher, anchors = (torch.cat(column) for column in zip(*rows, strict=True))
    found = better_boxes(student, teacher, anchors, OBJECT.expand(4, 5))
    assert found.tolist() == [True, False, False, False]


def codes_of(anchor: Tensor, boxes: list[Tensor]) -> tuple[Tensor]:
    """One map of an image with ``boxes`` as the anchors of its only cell."""
    return (torch.cat([encode(anchor, box) for box in boxes])[None, :, :, None, None],)


def test_the_box_term() -> None:
    """Three positives at one anchor box, of which one has a better teacher: a third of its share of 1 - IoU."""
    anchor = torch.tensor([[60.0, 50, 40, 20, 0]])
    labels = torch.zeros(1, 3, dtype=torch.int64)
    assignment = Assignment(labels, labels >= 0, labels >= 0, OBJECT.expand(3, 5))
    distiller = method(assign=lambda *_: assignment, anchor_boxes=lambda _: anchor.expand(3, 5))
    own, other = (sample(4, n, images=1) for n in (0, 1))
    student = replace(own, codes=codes_of(anchor, [NEARER, NEAREST, NEAREST]))
    teacher = replace(other, codes=codes_of(anchor, [NEAREST, NEARER, NEAREST]))
    student.codes[0].requires_grad_()
    term = distiller(student, teacher, batch_of([]))["kd_arsd_box"]
    torch.autograd.backward(term)
    share = centredness(anchor[:, :2], OBJECT).item() * (1 - rotated_iou(NEARER, NEAREST, aligned=True).item())
    assert share > 0
    assert term.item() == pytest.approx(0.2 * share / 3, rel=1e-4)
    gradient = student.codes[0].grad
    assert gradient is not None
    assert [bool(g.any()) for g in gradient[0]] == [True, False, False]


@pytest.mark.parametrize("area_weight", [True, False])
def test_each_object_at_its_level(area_weight: bool) -> None:
    """16 px of 128 is of the second level, 64 px of the fourth: nothing at the others."""
    batch = batch_of([[32.0, 32, 16, 16, 0]], [[64.0, 64, 64, 64, 0]])
    student, teacher = sample(4, 0), sample(4, 1)
    distiller = method(weights=dict(zip(TERMS, (0.0, 1.0, 0.0), strict=True)), area_weight=area_weight)
    found = distiller(student, teacher, batch)["kd_arsd_cls"].item()
    expected = 0.0
    for level, image, rows, side in ((1, 0, slice(1, 3), 16), (3, 1, slice(1, 2), 64)):
        mask = torch.zeros_like(student.logits[level][:, 0, 0])
        rows = rows if level == 1 else slice(0, 2)
        mask[image, rows, rows] = 1 + math.exp(-2 * side / 128) if area_weight else 1.0
        squares = (student.logits[level] - teacher.logits[level]).square().sum(dim=(1, 2))
        expected += float((squares * mask).sum() / (2 * mask.sum() + 1))
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_image_without_objects_has_no_gradient() -> None:
    student = sample(4, 0)
    maps = {k: v.requires_grad_() for k, v in student.features.items()}
    logits = [x.requires_grad_() for x in student.logits]
    terms = method()(replace(student, features=maps), sample(4, 1), batch_of([], [[64.0, 64, 30, 20, 0.3]]))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for x in (*maps.values(), *logits):
        assert x.grad is not None
        assert not x.grad[0].any()
    assert any(x.grad is not None and x.grad[1].any() for x in logits)


def test_the_ignored_do_not_count() -> None:
    rows = [[30.0, 40, 40, 20, 0.4]], [[90.0, 60, 60, 30, -0.5]]
    student, teacher, distiller = sample(4, 0), sample(4, 1), method()
    seen, hidden = batch_of(*rows), batch_of(*rows, ignored=[[100.0, 100, 50, 40, 0]])
    for term, value in distiller(student, teacher, seen).items():
        assert torch.equal(value, distiller(student, teacher, hidden)[term])


def test_a_twin_behind_the_identity_has_nothing_to_teach() -> None:
    distiller, twin = method(), sample(4, 0)
    for conv in distiller.adapters.convs.values():
        assert isinstance(conv, torch.nn.Conv2d)
        assert conv.bias is not None
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    assert all(v.item() == 0 for v in distiller(twin, twin, OBJECTS).values())


def test_another_head_is_refused() -> None:
    teacher = sample(4, 1)
    other = replace(teacher, logits=tuple(x[:, :, :2] for x in teacher.logits))
    with pytest.raises(UsageError, match="ARSD needs the same levels, anchors and classes"):
        method()(sample(4, 0), other, OBJECTS)


@pytest.mark.parametrize(("scale", "dtype"), [(0.0, torch.float32), (1e3, torch.float16), (1e3, torch.bfloat16)])
@pytest.mark.parametrize("batch", [OBJECTS, batch_of([], [])])
def test_extremes(scale: float, dtype: torch.dtype, batch: Batch) -> None:
    pair = []
    for seed in (0, 1):
        made = sample(4 + seed, seed, scale=scale)
        features = {k: v.to(dtype).requires_grad_() for k, v in made.features.items()}
        pair.append(replace(made, features=features, logits=tuple((scale * x).to(dtype) for x in made.logits)))
    distiller = method((4, 5))
    loss = torch.stack(list(distiller(*pair, batch).values())).sum()
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in pair[0].features.values())
    assert all(x.grad is None for x in pair[1].features.values())
    assert all(p.grad is not None for p in distiller.parameters())


class FeaturesAlone(torch.nn.Module):
    """The feature term, with heads that are the same for both networks."""

    def __init__(self, heads: Outputs) -> None:
        super().__init__()
        self.method = method((2, 2), weights=dict(zip(TERMS, (1.0, 0.0, 0.0), strict=True)))
        self.heads = heads

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Any:
        return self.method(*(replace(self.heads, features=x.features) for x in (student, teacher)), batch)


def test_a_student_learns_the_features() -> None:
    """Where the objects are."""
    batch = batch_of([[40.0, 40, 16, 10, 0.3]], [[64.0, 64, 14, 14, 0]])
    assert descend(FeaturesAlone(sample(2, 0)), pyramid(2, 0), pyramid(2, 1), batch, 100, 0.1) < 0.3


def test_no_shortcut() -> None:
    """Over 16 objects of 64 cells each."""
    boxes = [[64.0 + 128 * k, y, 128, 128, 0] for k in range(8) for y in (200, 700)]
    batch = replace(batch_of(boxes), images=torch.zeros(1, dtype=torch.uint8).expand(1, 3, 1024, 1024))
    student, teacher = (pyramid(2, n, images=1, side=1024) for n in (0, 1))
    assert shortcut(FeaturesAlone(with_logits(student, 0)), student, teacher, batch, 100) > 0.5
