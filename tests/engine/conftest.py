from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fledge.engine.loop import Batches, Run
from fledge.engine.optim import Schedule
from fledge.types import Batch, Detections, Outputs, Targets

TOTAL = 23


class Student(nn.Module):
    """Convolution, batch norm and a product of the two biases: small, but with state of every kind."""

    classes = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
        self.poison: tuple[int, str] | None = None  # (step, "loss" or "gradient")
        self.seen = 0

    def forward(self, images: Tensor, targets: Any = None) -> Outputs:
        return Outputs((self.body(images.float() / 255),), (), {})

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        out = outputs.logits[0]
        cls, box = (out - batch.sizes.float().mean() / 8).square().mean(), out.abs().mean()
        if self.poison is not None and self.poison[0] == self.seen:
            # sqrt has an infinite slope at 0: a fine loss with a gradient that is not
            box = box * math.nan if self.poison[1] == "loss" else box + (box - box.detach()).abs().sqrt()
        self.seen += 1
        return {"cls": cls, "box": 0.5 * box}

    def decode(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        raise NotImplementedError


class Stop(Exception):
    """A stand-in for a crash."""


def batches(crash_at: int | None = None) -> Batches:
    """Batches that are a pure function of the step; ``Stop`` where that of step ``crash_at`` is asked for."""

    def make(start: int, total: int) -> Iterator[Batch]:
        for step in range(start, total):
            if step == crash_at:
                raise Stop
            generator = torch.Generator().manual_seed(step)
            images = torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8)
            targets = tuple(Targets.empty(f"image{2 * step + i}") for i in range(2))
            yield Batch(images, torch.full((2, 2), 8), targets)

    return make


@pytest.fixture
def student() -> Callable[[], Student]:
    def make() -> Student:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Student()

    return make


@pytest.fixture
def feed() -> Callable[..., Batches]:
    return batches


@pytest.fixture
def crash() -> type[Exception]:
    return Stop


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run of 23 steps that logs every 4 and saves every 6, unless told otherwise."""

    def make(folder: Path, save_every: int = 6, log_every: int = 4, total: int = TOTAL) -> Run:
        schedule = Schedule(0.05, total, "cosine", warmup=5)
        folder.mkdir(parents=True, exist_ok=True)
        return Run(folder, "test", schedule, 10.0, save_every, log_every, {"classes": ["a"], "number": 1.5})

    return make
