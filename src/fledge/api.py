"""The functions behind the commands: train, distil, evaluate, detect.

Each takes plain paths and values and returns what it made; ``fledge.cli`` only parses arguments and prints.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fledge
from fledge.build import build_detector, build_train_step, load_backbone_weights, pick_device
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset, class_index
from fledge.data.sampling import TrainLoader
from fledge.data.transforms import Augment, fit_to
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.engine.loop import Run
from fledge.engine.loop import train as run_loop
from fledge.engine.optim import Schedule, make_optimizer
from fledge.engine.progress import progress, say
from fledge.errors import DataError, UsageError
from fledge.evaluation.average_precision import COCO_THRESHOLDS, Interpolation, Metrics
from fledge.evaluation.average_precision import evaluate as average_precision
from fledge.evaluation.cost import Cost, measure_cost
from fledge.inference.predictor import Predictor, Source
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.recipe import KDRNetRecipe, Recipe, for_classes, load_recipe, make_recipe, write_recipe
from fledge.types import Detections

RecipeLike = Recipe | str | Path


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        metrics: average precisions.
        cost: parameters, FLOPs and time of the detector, on up to 20 images of the most common input size.
        detections: one per image of the split, in its order.
        dataset: the split.
    """

    metrics: Metrics
    cost: Cost
    detections: list[Detections]
    dataset: DetectionDataset


def train(recipe: RecipeLike, out: str | Path, teacher: str | Path | None = None, title: str = "train") -> Path:
    """Train a detector, resuming if ``out`` holds an unfinished run of the same recipe.

    Args:
        recipe: a recipe, its file, or the name of a shipped one.
        out: the run folder; made if needed.
        teacher: a finished run; replaces the recipe's ``teacher`` in a distillation recipe.
        title: shown with the progress.

    Returns:
        The run folder: ``recipe.toml``, ``metrics.csv``, ``tensorboard/`` and ``checkpoints/``.

    Raises:
        UsageError: the recipe is wrong, or ``out`` holds a run of another one.
        DataError: the data cannot be used.
        NumericError: a loss became infinite or NaN.
    """
    settings = _resolve(recipe, teacher)
    folder = Path(out)
    dataset = open_dataset(Path(settings.data), settings.train_split)
    for note in dataset.notes:
        say(f"note: {note}")
    fitted = for_classes(settings, len(dataset.classes))
    if fitted != settings:
        say("note: one class: the softmax form would be zero, so kd_probability is now sigmoid")
        settings = fitted
    device = pick_device(settings.device)
    student = build_detector(settings, dataset.classes)
    _load_weights(student, settings.weights)
    step = build_train_step(settings, student, _load_teacher(settings, dataset.classes))
    _claim(folder, settings)
    run_loop(
        step,
        make_optimizer(step, settings.optimizer, settings.lr, settings.weight_decay, settings.momentum),
        lambda start, total: iter(training_batches(settings, dataset, start, total)),
        _run(settings, dataset, folder, title),
        device,
    )
    return folder


def distill(recipe: RecipeLike, out: str | Path, teacher: str | Path | None = None, title: str = "distil") -> Path:
    """Train a student with a teacher: ``train`` for a recipe whose ``method`` is a distillation.

    Raises:
        UsageError: the recipe has no distillation method, or no teacher is named.
    """
    settings = _resolve(recipe, teacher)
    if settings.method == "none":
        raise UsageError('nothing to distil: the recipe\'s method is "none": set method, or use `fledge train`')
    return train(settings, out, title=title)


