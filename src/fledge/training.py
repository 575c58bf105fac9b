"""``train`` and ``distill``: from a recipe to a finished run folder."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

import fledge
from fledge.build import build_detector, build_train_step, pick_device, pixel_rule
from fledge.data.controls import with_shuffled_labels
from fledge.data.labels import DetectionDataset, without_duplicates
from fledge.data.raster import measure_range
from fledge.data.sampling import TrainLoader
from fledge.data.transforms import Augment, fit_scale
from fledge.distributed import joined, mean_over_processes, rank, wait_for_all, world_size
from fledge.engine.balance import gradient_ratios
from fledge.engine.checkpoint import checkpoint_at, environment, space_warning
from fledge.engine.loop import Run
from fledge.engine.loop import train as run_loop
from fledge.engine.optim import Schedule, make_optimizer
from fledge.engine.progress import say
from fledge.engine.run_folder import claimed
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.models.detectors.dense import DenseDetector
from fledge.models.weights import (
    Loaded,
    file_sha256,
    inherit_head,
    load_backbone_weights,
    load_detector_weights,
)
from fledge.recipe import AUTO, DistillRecipe, Recipe, for_classes, load_recipe, make_recipe, write_recipe
from fledge.runs import load_detector, load_teacher, open_split
from fledge.validation import Validation

RecipeLike = Recipe | str | Path

_MEASURED = 8  # steps on whose batches a weight like "auto:0.3" rests


def train(
    recipe: RecipeLike,
    out: str | Path,
    teacher: str | Path | None = None,
    title: str = "train",
    allow_changes: Collection[str] = (),
) -> Path:
    """Train a detector, resuming if ``out`` holds an unfinished run of the same recipe.

    Args:
        recipe: a recipe, its file, or the name of a shipped one.
        out: the run folder; made if needed.
        teacher: a finished run; replaces the recipe's ``teacher`` in a distillation recipe.
        title: shown with the progress.
        allow_changes: settings that may differ from those an unfinished run in ``out`` began with.

    Returns:
        The run folder: ``recipe.toml``, ``metrics.csv``, ``tensorboard/`` and ``checkpoints/``.

    Raises:
        UsageError: the recipe is wrong, or ``out`` holds a run of another one.
        DataError: the data cannot be used, or the newest checkpoint in ``out``.
        NumericError: a loss became infinite or NaN.
        ResourceError: another run uses ``out``, or it cannot be written.
    """
    settings = _resolve(recipe, teacher)
    with joined(pick_device(settings.device)) as device, _deterministic(settings.deterministic):
        _train(settings, Path(out), device, title, allow_changes)
    return Path(out)


def _train(settings: Recipe, folder: Path, device: torch.device, title: str, allow_changes: Collection[str]) -> None:
    """``train`` in one of the processes that do it together."""
    dataset, dropped = without_duplicates(
        open_split(settings, settings.data, settings.train_split, names=settings.train_list)
    )
    if settings.label_control == "shuffled":
        dataset = with_shuffled_labels(dataset, settings.seed)
    for note in dataset.notes:
        say(f"note: {note}")
    if dropped:
        say(f"note: {dropped} objects left out: the same box and class is there twice")
    fitted = for_classes(settings, len(dataset.classes))
    if fitted != settings:
        before = settings.model_dump()
        changed = ", ".join(f"{k} is now {v}" for k, v in fitted.model_dump().items() if v != before[k])
        say(f"note: one class: the softmax form would be zero, so {changed}")
        settings = fitted
    settings, dataset = _with_range(settings, dataset)
    student = build_detector(settings, dataset.classes)
    start = _load_weights(student, settings)
    teacher = load_teacher(settings, dataset.classes)
    settings = _with_weights(settings, student, teacher, dataset, device)
    step = build_train_step(settings, student, teacher)
    optimizer = make_optimizer(
        step, settings.optimizer, settings.lr, settings.weight_decay, settings.momentum, settings.backbone_lr
    )
    lesson = _lesson(step)
    if lesson:
        say(f"note: {lesson}")
    run = _run(settings, dataset, folder, title, start, lesson)
    judge = (
        Validation(student, settings, dataset.classes, run.meta["pixel_scale"], device) if settings.eval_every else None
    )
    with _claim(settings, run, step, device, allow_changes):
        run_loop(
            step,
            optimizer,
            lambda start, total: iter(training_batches(settings, dataset, start, total)),
            run,
            device,
            judge,
        )


def distill(
    recipe: RecipeLike,
    out: str | Path,
    teacher: str | Path | None = None,
    title: str = "distil",
    allow_changes: Collection[str] = (),
) -> Path:
    """Train a student with a teacher: ``train`` for a recipe whose ``method`` is a distillation.

    Raises:
        UsageError: the recipe has no distillation method, or no teacher is named.
    """
    settings = _resolve(recipe, teacher)
    if settings.method == "none":
        raise UsageError('nothing to distil: the recipe\'s method is "none": set method, or use `fledge train`')
    return train(settings, out, title=title, allow_changes=allow_changes)


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
        invert=recipe.invert,
        short_side=recipe.short_side,
    )
    return TrainLoader(
        dataset,
        augment,
        recipe.batch_size,
        recipe.seed,
        start_step=start,
        total_steps=total,
        workers=recipe.workers,
        rank=rank(),
        world_size=world_size(),
        parts=recipe.accumulate,
        pin=pick_device(recipe.device).type == "cuda",
    )


def steps_per_epoch(recipe: Recipe, images: int) -> int:
    """Optimiser steps in which every image of a training split is drawn once; what is over joins the next epoch."""
    return max(images // recipe.batch_size, 1)


def _resolve(recipe: RecipeLike, teacher: str | Path | None) -> Recipe:
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if teacher is not None:
        settings = make_recipe({**settings.model_dump(), "teacher": str(teacher)}, "teacher")
    if not settings.data:
        raise UsageError("no data: recipe: set `data` to a dataset folder")
    return settings


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Ask CUDA for the same bits each time; operations that cannot are named in warnings."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def _claim(
    recipe: Recipe, run: Run, step: TrainStep, device: torch.device, allow_changes: Collection[str]
) -> Iterator[None]:
    """Hold the run folder while the block trains; the first process does it for all."""
    if rank() != 0:
        wait_for_all()
        yield
        return
    with claimed(
        run.folder,
        recipe.model_dump(),
        lambda path: load_recipe(path).model_dump(),
        lambda path: write_recipe(recipe, path),
        harmless=("workers", "device", "deterministic", "save_every", "eval_every", "keep_best"),
        allowed=allow_changes,
        classes=run.meta["classes"],
        environment={**environment(device), "images": run.meta["images"]},
        total_steps=run.schedule.total,
    ) as warnings:
        slots = 2 if recipe.optimizer == "adamw" else int(recipe.momentum > 0)
        weights = sum(value.nbytes for value in step.state_dict().values())
        copies = 1 + (recipe.ema_decay > 0)
        best = copies if recipe.keep_best else 0
        space = space_warning(run.folder / "checkpoints", weights * (copies + slots + best))
        for line in [*warnings, *([space] if space else [])]:
            say(f"warning: {line}")
        wait_for_all()
        yield


def _with_range(recipe: Recipe, dataset: DetectionDataset) -> tuple[Recipe, DetectionDataset]:
    """Recipe and dataset with the range of samples that the training images have, if they need one and none is set."""
    measured = None if recipe.pixel_range else measure_range(dataset.paths, dataset.pixels)
    if measured is None:
        return recipe, dataset
    say(f"note: samples from {measured[0]:g} to {measured[1]:g}, measured on the training images, become 0 to 255")
    recipe = recipe.model_copy(update={"pixel_range": measured})
    return recipe, replace(dataset, pixels=pixel_rule(recipe))


def _with_weights(
    recipe: Recipe,
    student: DenseDetector,
    teacher: DenseDetector | None,
    dataset: DetectionDataset,
    device: torch.device,
) -> Recipe:
    """The recipe with numbers for weights like "auto:0.3": the share over the ratio of gradients at the start."""
    fields = recipe.weight_fields() if isinstance(recipe, DistillRecipe) else {}
    wanted = {term: getattr(recipe, field) for term, field in fields.items()}
    wanted = {term: float(w.removeprefix(AUTO)) for term, w in wanted.items() if isinstance(w, str)}
    if not wanted:
        return recipe
    step = build_train_step(recipe, student, teacher).to(device).train()
    ratios = gradient_ratios(step, (b.to(device) for b in training_batches(recipe, dataset, 0, _MEASURED)))
    fixed: dict[str, float] = {}
    for term, share in wanted.items():
        mean = float(mean_over_processes(torch.tensor(ratios[term], device=device)))
        if not 0 < mean < math.inf:
            raise UsageError(
                f"no weight: {fields[term]}: the gradient of {term} is {mean} times the task's: set a number"
            )
        fixed[fields[term]] = float(f"{share / mean:.3g}")
        say(f"note: {fields[term]} is now {fixed[fields[term]]:g}: its gradient is then {share:g} times the task's")
    return recipe.model_copy(update=fixed)


def _load_weights(student: DenseDetector, recipe: Recipe) -> Loaded | None:
    """Start from the weights a recipe names: of a backbone, or of the whole detector of a run; or inherit its head."""
    if recipe.inherit:
        source, _, _ = load_detector(Path(recipe.inherit))
        say(str(inherit_head(student, source, recipe.inherit)))
    if not recipe.weights:
        return None
    path = Path(recipe.weights)
    if path.is_dir():
        start, _, _ = load_detector(path)
        checkpoint = checkpoint_at(path) or path
        file = next(f for name in ("ema", "model") if (f := checkpoint / f"{name}.safetensors").is_file())
        loaded = load_detector_weights(student, start, recipe.weights, file_sha256(file), recipe.reset_head)
    else:
        loaded = load_backbone_weights(student, recipe.weights)
    say(str(loaded))
    return loaded


def _lesson(step: TrainStep) -> str | None:
    """What the distiller says of itself, if it does: which other networks teach beside the teacher."""
    return str(step.distiller.describe()) if hasattr(step.distiller, "describe") else None  # type: ignore[union-attr, operator]


def _run(
    recipe: Recipe, dataset: DetectionDataset, folder: Path, title: str, start: Loaded | None, lesson: str | None
) -> Run:
    """Steps, schedule and bookkeeping of a recipe on a dataset."""
    per_epoch = steps_per_epoch(recipe, len(dataset))
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
        "start": {"source": start.source, "sha256": start.sha256} if start else None,
        "lesson": lesson,
        "selected_on": _selected_on(recipe),
        "versions": {"fledge": fledge.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    log_every = max(1, min(50, total // 50))
    return Run(
        folder,
        title,
        schedule,
        recipe.clip_norm,
        per_epoch * recipe.save_every,
        log_every,
        meta,
        parts=recipe.accumulate,
        ema_decay=recipe.ema_decay,
        skip_bad_steps=recipe.skip_bad_steps,
        balance_every=recipe.balance_every if isinstance(recipe, DistillRecipe) else 0,
        eval_every=per_epoch * max(recipe.eval_every, 1),
        keep_best=recipe.keep_best,
    )


def _selected_on(recipe: Recipe) -> dict[str, str] | None:
    """The split whose labels choose the checkpoint that is kept as the best, so that figures on it can say so."""
    if not recipe.keep_best:
        return None
    return {"data": recipe.eval_data or recipe.data, "split": recipe.eval_split, "metric": recipe.keep_best}


def _pixel_scale(dataset: DetectionDataset, recipe: Recipe) -> float:
    """Network pixels for each image pixel in training, the median over the images."""
    if recipe.view == "crop":
        return 1.0
    sizes = dataset.sizes.tolist()
    return statistics.median(fit_scale(height, width, recipe.image_size, recipe.short_side) for height, width in sizes)
