"""A distilled run brought back whole, and the maps that its student and teacher make of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fledge.build import build_train_step
from fledge.data.labels import DetectionDataset
from fledge.data.transforms import fit_to, move_targets, scaling, shift, warp
from fledge.distill.frs import richness
from fledge.distill.parts.embedding import Disturbance, disturbed
from fledge.distill.parts.levels import logits_by_level, pair
from fledge.distill.parts.masks import object_cells, stride_of
from fledge.distillers import disturbance_named
from fledge.engine.checkpoint import checkpoint_at, load_checkpoint
from fledge.engine.progress import progress
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.recipe import DistillRecipe, Recipe
from fledge.runs import load_detector, load_teacher
from fledge.types import Batch, Outputs, Targets

_OBJECTS = 50  # images over which the vectors of classes are averaged


@dataclass(frozen=True, eq=False)
class Lesson:
    """A distilled run: student, teacher and distiller in eval mode, and what else disturbs the teacher."""

    run: Path
    recipe: DistillRecipe
    step: TrainStep
    teacher: torch.nn.Module
    disturbance: Disturbance | None

    @torch.no_grad()
    def outputs(self, batch: Batch) -> tuple[Outputs, Outputs]:
        """Of student and teacher."""
        return self.step.student(batch.images), self.teacher(batch.images)


def open_lesson(runs: Mapping[str, str | Path], disturbance: str, weights: str, device: torch.device) -> Lesson:
    """The first of the runs that has a teacher, as it was trained."""
    for run in map(Path, runs.values()):
        student, recipe, _ = load_detector(run)
        if not isinstance(recipe, DistillRecipe):
            continue
        teacher, checkpoint = load_teacher(recipe, student.classes), checkpoint_at(run)
        assert teacher is not None  # noqa: S101 (a recipe of that kind)
        assert checkpoint is not None  # noqa: S101 (it was just read)
        step = build_train_step(recipe, student, teacher).to(device).eval()
        assert step.distiller is not None  # noqa: S101 (there is a teacher)
        step.distiller.load_state_dict(load_checkpoint(checkpoint, "distiller")[1]["distiller"])
        own = getattr(getattr(step.distiller, "parts", None), "disturbance", None)
        width = int(teacher.neck.channels)  # type: ignore[arg-type]
        other = disturbance_named(disturbance, weights, width, recipe.seed) if disturbance else own
        return Lesson(run, recipe, step, teacher, None if other is None else other.to(device))
    raise UsageError(f"no teacher: {', '.join(map(str, runs.values()))}: name a distilled run among them")


def batch_of(dataset: DetectionDataset, i: int, recipe: Recipe, step: TrainStep) -> Batch:
    """An image as the network sees it; of a large one the window with the most objects."""
    image, targets = dataset.read(i), dataset.targets(i)
    if recipe.view == "fit":
        image, factor = fit_to(image, recipe.image_size, recipe.short_side)
        targets = move_targets(targets, scaling(factor), image.shape[:2])
    else:
        matrix = shift(*(-v for v in _corner(image.shape[:2], targets, recipe.image_size)))
        size = (recipe.image_size, recipe.image_size)
        image, targets = warp(image, matrix, size), move_targets(targets, matrix, size)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    device = next(step.parameters()).device
    return Batch(pixels, torch.tensor([image.shape[:2]]), (targets,)).to(device)


def _corner(shape: tuple[int, int], targets: Targets, side: int) -> tuple[int, int]:
    """The corner (x, y) of the window with the most centres of objects, among those centred on one."""
    most = torch.tensor([max(0, shape[1] - side), max(0, shape[0] - side)])
    centres = targets.boxes[~targets.ignore, :2]
    if not len(centres):
        return 0, 0
    corners = (centres - side / 2).clamp(min=0).minimum(most).floor()
    inside = ((centres >= corners[:, None]) & (centres < corners[:, None] + side)).all(dim=2).sum(dim=1)
    x, y = corners[int(inside.argmax())].tolist()
    return int(x), int(y)


@torch.no_grad()
def stages(lesson: Lesson, batch: Batch, level: str) -> dict[str, Tensor]:
    """Maps (1, C, H, W) of a level by what they are."""
    student, teacher = lesson.outputs(batch)
    if level not in student.features or level not in teacher.features:
        raise UsageError(f"no level {level!r} in both networks: use one of {', '.join(student.features)}")
    found = {"teacher": teacher.features[level]}
    if lesson.disturbance is not None:
        found["disturbance"] = disturbed(torch.zeros_like(found["teacher"]), lesson.disturbance(batch))
        found["teacher disturbed"] = found["teacher"] + found["disturbance"]
    reconstruction = getattr(getattr(lesson.step.distiller, "parts", None), "reconstruction", None)
    if reconstruction is not None:
        scores = {level: richness(logits_by_level(teacher)[level])}
        target = list(found.values())[-1]
        found["teacher reconstructed"] = reconstruction({level: (target, target)}, scores)[level][1]
    found["student"] = student.features[level]
    return found


@torch.no_grad()
def compared(lesson: Lesson, batch: Batch, level: str) -> tuple[Tensor, Tensor] | None:
    """The student's map as the distiller compares it, and the target; None if they cannot be compared."""
    student, teacher = lesson.outputs(batch)
    adapters = getattr(lesson.step.distiller, "adapters", None)
    own = student.features[level]
    if adapters is not None and level in getattr(adapters, "convs", {}):
        own = adapters(student, teacher)[level][0]
    target = list(stages(lesson, batch, level).values())[-2]
    return pair(own, target) if own.shape[1] == target.shape[1] else None


def class_vectors(lesson: Lesson, dataset: DetectionDataset, level: str) -> dict[int, Tensor]:
    """The mean vector (C,) of each class that has objects, over up to 50 images spread over the split."""
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    chosen = np.unique(np.linspace(0, len(dataset) - 1, _OBJECTS).round().astype(int)).tolist()
    with progress("pictures", len(chosen)) as advance:
        for number, i in enumerate(chosen, start=1):
            batch = batch_of(dataset, i, lesson.recipe, lesson.step)
            targets = batch.targets[0].select(~batch.targets[0].ignore)
            features = lesson.outputs(batch)[1].features[level][0].double()
            shape = (features.shape[1], features.shape[2])
            objects, cells = object_cells(targets.boxes, shape, stride_of(level))
            for k, label in enumerate(targets.labels.tolist()):
                vector = features.flatten(1)[:, cells[objects == k]].mean(dim=1).cpu()
                sums[label] = sums.get(label, torch.zeros_like(vector)) + vector
                counts[label] = counts.get(label, 0) + 1
            advance(number, "")
    return {label: sums[label] / counts[label] for label in sorted(sums)}