def load(run: str | Path, device: str = "auto") -> Predictor:
    """A trained detector from a run folder or one of its checkpoints.

    Example:
        >>> fledge.load("runs/student").detect("scene.png").to_dota()  # doctest: +SKIP

    Raises:
        DataError: there is no checkpoint, or it is damaged.
    """
    return _load_predictor(Path(run), device)[0]


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    interpolation: Interpolation = "area",
    device: str = "auto",
    title: str = "evaluate",
) -> Evaluation:
    """Average precision and cost of a trained detector on a labelled split.

    Args:
        run: run folder or checkpoint.
        data: dataset folder; by default the one the run was trained on.
        split: its split; by default the recipe's ``eval_split``.
        interpolation: ``area`` or ``voc07``.
        device: where to compute.
        title: shown with the progress.
    """
    predictor, recipe = _load_predictor(Path(run), device)
    dataset = open_dataset(Path(data or recipe.data), split or recipe.eval_split, predictor.classes)
    with progress(title, len(dataset)) as advance:
        found = predictor.detect_many(dataset.paths, recipe.score_threshold, advance=lambda n: advance(n, ""))
    truth = [dataset.targets(i) for i in range(len(dataset))]
    metrics = average_precision(found, truth, predictor.classes, COCO_THRESHOLDS, interpolation)
    sizes = [_input_size(tuple(size), recipe) for size in dataset.sizes.tolist()]
    size = statistics.mode(sizes)
    chosen = [i for i, s in enumerate(sizes) if s == size]
    samples = [_input(dataset, i, size, recipe) for i in chosen[:: max(1, len(chosen) // 20)][:20]]
    cost = measure_cost(predictor.module, size, images=samples)
    return Evaluation(metrics, cost, found, dataset)


def detect(
    run: str | Path, sources: Sequence[Source], score_threshold: float = 0.3, device: str = "auto"
) -> list[Detections]:
    """Detections of a trained detector in some images (files or arrays), in pixels of each image."""
    predictor = load(run, device)
    with progress("detect", len(sources)) as advance:
        return predictor.detect_many(sources, score_threshold, advance=lambda n: advance(n, ""))


def _resolve(recipe: RecipeLike, teacher: str | Path | None) -> Recipe:
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if teacher is not None:
        settings = make_recipe({**settings.model_dump(), "teacher": str(teacher)}, "teacher")
    if not settings.data:
        raise UsageError("no data: recipe: set `data` to a dataset folder")
    return settings


def _claim(folder: Path, recipe: Recipe) -> None:
    """Make the run folder, or check that it belongs to the same recipe."""
    path = folder / "recipe.toml"
    if path.exists():
        before, now = load_recipe(path).model_dump(), recipe.model_dump()
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            lines = ", ".join(f"{key} {before.get(key)!r} -> {now.get(key)!r}" for key in changed)
            raise UsageError(f"another run is here: {folder}: its recipe differs ({lines}): use another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"not a run folder: {folder}: it is not empty: use another folder")
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    write_recipe(recipe, part)
    part.replace(path)


def _load_weights(student: RotatedRetinaNet, path: str) -> None:
    if not path:
        return
    loaded, unused, untouched = load_backbone_weights(student, Path(path))
    text = f"weights: {path}: loaded {len(loaded)} tensors"
    for what, names in (("not used", unused), ("left at random", untouched)):
        if names:
            text += f"; {what} {len(names)} ({', '.join(sorted({n.split('.')[0] for n in names}))})"
    say(text)


def _load_teacher(recipe: Recipe, classes: Sequence[str]) -> RotatedRetinaNet | None:
    if not isinstance(recipe, KDRNetRecipe):
        return None
    if not recipe.teacher:
        raise UsageError("no teacher: recipe: set `teacher` to the folder of a finished run, or give --teacher")
    teacher, _, _ = _load_detector(Path(recipe.teacher))
    if teacher.classes != tuple(classes):
        raise DataError(
            f"classes differ: {recipe.teacher}: the teacher knows {', '.join(teacher.classes)}, the data have "
            f"{', '.join(classes)}: train a teacher on these data"
        )
    return teacher


def _load_detector(path: Path) -> tuple[RotatedRetinaNet, Recipe, dict[str, Any]]:
    """The detector of a run folder or checkpoint, its recipe, and its checkpoint's ``meta``."""
    checkpoint = path if (path / "manifest.json").is_file() else newest_checkpoint(path / "checkpoints")
    if checkpoint is None:
        raise DataError(f"no checkpoint: {path}: give the folder of a run that was trained, such as runs/student")
    manifest, groups = load_checkpoint(checkpoint, "model")
    try:
        meta: dict[str, Any] = manifest["meta"]
        class_index(meta["classes"])  # names become file names: a forged checkpoint must not choose paths
        recipe = make_recipe(dict(meta["recipe"]), str(checkpoint))
        detector = build_detector(recipe, meta["classes"])
        detector.load_state_dict(groups["model"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"damaged checkpoint: {checkpoint}: {error}: use an older one of the same run") from error
    return detector, recipe, meta


def _load_predictor(path: Path, device: str) -> tuple[Predictor, Recipe]:
    detector, recipe, meta = _load_detector(path)
    predictor = Predictor(
        detector,
        recipe.image_size,
        recipe.overlap,
        recipe.view == "fit",
        float(meta["pixel_scale"]),
        recipe.nms_iou,
        pick_device(device),
    )
    return predictor, recipe


def training_batches(recipe: Recipe, dataset: DetectionDataset, start: int, total: int) -> TrainLoader:
    """The batches of steps ``start`` … ``total`` - 1 of a recipe, a pure function of its seed and the step."""
    augment = Augment(
        image_size=recipe.image_size,
        fit=recipe.view == "fit",
        hflip=recipe.hflip,
        vflip=recipe.vflip,
        right_angles=recipe.right_angles,
        rotate_degrees=recipe.rotate_degrees,
        scale=(recipe.scale_low, recipe.scale_high),
        photometric=recipe.photometric,
    )
    return TrainLoader(
        dataset,
        augment,
        recipe.batch_size,
        recipe.seed,
        start_step=start,
        total_steps=total,
        workers=recipe.workers,
    )


def _run(recipe: Recipe, dataset: DetectionDataset, folder: Path, title: str) -> Run:
    """Steps, schedule and bookkeeping of a recipe on a dataset."""
    per_epoch = max(len(dataset) // recipe.batch_size, 1)
    total = per_epoch * recipe.epochs
    schedule = Schedule(
        recipe.lr,
        total,
        recipe.schedule,
        min(recipe.warmup_steps, total // 2),
        tuple(m * per_epoch for m in recipe.milestones),
    )
    meta = {
        "classes": list(dataset.classes),
        "pixel_scale": _pixel_scale(dataset, recipe),
        "recipe": json.loads(recipe.model_dump_json()),
        "images": len(dataset),
        "versions": {"fledge": fledge.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    log_every = max(1, min(50, total // 50))
    return Run(folder, title, schedule, recipe.clip_norm, per_epoch * recipe.save_every, log_every, meta)


def _pixel_scale(dataset: DetectionDataset, recipe: Recipe) -> float:
    """Network pixels for each image pixel in training, the median over the images."""
    if recipe.view == "crop":
        return 1.0
    return float(recipe.image_size / statistics.median(dataset.sizes.max(axis=1).tolist()))


def _input(dataset: DetectionDataset, i: int, size: tuple[int, int], recipe: Recipe) -> Tensor:
    """Image i as the network sees it, or its first window: (3, H, W) uint8."""
    image = dataset.read(i)
    if recipe.view == "fit":
        image, _ = fit_to(image, recipe.image_size)
    canvas = np.zeros((*size, 3), np.uint8)
    part = image[: size[0], : size[1]]
    canvas[: part.shape[0], : part.shape[1]] = part
    return torch.from_numpy(canvas).permute(2, 0, 1)


def _input_size(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """Height and width the network sees for an image (one window of it), in whole multiples of 32."""
    scale = recipe.image_size / max(size) if recipe.view == "fit" else 1.0
    height, width = (-(-min(round(side * scale), recipe.image_size) // 32) * 32 for side in size)
    return height, width
