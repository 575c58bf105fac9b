"""The distillers on horizontal detectors: which outputs they read, and that the second stage is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.build import build_detector, build_train_step
from fledge.distill.kd_rnet import KDRNet, box_difference
from fledge.engine.balance import gradient_ratios
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.geometry.upright import encode_upright, extents, upright_hulls
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import METHODS, DistillRecipe, Recipe, for_classes, make_recipe
from fledge.types import Batch, Targets, flatten_levels

CLASSES = ("plane", "ship", "tank")
TINY: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "image_size": 64, "overlap": 0,
    "region_width": 16, "proposals": 40, "region_samples": 16,
}  # fmt: skip
DETECTORS = ("retinanet", "faster_rcnn")
PAIRS = [(d, m) for d in DETECTORS for m in ("kd_rnet", "pkd")]
# What a method needs beside its defaults, or to have its weight from the first step.
NEEDS: dict[str, dict[str, Any]] = {
    "crosskd": {"head_convs": 2},
    "frs": {"frs_ramp_steps": 0},
    "ifkd": {"ifkd_disturbance": "edges", "ifkd_ramp_steps": 0},
    "ld": {"box_bins": 7},
}
REFUSED = {("faster_rcnn", "crosskd"), ("faster_rcnn", "ld")}  # read inside RetinaNet's head
EVERY = [(d, m) for d in DETECTORS for m in METHODS if m != "none" and (d, m) not in REFUSED]
MAY_BE_ZERO = {"kd_arsd_box", "kd_filter"}  # the teacher's box is seldom better; the filter starts as 1


def detector(name: str, seed: int, method: str = "") -> DenseDetector:
    """With the head that a method needs."""
    needs = {key: value for key, value in NEEDS.get(method, {}).items() if key in Recipe.model_fields}
    return build_detector(make_recipe({**TINY, **needs, "detector": name, "seed": seed}, "test"), CLASSES)


def recipe_of(name: str, method: str) -> DistillRecipe:
    recipe = make_recipe({**TINY, **NEEDS.get(method, {}), "detector": name, "method": method}, "test")
    assert isinstance(recipe, DistillRecipe)
    return recipe


def step_of(name: str, method: str, student: DenseDetector, teacher: DenseDetector) -> TrainStep:
    return build_train_step(for_classes(recipe_of(name, method), len(CLASSES)), student, teacher)


@pytest.fixture
def batch() -> Batch:
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    no = torch.zeros(2, dtype=torch.bool)
    boxes = torch.tensor([[30.0, 30, 34, 30, 0.2], [40, 40, 40, 20, -1.2]])
    targets = Targets(boxes, torch.tensor([0, 2]), no, no)
    return Batch(images, torch.full((2, 2), 64), (targets, Targets.empty()))


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_terms_and_names(name: str, method: str, batch: Batch) -> None:
    student, teacher = detector(name, 0), detector(name, 1)
    step, calls = step_of(name, method, student, teacher).train(), 0
    if name == "faster_rcnn":

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        teacher.region_head.register_forward_hook(count)  # type: ignore[union-attr]
    terms = step(batch)
    extra = {"kd_cls", "kd_box"} if method == "kd_rnet" else {"kd_pkd"}
    assert extra < set(terms)
    assert all(float(terms[term].detach()) > 0 for term in extra)
    torch.stack([terms[term] for term in extra]).sum().backward()  # type: ignore[no-untyped-call]
    assert calls == 0
    assert all(value > 0 for value in gradient_ratios(step, [batch]).values())
    assert list(student.state_dict()) == list(detector(name, 0).state_dict())


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_every_method_teaches(name: str, method: str, batch: Batch) -> None:
    student, teacher = detector(name, 0, method), detector(name, 1, method)
    step = step_of(name, method, student, teacher).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    terms = {key: value for key, value in step(batch).items() if key.startswith("kd_")}
    assert set(terms) == set(recipe_of(name, method).weight_fields())
    assert all(bool(value.isfinite()) for value in terms.values())
    assert all(float(terms[key].detach()) > 0 for key in set(terms) - MAY_BE_ZERO)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    for part in (student.backbone, student.neck):
        gradients = [p.grad for p in part.parameters() if p.requires_grad]
        assert all(g is None or bool(g.isfinite().all()) for g in gradients)
        assert sum(g is not None and bool((g != 0).any()) for g in gradients) > len(gradients) / 3
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_nothing_to_find(name: str, method: str, batch: Batch) -> None:
    step = step_of(name, method, detector(name, 0, method), detector(name, 1, method)).train()
    empty = Batch(batch.images, batch.sizes, (Targets.empty(), Targets.empty()))
    terms = step(empty)
    assert all(bool(v.isfinite()) and v.requires_grad for v in terms.values())
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    missing = [key for key, p in step.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize(("name", "method"), sorted(REFUSED))
def test_methods_inside_a_head_of_retinanet_are_refused(name: str, method: str) -> None:
    with pytest.raises(UsageError, match=r"RetinaNet's head: student RPNHead, teacher RPNHead: choose"):
        step_of(name, method, detector(name, 0), detector(name, 1))


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_a_twin_has_nothing_to_teach(name: str, method: str, batch: Batch) -> None:
    step = step_of(name, method, detector(name, 0).eval(), detector(name, 0)).eval()
    assert {float(v.detach()) for k, v in step(batch).items() if k.startswith("kd_")} == {0.0}


def test_the_softmax_over_objectness_is_refused(batch: Batch) -> None:
    recipe = make_recipe({**TINY, "detector": "faster_rcnn", "method": "kd_rnet"}, "test")
    with pytest.raises(ValueError, match="softmax over one class is constant"):
        build_train_step(recipe, detector("faster_rcnn", 0), detector("faster_rcnn", 1))
    fitted = for_classes(recipe, len(CLASSES)).model_dump()
    assert {k for k, v in recipe.model_dump().items() if fitted[k] != v} == {"kd_probability"}
    plain = make_recipe({**TINY, "detector": "retinanet", "method": "kd_rnet"}, "test")
    assert for_classes(plain, len(CLASSES)) == plain


def test_four_deltas_have_no_angle_to_wrap() -> None:
    student, teacher = torch.tensor([[9.0, 0, 0, 4.0]]), torch.zeros(1, 4)
    expected = F.smooth_l1_loss(student / 2, teacher, reduction="sum")
    torch.testing.assert_close(box_difference(student, teacher, temperature=2.0), expected[None])
    turned = box_difference(F.pad(student, (0, 1), value=3.0), F.pad(teacher, (0, 1)), temperature=2.0)
    assert float(turned) < float(expected) + 0.5 * 1.5**2


def test_kd_rnet_by_hand_on_the_first_stage(batch: Batch) -> None:
    student, teacher = detector("faster_rcnn", 0).eval(), detector("faster_rcnn", 1).eval()
    with torch.no_grad():
        own, other = student.dense(batch.images), teacher.dense(batch.images)
        # Fresh heads all say the same: scores as spread as trained ones.
        own, other = (replace(o, logits=tuple(1000 * x for x in o.logits)) for o in (own, other))
        terms = KDRNet(student.assign, 1, probability="sigmoid")(own, other, batch)
    assignment = student.assign(own, batch)

    def rows(levels: tuple[Tensor, ...]) -> Tensor:
        return flatten_levels(levels)[assignment.valid].double()

    s, t = rows(own.logits).flatten() / 8, rows(other.logits).flatten() / 8
    p, q = s.sigmoid(), t.sigmoid()
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / assignment.positives
    assert float(terms["kd_cls"]) == pytest.approx(float(kl), rel=1e-3)
    assert assignment.positives > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_codes_of_a_box_mean_this_box(name: str) -> None:
    """Of Faster R-CNN those of the first stage."""
    student = detector(name, 0)
    anchors = torch.tensor([[30.0, 20, 32, 16, 0], [8, 8, 16, 16, 0], [40, 40, 12, 30, 0]])
    boxes = torch.tensor([[33.0, 18, 40, 11, 0], [6, 11, 9, 20, 0], [40, 40, 12, 30, 0]])
    found = student.boxes_at(anchors, encode_upright(anchors, boxes))
    torch.testing.assert_close(extents(upright_hulls(found)), extents(boxes))
    torch.testing.assert_close(student.box_terms(encode_upright(anchors, boxes), anchors, boxes), torch.zeros(3))


@pytest.mark.parametrize("name", DETECTORS)
def test_arsd_learns_from_a_teacher_that_knows_the_boxes(name: str, batch: Batch) -> None:
    student = detector(name, 0).train()
    step = step_of(name, "arsd", student, detector(name, 1)).train()
    outputs = student.dense(batch.images)
    assignment, anchors = student.assign(outputs, batch), student.anchor_boxes(outputs)
    taught = flatten_levels(outputs.codes).detach().clone()
    there = assignment.positive
    taught[there] = encode_upright(anchors[there.nonzero()[:, 1]], assignment.boxes)
    own = flatten_levels(outputs.codes).detach()
    sizes = [x[0].numel() // 4 for x in outputs.codes]
    assert step.distiller is not None
    terms = []
    for codes in (taught, own):
        rows = zip(torch.split(codes, sizes, 1), outputs.codes, strict=True)
        shaped = (part.reshape(x.permute(0, 3, 4, 1, 2).shape).permute(0, 3, 4, 1, 2) for part, x in rows)
        lesson = replace(outputs, codes=tuple(shaped))
        terms.append(step.distiller(outputs, lesson, batch)["kd_arsd_box"])
    assert float(terms[0].detach()) > 0
    assert float(terms[1].detach()) == 0
    terms[0].backward()
    assert all(p.grad is not None for p in student.neck.parameters())


def test_another_kind_of_teacher_is_refused(batch: Batch) -> None:
    images = replace(batch, targets=batch.targets)
    with pytest.raises(UsageError, match="KD-RNet needs the same levels, anchors and classes"):
        step_of("retinanet", "kd_rnet", detector("retinanet", 0), detector("rotated_retinanet", 1))(images)
    # Features of another detector can be compared where the levels are shared.
    terms = step_of("retinanet", "pkd", detector("retinanet", 0), detector("faster_rcnn", 1)).train()(images)
    assert float(terms["kd_pkd"].detach()) > 0
