"""What a run folder holds, brought back: detectors, predictors, teachers; and splits, read as a recipe says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fledge.build import build_detector, pick_device, pixel_rule
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset, class_index
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.errors import DataError, UsageError
from fledge.export.model import EXPORTED, load_exported
from fledge.inference.model import TorchModel, WindowModel
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


def load_model(path: Path, device: str, threads: int | None = None) -> WindowModel:
    """The detector of a run folder, a checkpoint or an exported file, ready for windows.

    Args:
        path: the folder, or the file.
        device: where a run computes; exported files run on the CPU.
        threads: of an exported file's runtime; by default as many as PyTorch uses.

    Raises:
        DataError: there is no checkpoint, or it or the file is damaged.
        UsageError: the runtime of the file is not installed.
    """
    if path.suffix in EXPORTED and not path.is_dir():
        if pick_device(device if device != "auto" else "cpu").type != "cpu":
            raise UsageError(f"an exported file runs on the CPU: {path}: device={device}: use cpu, or the run folder")
        return load_exported(path, threads)
    return _torch_model(path, device)[0]


def load_predictor(path: Path, device: str) -> tuple[Predictor, TorchModel, Recipe]:
    """The detector of a run folder or checkpoint, ready to look at images; the model in it, and its recipe.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
    """
    model, recipe = _torch_model(path, device)
    return Predictor(model), model, recipe


def _torch_model(path: Path, device: str) -> tuple[TorchModel, Recipe]:
    detector, recipe, meta = load_detector(path)
    model = TorchModel(
        detector,
        recipe.image_size,
        recipe.overlap,
        recipe.view == "fit",
        float(meta["pixel_scale"]),
        recipe.nms_iou,
        pick_device(device),
        pixel_rule(recipe),
    )
    return model, recipe


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
