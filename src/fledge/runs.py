"""What a run folder holds, brought back: detectors, predictors, teachers; and splits, read as a recipe says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fledge.build import build_detector, pick_device, pixel_rule
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset, class_index
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.errors import DataError, UsageError
from fledge.inference.model import TorchModel
from fledge.inference.predictor import Predictor
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.recipe import DistillRecipe, Recipe, make_recipe


def load_detector(path: Path) -> tuple[RotatedRetinaNet, Recipe, dict[str, Any]]:
    """The detector of a run folder or checkpoint, its recipe, and its checkpoint's ``meta``."""
    checkpoint = path if (path / "manifest.json").is_file() else newest_checkpoint(path / "checkpoints")
    if checkpoint is None:
        raise DataError(f"no checkpoint: {path}: give the folder of a run that was trained, such as runs/student")
    stem = "ema" if (checkpoint / "ema.safetensors").is_file() else "model"  # the averaged weights, if there are any
    manifest, groups = load_checkpoint(checkpoint, stem)
    if ("ema.safetensors" in manifest["files"]) != (stem == "ema"):
        raise DataError(f"damaged checkpoint: {checkpoint}: ema.safetensors is missing: use an older one of the run")
    try:
        meta: dict[str, Any] = manifest["meta"]
        class_index(meta["classes"])  # names become file names: a forged checkpoint must not choose paths
        recipe = make_recipe(dict(meta["recipe"]), str(checkpoint))
        detector = build_detector(recipe, meta["classes"])
        detector.load_state_dict(groups[stem])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"damaged checkpoint: {checkpoint}: {error}: use an older one of the same run") from error
    return detector, recipe, meta


def load_predictor(path: Path, device: str) -> tuple[Predictor[TorchModel], Recipe]:
    """The detector of a run folder or checkpoint, ready to look at images, and its recipe.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
    """
    detector, recipe, meta = load_detector(path)
    return Predictor(make_model(detector, recipe, float(meta["pixel_scale"]), pick_device(device))), recipe


def load_model(path: Path, device: str) -> TorchModel:
    """The detector of a run folder or checkpoint, ready for windows.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
    """
    return load_predictor(path, device)[0].model


def make_model(detector: RotatedRetinaNet, recipe: Recipe, pixel_scale: float, device: torch.device) -> TorchModel:
    """A detector, used as its recipe says.

    Args:
        detector: with its weights; moved to ``device`` and put in eval mode.
        recipe: it was trained by.
        pixel_scale: network pixels for each image pixel in training.
        device: where to compute.
    """
    return TorchModel(
        detector,
        recipe.image_size,
        recipe.overlap,
        recipe.view == "fit",
        pixel_scale,
        recipe.nms_iou,
        device,
        pixel_rule(recipe),
    )


def load_teacher(recipe: Recipe, classes: Sequence[str]) -> RotatedRetinaNet | None:
    """The teacher a distillation recipe names; None for other recipes.

    Raises:
        UsageError: the recipe names none.
        DataError: it cannot be loaded, knows other classes, or reads images in another way.
    """
    if not isinstance(recipe, DistillRecipe):
        return None
    if not recipe.teacher:
        raise UsageError("no teacher: recipe: set `teacher` to the folder of a finished run, or give --teacher")
    teacher, theirs, _ = load_detector(Path(recipe.teacher))
    if teacher.classes != tuple(classes):
        raise DataError(
            f"classes differ: {recipe.teacher}: the teacher knows {', '.join(teacher.classes)}, the data have "
            f"{', '.join(classes)}: train a teacher on these data"
        )
    if pixel_rule(theirs) != pixel_rule(recipe):
        raise DataError(
            f"pixels differ: {recipe.teacher}: the teacher reads images with {_pixels_of(theirs)}, this recipe with "
            f"{_pixels_of(recipe)}: set both as in the teacher's recipe.toml"
        )
    return teacher


def _pixels_of(recipe: Recipe) -> str:
    return f"bands = {list(recipe.bands)}, pixel_range = {list(recipe.pixel_range)}"


def open_split(
    recipe: Recipe,
    data: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    remap: Mapping[str, str] | None = None,
) -> DetectionDataset:
    """A split, read as a recipe says."""
    return open_dataset(
        Path(data),
        split,
        classes,
        skip_bad_labels=recipe.skip_bad_labels,
        allow_unlabelled=recipe.allow_unlabelled,
        remap=remap,
        pixels=pixel_rule(recipe),
    )
