"""A tiny detector learns its images by heart with every box loss, each at the weight the documentation names for it.

One core, about two minutes together.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fledge.build import build_detector
from fledge.data.synthetic import CLASSES, render_scene
from fledge.engine.optim import Schedule, make_optimizer
from fledge.evaluation.average_precision import evaluate
from fledge.geometry import boxes_from_quads, canonicalize
from fledge.recipe import make_recipe
from fledge.types import Batch, Targets

pytestmark = pytest.mark.slow

SIDE, IMAGES, STEPS, LR = 128, 4, 120, 2e-3
WEIGHTS = {"kld": 5.5, "gwd": 5.0, "kfiou": 5.0, "rotated_iou": 2.0, "smooth_l1": 1.0}


@pytest.fixture(scope="module")
def batch() -> Batch:
    images, targets = [], []
    for i in range(IMAGES):
        scene = render_scene(i, SIDE, SIDE, ("apron", "harbour")[i % 2])
        none = torch.zeros(len(scene.labels), dtype=torch.bool)
        boxes = canonicalize(boxes_from_quads(torch.from_numpy(scene.quads)))
        targets.append(Targets(boxes, torch.from_numpy(scene.labels), ignore=none, difficult=none, image_id=str(i)))
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1))
    return Batch(torch.stack(images), torch.full((IMAGES, 2), SIDE), tuple(targets))


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tiny_detector_overfits(name: str, batch: Batch) -> None:
    assert sum(len(t) for t in batch.targets) >= 10
    settings = {"backbone": "resnet18_quarter", "neck_channels": 32, "head_convs": 1, "anchor_scale": 2.0}
    settings |= {"image_size": SIDE, "overlap": 0, "box_loss": name, "box_weight": WEIGHTS[name]}
    detector = build_detector(make_recipe(settings, "test"), CLASSES)
    optimizer = make_optimizer(detector, "adamw", LR, 1e-4, 0.9)
    schedule = Schedule(LR, STEPS, "cosine", warmup=20)
    detector.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        loss = torch.stack(list(detector.loss(detector(batch.images), batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), 35.0)
        optimizer.step()
    detector.eval()
    with torch.no_grad():
        found = detector.decode(detector(batch.images), batch.sizes)
    figures = evaluate(found, batch.targets, CLASSES).summary()
    assert figures["AP50"] > 0.95
    assert figures["AP75"] > 0.8
