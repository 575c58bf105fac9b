"""What a run's own records say about an evaluation of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fledge.data.datasets import FORMATS, detect_format
from fledge.data.labels import DetectionDataset
from fledge.engine.checkpoint import checkpoint_at
from fledge.engine.manifest import DAMAGE, open_manifest
from fledge.engine.progress import progress
from fledge.errors import DataError
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.trust import (
    UNKNOWN_SELECTION,
    Check,
    check_objects,
    check_selection,
    check_shared,
    check_trained_on,
    check_training,
)
from fledge.runs import read_list


def run_checks(
    run: Path, dataset: DetectionDataset, metrics: Metrics, trained_on: Path | None = None
) -> tuple[Check, ...]:
    """What the trust in the figures of a run depends on.

    Whether its checkpoint was chosen on the split (``selected_on`` in its manifest: folder and split), and whether
    images of the split are among those that its recipe names for training; where those are not there, it says so. An
    exported file has no such records.

    Args:
        run: run folder, checkpoint or exported file.
        dataset: the split evaluated.
        metrics: its figures.
        trained_on: folder of the training images, where no records name them.

    Raises:
        DataError: there is no such folder.
    """
    meta = _meta(run)
    selection = UNKNOWN_SELECTION if meta is None else check_selection(_selected_on(meta), dataset)
    if meta is None or trained_on is not None:
        training = check_trained_on(dataset, trained_on, progress)
    else:
        training = _training(meta["recipe"], dataset)
    shared = check_shared(dataset)
    return (check_objects(metrics), selection, training, *([shared] if shared else []))


def run_notes(run: Path) -> list[str]:
    """What stands beside every figure of a run: what its distiller said of itself, such as what disturbed the teacher.

    Args:
        run: run folder or checkpoint.
    """
    lesson = (_meta(run) or {}).get("lesson")
    return [f"distilled with {lesson}"] if isinstance(lesson, str) else []


def _meta(run: Path) -> dict[str, Any] | None:
    checkpoint = checkpoint_at(run)
    try:
        return None if checkpoint is None else dict(open_manifest(checkpoint)["meta"])
    except (DataError, *DAMAGE):
        return None


def _selected_on(meta: dict[str, Any]) -> list[tuple[str, str]]:
    """Folder and split of the choice; only a checkpoint that was chosen has the ``value`` it was chosen for."""
    chosen = meta.get("selected_on")
    if not isinstance(chosen, dict) or "value" not in chosen:
        return []
    return [(str(chosen.get("data", "")), str(chosen.get("split", "")))]


def _training(recipe: dict[str, Any], dataset: DetectionDataset) -> Check:
    folder, split = Path(str(recipe.get("data", ""))), str(recipe.get("train_split", "train"))
    try:
        images = FORMATS[detect_format(folder)].parse(folder, split).images
        if recipe.get("train_list"):
            names = read_list(Path(recipe["train_list"]))
            images = [path for path in images if path.stem in names or path.name in names]
    except DataError:
        text = f"not checked whether these images were trained on: {folder} is not there"
        return Check("training images", "unknown", text)
    return check_training(dataset, folder, images, progress)
