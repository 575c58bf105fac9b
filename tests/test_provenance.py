"""What a run's records say about an evaluation of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.made import dota_folder, line, noise, rectangle

from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.engine.checkpoint import save_checkpoint
from fledge.evaluation.average_precision import score
from fledge.evaluation.results import case_from_files
from fledge.evaluation.results.task_text import read_task_files
from fledge.provenance import run_checks


@pytest.fixture
def split(tmp_path: Path) -> DetectionDataset:
    images = [(noise(40, 60, seed=k), line(rectangle(30, 20, 20, 10), "ship")) for k in range(3)]
    dota_folder(tmp_path / "data", {"train": {"a": images[0], "b": images[1]}, "val": {"c": images[1], "d": images[2]}})
    return open_dataset(tmp_path / "data", "val")


def texts(split: DetectionDataset, folder: Path, run: Path | None = None, **meta: Any) -> dict[str, tuple[str, str]]:
    """State and text by question, for a run with this in its manifest."""
    recipe = {"data": str(split.root), "train_split": "train"}
    folder.parent.mkdir(exist_ok=True)
    save_checkpoint(folder, 1, {"model": {"w": torch.zeros(1)}}, {"recipe": recipe, **meta})
    metrics = score(case_from_files(split, read_task_files([], 1, "none")))
    return {c.about: (c.state, c.text) for c in run_checks(run or folder.parent, split, metrics)}


def test_training_images_are_those_of_the_recipe(split: DetectionDataset, tmp_path: Path) -> None:
    found = texts(split, tmp_path / "run" / "checkpoints")
    assert found["training images"] == ("warning", "1 of 2 images were trained on (c; by their pixels)")
    assert found["selection"] == ("good", "no checkpoint was chosen by a figure")
    assert found["few objects"][0] == "warning"


def test_a_training_folder_that_is_gone_is_said_to_be(split: DetectionDataset, tmp_path: Path) -> None:
    gone = {"data": str(tmp_path / "gone"), "train_split": "train"}
    state, text = texts(split, tmp_path / "run" / "checkpoints", recipe=gone)["training images"]
    assert state == "unknown"
    assert text.endswith("gone is not there")


def test_the_best_checkpoint_was_chosen_the_last_was_not(split: DetectionDataset, tmp_path: Path) -> None:
    chosen = {"data": str(split.root), "split": "val", "metric": "AP50"}
    last = texts(split, tmp_path / "run" / "checkpoints", selected_on=chosen)
    assert last["selection"] == ("good", "no checkpoint was chosen by a figure")
    best = tmp_path / "run" / "best"
    found = texts(split, best, best, selected_on={**chosen, "value": 0.5, "step": 1})
    assert found["selection"] == ("warning", "the checkpoint was chosen on this split, 'val'")
    other = texts(split, best, best, selected_on={**chosen, "split": "test", "value": 0.5, "step": 1})
    assert other["selection"] == ("good", "the checkpoint was not chosen on this split")


def test_a_damaged_manifest_is_no_answer(split: DetectionDataset, tmp_path: Path) -> None:
    texts(split, tmp_path / "run" / "checkpoints")
    (manifest,) = tmp_path.glob("run/checkpoints/*/manifest.json")
    manifest.write_text("{")
    metrics = score(case_from_files(split, read_task_files([], 1, "none")))
    states = {c.about: c.state for c in run_checks(manifest.parent, split, metrics)}
    assert states["selection"] == states["training images"] == "unknown"
