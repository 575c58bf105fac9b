from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fledge.build import build_detector
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import make_recipe
from fledge.types import Batch, Targets

Build = Callable[..., DenseDetector]
MakeBatch = Callable[..., Batch]


@pytest.fixture(scope="session")
def build() -> Build:
    """A tiny detector; keyword arguments replace settings of its recipe."""

    def make(classes: int = 3, **settings: Any) -> DenseDetector:
        tiny = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0}
        recipe = make_recipe({**tiny, "image_size": 64, "overlap": 0, **settings}, "test")
        return build_detector(recipe, [f"class{k}" for k in range(classes)])

    return make


@pytest.fixture(scope="session")
def make_batch() -> MakeBatch:
    """Random images of 64 pixels with these numbers of random objects."""

    def make(*counts: int, seed: int = 0, classes: int = 3, side: int = 64) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (len(counts), 3, side, side), generator=generator, dtype=torch.uint8)
        low, high = torch.tensor([8.0, 8, 20, 8, -1.5]), torch.tensor([side - 8.0, side - 8, 40, 20, 1.5])
        targets = tuple(
            Targets(
                boxes=low + (high - low) * torch.rand(n, 5, generator=generator),
                labels=torch.randint(0, classes, (n,), generator=generator),
                ignore=torch.zeros(n, dtype=torch.bool),
                difficult=torch.zeros(n, dtype=torch.bool),
                image_id=f"image{i}",
            )
            for i, n in enumerate(counts)
        )
        return Batch(images, torch.full((len(counts), 2), side), targets)

    return make
