"""The smallest training that has everything: a recipe, a few rendered tiles, and its result bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fledge.data.synthetic import write_dataset
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.engine.metric_log import read_metrics
from fledge.recipe import Recipe, make_recipe, write_recipe

SETTINGS: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 8, "head_convs": 1, "anchor_scale": 2.0, "image_size": 32,
    "overlap": 8, "batch_size": 2, "epochs": 2, "workers": 0, "warmup_steps": 2, "schedule": "cosine",
    "optimizer": "adamw", "lr": 0.001, "photometric": 0.5, "right_angles": True, "device": "cpu", "seed": 3,
    "ema_decay": 0.9, "score_threshold": 0.005, "max_detections": 20,
}  # fmt: skip


def tiles(root: Path, count: int = 8) -> Path:
    """A DOTA folder with ``count`` training tiles and 2 for validation."""
    write_dataset(root, "train", count, 64, 0)
    write_dataset(root, "val", 2, 64, 0)
    return root


def recipe(data: Path, **settings: Any) -> Recipe:
    return make_recipe({**SETTINGS, "data": str(data), **settings}, "test")


def recipe_file(path: Path, data: Path, **settings: Any) -> Path:
    write_recipe(recipe(data, **settings), path)
    return path


def logged(run: Path) -> list[tuple[int, str, float]]:
    """The log of a run, if it has begun."""
    return read_metrics(run / "metrics.csv") if (run / "metrics.csv").exists() else []


def checkpoint(run: Path) -> Path:
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    return newest


def state(run: Path) -> dict[str, bytes]:
    """All that the newest checkpoint of a run holds, as bytes by ``group/name``."""
    _, groups = load_checkpoint(checkpoint(run))
    return {f"{group}/{name}": bits(value) for group, tensors in groups.items() for name, value in tensors.items()}


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
