"""A detector learns its images by heart; so does a student that sees nothing but the teacher, if the form allows it.

One core, about a minute together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fledge.build import build_detector
from fledge.data.synthetic import CLASSES, render_scene
from fledge.distill.kd_rnet import KDRNet, Probability
from fledge.engine.optim import Schedule, make_optimizer
from fledge.evaluation.average_precision import evaluate
from fledge.geometry import boxes_from_quads, canonicalize
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets

pytestmark = pytest.mark.slow

SIDE, IMAGES, STEPS, LR = 128, 8, 120, 2e-3


@pytest.fixture(scope="module")
def batch() -> Batch:
    images, targets = [], []
    for i in range(IMAGES):
        scene = render_scene(i, SIDE, SIDE, ("apron", "tank-farm", "harbour")[i % 3])
        count = len(scene.labels)
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1))
        targets.append(
            Targets(
                boxes=canonicalize(boxes_from_quads(torch.from_numpy(scene.quads))),
                labels=torch.from_numpy(scene.labels),
                ignore=torch.zeros(count, dtype=torch.bool),
                difficult=torch.zeros(count, dtype=torch.bool),  # the hidden ones have to be found as well
                image_id=str(i),
            )
        )
    return Batch(torch.stack(images), torch.full((IMAGES, 2), SIDE), tuple(targets))


def tiny(seed: int) -> DenseDetector:
    settings = {"backbone": "resnet18_quarter", "neck_channels": 32, "head_convs": 1, "anchor_scale": 2.0}
    return build_detector(make_recipe({**settings, "image_size": SIDE, "overlap": 0, "seed": seed}, "test"), CLASSES)


def learn(detector: DenseDetector, batch: Batch, terms: Callable[[Outputs], dict[str, Tensor]]) -> None:
    optimizer = make_optimizer(detector, "adamw", LR, 1e-4, 0.9)
    schedule = Schedule(LR, STEPS, "cosine", warmup=20)
    detector.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        loss = torch.stack(list(terms(detector(batch.images)).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), 35.0)
        optimizer.step()
    detector.eval()


@torch.no_grad()
def ap50(detector: DenseDetector, batch: Batch, outputs: Outputs | None = None) -> float:
    found = detector.decode(outputs or detector(batch.images), batch.sizes)
    return evaluate(found, batch.targets, CLASSES).mean(0.5)


@pytest.fixture(scope="module")
def teacher(batch: Batch) -> DenseDetector:
    detector = tiny(seed=0)
    assert ap50(detector.eval(), batch) < 0.05
    learn(detector, batch, lambda outputs: detector.loss(outputs, batch))
    return detector.requires_grad_(False)


def distilled_alone(teacher: DenseDetector, batch: Batch, probability: Probability) -> float:
    """AP50 of a student that never saw a task loss: the labels only choose the anchors that copy boxes.

    The direction is Hinton's. The printed one, KL(student || teacher), has a gradient of p (1 - p) times the difference
    of the logits: at temperature 1 it dies while the student still says "nothing anywhere" with p near 0.
    """
    student = tiny(seed=1)
    distiller = KDRNet(
        student.assign,
        len(CLASSES),
        temperature=1.0,
        box_temperature=1.0,
        probability=probability,
        direction="teacher_student",
    )
    with torch.no_grad():
        lesson = teacher(batch.images)
    learn(student, batch, lambda outputs: distiller(outputs, lesson, batch))
    return ap50(student, batch)


def test_a_tiny_detector_overfits(teacher: DenseDetector, batch: Batch) -> None:
    assert sum(len(t) for t in batch.targets) >= 20
    assert len({int(k) for t in batch.targets for k in t.labels}) >= 3
    assert ap50(teacher, batch) > 0.95


def test_the_sigmoid_form_alone_teaches_a_student(teacher: DenseDetector, batch: Batch) -> None:
    assert distilled_alone(teacher, batch, "sigmoid") > 0.95


def test_the_softmax_form_alone_does_not(teacher: DenseDetector, batch: Batch) -> None:
    assert distilled_alone(teacher, batch, "softmax") < 0.8


def test_because_the_softmax_form_is_blind_to_a_shift(teacher: DenseDetector, batch: Batch) -> None:
    """The teacher's own outputs, with all classes of each anchor shifted alike: no softmax loss, and useless scores."""
    with torch.no_grad():
        lesson = teacher(batch.images)
    generator = torch.Generator().manual_seed(0)
    shifts = [4 * torch.randn(*x.shape[:2], 1, *x.shape[3:], generator=generator) for x in lesson.logits]
    shifted = replace(lesson, logits=tuple(x + s for x, s in zip(lesson.logits, shifts, strict=True)))
    terms: dict[Probability, float] = {}
    for probability in ("softmax", "sigmoid"):
        distiller = KDRNet(teacher.assign, len(CLASSES), temperature=1.0, probability=probability)
        terms[probability] = float(distiller(shifted, lesson, batch)["kd_cls"])
    assert abs(terms["softmax"]) < 1e-3
    assert terms["sigmoid"] > 1
    assert ap50(teacher, batch, lesson) > 0.95
    assert ap50(teacher, batch, shifted) < 0.5
