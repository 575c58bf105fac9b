"""What a run folder holds, brought back: detectors, predictors, teachers; and splits, read as a recipe says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fledge.build import build_detector, pick_device, pixel_rule
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset, class_index
from fledge.engine.checkpoint import checkpoint_at, load_checkpoint
from fledge.errors import DataError, UsageError
from fledge.evaluation.protocols import PROTOCOLS, Protocol
from fledge.export.model import EXPORTED, ExportedModel, load_exported
from fledge.inference.model import TorchModel, WindowModel
from fledge.inference.predictor import Predictor
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import DistillRecipe, Recipe, make_recipe

_OTHER_SEED = 1_000_003  # from the seed of a teacher to that of its double with random weights


def load_detector(path: Path) -> tuple[DenseDetector, Recipe, dict[str, Any]]:
    """The detector of a run folder or checkpoint, its recipe, and its checkpoint's ``meta``."""
    checkpoint = checkpoint_at(path)
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
    return load_with_recipe(path, device, threads)[0].model


def load_with_recipe(
    path: Path, device: str, threads: int | None = None
) -> tuple[Predictor[TorchModel] | Predictor[ExportedModel], Recipe]:
    """What ``load_model`` does, ready to look at images, and the recipe it was trained by; that of an exported file
    names folders, but not where they lie."""
    if path.suffix not in EXPORTED or path.is_dir():
        return load_predictor(path, device)
    if pick_device(device if device != "auto" else "cpu").type != "cpu":
        raise UsageError(f"an exported file runs on the CPU: {path}: device={device}: use cpu, or the run folder")
    model = load_exported(path, threads)
    return Predictor(model), make_recipe(dict(model.record.recipe), str(path))


def make_model(detector: DenseDetector, recipe: Recipe, pixel_scale: float, device: torch.device) -> TorchModel:
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
        recipe.short_side,
    )


def default_protocol(recipe: Recipe) -> Protocol:
    """What a recipe's detector is evaluated by if nothing else is said: ``coco`` where its boxes are horizontal."""
    return PROTOCOLS["coco" if recipe.horizontal else "box_area"]


def load_teacher(recipe: Recipe, classes: Sequence[str]) -> DenseDetector | None:
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
    if recipe.teacher_control == "random":
        teacher = build_detector(theirs.model_copy(update={"seed": theirs.seed + _OTHER_SEED}), teacher.classes)
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
    names: str = "",
) -> DetectionDataset:
    """A split, read as a recipe says; ``names``, a text file, picks some of its images.

    The recipe's ``form`` is that of its own data, and says nothing of other folders.
    """
    form = recipe.form if str(data) in (recipe.data, recipe.eval_data) else ""
    dataset = open_dataset(
        Path(data),
        split,
        classes,
        skip_bad_labels=recipe.skip_bad_labels,
        allow_unlabelled=recipe.allow_unlabelled,
        remap=remap,
        pixels=pixel_rule(recipe),
        form=form or None,
    )
    return _picked(dataset, Path(names)) if names else dataset


def read_list(file: Path) -> dict[str, int]:
    """The image names in a text file, one a line, with the number of the line.

    Raises:
        DataError: it cannot be read, or names nothing.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no list of images: {file}: {error}: give a text file with one name a line") from error
    names = {name: number for number, line in enumerate(lines, start=1) if (name := line.strip())}
    if not names:
        raise DataError(f"no images: {file}: the list is empty: write one name a line")
    return names


def _picked(dataset: DetectionDataset, file: Path) -> DetectionDataset:
    """The images that a list names, with or without suffix."""
    rows = {name: i for i, name in enumerate(dataset.ids)} | {p.name: i for i, p in enumerate(dataset.paths)}
    names = read_list(file)
    for name, number in names.items():
        if name not in rows:
            raise DataError(
                f"{file}:{number}: no image {name!r} in {dataset.split!r} of {dataset.root}: correct the list"
            )
    return dataset.subset(sorted({rows[name] for name in names}))
