"""The horizontal detectors learn two images by heart; some eight seconds on one core."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fledge.build import build_detector
from fledge.data.synthetic import CLASSES, render_scene
from fledge.engine.optim import Schedule, make_optimizer
from fledge.evaluation.average_precision import evaluate
from fledge.evaluation.protocols import PROTOCOLS
from fledge.geometry import boxes_from_quads, canonicalize
from fledge.recipe import make_recipe
from fledge.types import Batch, Targets

SIDE, STEPS, LR = 128, 60, 3e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "retinanet": {"anchor_scale": 2.0},
    "faster_rcnn": {"anchor_scale": 4.0, "region_width": 64, "proposals": 200, "region_samples": 128},
}


@pytest.fixture(scope="module")
def batch() -> Batch:
    images, targets = [], []
    for i, place in enumerate(("apron", "tank-farm")):
        scene = render_scene(i, SIDE, SIDE, place)
        no = torch.zeros(len(scene.labels), dtype=torch.bool)
        boxes = canonicalize(boxes_from_quads(torch.from_numpy(scene.quads)))
        images.append(torch.from_numpy(scene.image).permute(2, 0, 1))
        targets.append(Targets(boxes, torch.from_numpy(scene.labels), no, no, image_id=place))
    assert sum(map(len, targets)) == 9
    return Batch(torch.stack(images), torch.full((2, 2), SIDE), tuple(targets))


@pytest.mark.parametrize("name", SETTINGS)
def test_it_overfits(name: str, batch: Batch) -> None:
    tiny = {"backbone": "resnet18_quarter", "neck_channels": 32, "head_convs": 1, "image_size": SIDE, "overlap": 0}
    detector = build_detector(make_recipe({"detector": name, **tiny, **SETTINGS[name]}, "test"), CLASSES).train()
    optimizer, schedule = make_optimizer(detector, "adamw", LR, 1e-4, 0.9), Schedule(LR, STEPS, "cosine", warmup=10)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        targets = tuple(replace(t, draw=step) for t in batch.targets)
        terms = detector.loss(detector(batch.images, targets), replace(batch, targets=targets))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(detector.parameters(), 35.0)
        optimizer.step()
    with torch.no_grad():
        found = detector.eval().decode(detector(batch.images), batch.sizes)
    assert evaluate(found, batch.targets, CLASSES, PROTOCOLS["coco"]).mean(0.5) > 0.95
