"""A study small enough to run in a test, and findings made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.tiny import SETTINGS

from fledge.data.synthetic import write_dataset
from fledge.recipe import make_recipe, write_recipe

STUDY = """\
title = "Tiny"
base = "student.toml"
seeds = [100, 101]
comparisons = [["kd", "none"]]
{more}
[tuning]
grid.lr = [0.001, 0.002, 0.004]
evaluate = {{ eval_split = "tune" }}
[teacher]
recipe = "student.toml"
set = {{ epochs = 3 }}
[arms.none]
[arms.kd]
set = {{ method = "kd_rnet", kd_cls_weight = "auto:0.3" }}
{arms}
"""


def write_study(folder: Path, more: str = "", arms: str = "", **settings: Any) -> Path:
    """``study.toml`` and ``student.toml`` in a folder; the data only if they are to be used."""
    recipe = make_recipe({**SETTINGS, "data": "data", "epochs": 1, "ema_decay": 0.0, **settings}, "test")
    write_recipe(recipe, folder / "student.toml")
    file = folder / "study.toml"
    file.write_text(STUDY.format(more=more, arms=arms))
    return file


def write_data(folder: Path) -> None:
    for split, count in (("train", 4), ("tune", 2), ("val", 2)):
        write_dataset(folder / "data", split, count, 64, 0)


def record(arm: str, seed: int, ap: float | None, **about: Any) -> dict[str, Any]:
    """A run's record with one class that counts (100 objects) and one that has few (3)."""
    base = {"arm": arm, "seed": seed, "point": {}, "title": f"report {arm}, seed {seed}", "key": f"{arm}{seed}"}
    figures = {"failed": "exit code 1: no reason"} if ap is None else {
        "classes": ["car", "bus"], "objects": [100, 3], "figures": {"AP50": [ap, 0.0], "AP75": [ap / 2, 0.0]},
        "seconds": {"train": 60.0, "all": 70.0},
    }  # fmt: skip
    return {**base, **figures, **about}
