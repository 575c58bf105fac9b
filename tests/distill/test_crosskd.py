from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fledge.assign.max_iou import Assignment
from fledge.build import build_detector
from fledge.distill.crosskd import CrossKD, aligned
from fledge.distill.parts.quality_focal import quality_focal
from fledge.distillers import DISTILLERS
from fledge.errors import UsageError
from fledge.geometry.coder import decode
from fledge.losses.giou import giou_loss
from fledge.losses.kld import kld_loss
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.models.heads import RetinaHead
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets

LEVELS = ("p3", "p4", "p5", "p6", "p7")
TINY = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 3, "image_size": 64, "overlap": 0}


def fixed() -> tuple[Tensor, Tensor]:
    """The tensors of the notes: sin(0.7 k + 0.1) and cos(0.31 k + 0.5), (2, 3, 4, 4)."""
    k = torch.arange(96, dtype=torch.float64)
    return (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)


def detector(seed: int, **settings: Any) -> RotatedRetinaNet:
    return build_detector(make_recipe({**TINY, "seed": seed, **settings}, "test"), ["a", "b"]).eval()


def method(student: RotatedRetinaNet, teacher: RotatedRetinaNet, **settings: Any) -> CrossKD:
    recipe = make_recipe({**TINY, "method": "crosskd", **settings}, "test")
    made = DISTILLERS["crosskd"](recipe, student, teacher.requires_grad_(False))
    assert isinstance(made, CrossKD)
    return made


def batch(*counts: int) -> Batch:
    images = torch.randint(0, 256, (len(counts), 3, 64, 64), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[30.0, 30, 34, 28, 0.2], [40, 24, 30, 20, -0.6]])
    no = torch.zeros(2, dtype=torch.bool)
    targets = tuple(Targets(boxes[:n], torch.arange(n), ignore=no[:n], difficult=no[:n]) for n in counts)
    return Batch(images.to(torch.uint8), torch.full((len(counts), 2), 64), targets)


def run(distiller: CrossKD, student: RotatedRetinaNet, teacher: RotatedRetinaNet, some: Batch) -> dict[str, Tensor]:
    with torch.no_grad():
        lesson = teacher(some.images)
    terms: dict[str, Tensor] = distiller(student(some.images), lesson, some)
    return terms


def test_alignment_golden_values() -> None:
    student, teacher = fixed()
    out = aligned(student, teacher)
    assert out[0, 0, 0, :3].tolist() == pytest.approx([0.0430662061, 0.6697906236, 0.9541038860], abs=1e-9)
    assert out[:, 0].mean().item() == pytest.approx(-0.0667645094, abs=1e-9)
    torch.testing.assert_close(aligned(teacher, teacher), teacher, atol=2e-6, rtol=0)


def test_alignment_by_channel() -> None:
    student, teacher = fixed()
    out = aligned(student * 3 + 5, teacher)
    for c in range(3):
        own, other, made = student[:, c].flatten(), teacher[:, c].flatten(), out[:, c].flatten()
        slope, offset = made.var().sqrt() / own.var().sqrt(), made.mean()
        assert offset.item() == pytest.approx(other.mean().item(), abs=1e-12)
        assert made.var().item() == pytest.approx(other.var().item(), abs=1e-5)
        torch.testing.assert_close(made, (own - own.mean()) * slope + offset)


def test_alignment_gradient() -> None:
    student, teacher = fixed()
    small = student[:, :2, :2, :2].clone().requires_grad_()
    teacher = teacher[:, :2, :2, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: aligned(s, teacher), (small,))
    aligned(small, teacher).sum().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 1), (1, 3, 4, 4)])
def test_constant_maps_are_finite(shape: tuple[int, ...]) -> None:
    flat = torch.zeros(shape, requires_grad=True)
    out = aligned(flat, torch.ones(shape))
    torch.autograd.backward(out.sum())
    assert torch.equal(out, torch.ones(shape))
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def stub(seed: int) -> Outputs:
    """Two levels, one anchor, two classes, and maps of seven channels that are logits and codes already."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 7, s, s, generator=generator, dtype=torch.float64) for s in (3, 2)]
    named = {f"{stack}.p{3 + i}": x for i, x in enumerate(maps) for stack in ("cls_stack", "box_stack")}
    return Outputs(tuple(x[:, None, :2] for x in maps), tuple(0.1 * x[:, None, 2:] for x in maps), named)


def test_a_head_that_does_nothing_compares_the_maps() -> None:
    """Slow and plain: a loop over images, cells and classes."""
    student, teacher = stub(0), stub(1)
    anchors = torch.tensor([[8.0, 8, 20, 10, 0]]).repeat(13, 1).double()
    positives = torch.zeros(2, 13, dtype=torch.bool)
    found = Assignment(positives.long(), positives, ~positives, torch.zeros(4, 5))
    distiller = CrossKD(
        lambda *_: found,
        lambda _: anchors,
        decode,
        kld_loss,
        lambda cls, box: (cls[:, None, :2], 0.1 * box[:, None, 2:]),
        7,
        7,
        ("p3", "p4"),
        cls_weight=2.0,
        box_weight=3.0,
    )
    terms = distiller(student, teacher, Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2, 2), ()))
    cls = box = 0.0
    for level in ("p3", "p4"):
        own = aligned(student.features[f"cls_stack.{level}"], teacher.features[f"cls_stack.{level}"])
        other = teacher.features[f"cls_stack.{level}"]
        for image in range(2):
            for i in range(own.shape[2]):
                for j in range(own.shape[3]):
                    s, t = own[image, :, i, j], other[image, :, i, j]
                    cls += sum(float(quality_focal(s[k], t[k])) for k in range(2))
                    one, two = (decode(anchors[:1], 0.1 * x[None, 2:]) for x in (s, t))
                    box += float(t[:2].sigmoid().max()) * float(kld_loss(one, two))
    assert terms["kd_cross_cls"].item() == pytest.approx(2 * cls / 4, rel=1e-9)
    assert terms["kd_cross_box"].item() == pytest.approx(3 * box / 4, rel=1e-9)


@pytest.mark.parametrize("rest", [0, 1, 2, 3])
def test_where_gradients_go(rest: int) -> None:
    """To the student's convolutions up to the tap and below, not past it; through the teacher, not into it."""
    student, teacher = detector(0), detector(1)
    terms = run(method(student, teacher, crosskd_rest=rest), student, teacher, batch(2, 1))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    head = student.head
    assert isinstance(head, RetinaHead)
    for stack in (head.cls_stack, head.box_stack):
        convs = [layer for layer in stack if isinstance(layer, torch.nn.Conv2d)]
        reached = [c.weight.grad is not None and bool(c.weight.grad.any()) for c in convs]
        assert reached == [i < 3 - rest for i in range(3)]
    assert head.cls_out.weight.grad is None
    assert head.box_out.weight.grad is None
    assert all(p.grad is not None for p in student.neck.output.parameters())  # type: ignore[union-attr]
    assert all(p.grad is None for p in teacher.parameters())


def test_the_teachers_own_maps_give_its_own_predictions() -> None:
    """The rest of the head continues where the tap is: what goes in comes out as it does in the teacher's forward."""
    student, teacher = detector(0), detector(1)
    distiller = method(student, teacher)
    some = batch(1, 1)
    lesson = teacher(some.images)
    crossed = [distiller.finish(*(lesson.features[f"{s}.{n}"] for s in ("cls_stack", "box_stack"))) for n in LEVELS]
    for i in range(5):
        assert torch.equal(crossed[i][0], lesson.logits[i])
        assert torch.equal(crossed[i][1], lesson.codes[i])


def test_other_widths_and_depths() -> None:
    student, teacher = detector(0, neck_channels=8, head_convs=1), detector(1)
    distiller = method(student, teacher)
    terms = run(distiller, student, teacher, batch(2))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    assert all(p.grad is not None and bool(p.grad.any()) for p in distiller.adapters["cls_stack"].parameters())
    assert {tuple(p.shape) for p in distiller.parameters()} == {(16, 8, 1, 1), (16,)}
    assert not list(method(detector(0), detector(1)).parameters())


def test_a_rest_longer_than_a_head_is_refused() -> None:
    with pytest.raises(UsageError, match="crosskd_rest is 2, convolutions of the student's head 1, of the teacher's 3"):
        method(detector(0, head_convs=1), detector(1), crosskd_rest=2)


def test_heads_of_another_kind_are_refused() -> None:
    student, teacher = detector(0), detector(1)
    teacher.head = torch.nn.Identity()
    with pytest.raises(UsageError, match="student RetinaHead, teacher Identity"):
        method(student, teacher)


@pytest.mark.parametrize("bins", [0, 5])
@pytest.mark.parametrize("loss", ["kld", "rotated_iou", "giou"])
def test_box_losses_and_distributions(loss: str, bins: int) -> None:
    student, teacher = detector(0, box_bins=bins), detector(1, box_bins=bins)
    distiller = method(student, teacher, crosskd_box_loss=loss, crosskd_cls_weight=0.0)
    term = run(distiller, student, teacher, batch(2))["kd_cross_box"]
    assert 0 < float(term.detach()) < 100
    assert (distiller.box_loss is giou_loss) == (loss == "giou")


def test_large_maps_stay_finite() -> None:
    student, teacher = detector(0), detector(1)
    distiller, some = method(student, teacher), batch(2)
    with torch.no_grad():
        own, lesson = student(some.images), teacher(some.images)
    large = [replace(o, features={k: (1e3 * v).bfloat16() for k, v in o.features.items()}) for o in (own, lesson)]
    assert all(bool(v.isfinite()) for v in distiller(large[0], large[1], some).values())


def test_a_student_learns_from_it() -> None:
    """Maps of the student, moved by both terms alone, come to mean the same to the teacher's head."""
    student, teacher = detector(0), detector(1)
    distiller, some = method(student, teacher), batch(2)
    assert isinstance(teacher.head, RetinaHead)
    torch.nn.init.normal_(teacher.head.cls_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, lesson = student(some.images), teacher(some.images)
    moved = {k: v.clone().requires_grad_() for k, v in own.features.items() if k.startswith(("cls_stack", "box_stack"))}
    optimizer, history = torch.optim.Adam(moved.values(), lr=0.05), []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.stack(list(distiller(replace(own, features=moved), lesson, some).values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.2 * history[0]
    assert apart(distiller, replace(own, features=moved), lesson) < 0.5 * apart(distiller, own, lesson)


@torch.no_grad()
def apart(distiller: CrossKD, student: Outputs, teacher: Outputs) -> float:
    """How far the teacher's head sees the two maps of P3 apart, in logits."""
    names = ("cls_stack.p3", "box_stack.p3")
    seen, _ = distiller.finish(*(aligned(student.features[n], teacher.features[n]) for n in names))
    return float((seen - teacher.logits[0]).abs().mean())
