"""What a quickstart will do: its data, its recipes, its seeds, and how long that should take here."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fledge.build import build_detector, build_train_step, pick_device
from fledge.data.datasets import find_splits, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.errors import DataError, UsageError
from fledge.models.weights import read_weights
from fledge.quickstart.parallel import cores
from fledge.recipe import Recipe, for_classes, load_recipe
from fledge.training import training_batches

STAGES = ("conv1.", "layer1.", "layer2.", "layer3.", "layer4.")


@dataclass(frozen=True)
class Size:
    """How much a quickstart on rendered scenes does. A teacher serves many students, so it may train for longer."""

    train: int
    test: int
    image_size: int
    epochs: int
    teacher_epochs: int
    seeds: int


SIZES = {
    "smallest": Size(train=16, test=8, image_size=96, epochs=1, teacher_epochs=1, seeds=1),
    "standard": Size(train=400, test=150, image_size=192, epochs=5, teacher_epochs=6, seeds=1),
    "full": Size(train=800, test=300, image_size=192, epochs=16, teacher_epochs=24, seeds=5),
}
# Evaluation, pictures and the scene, in seconds: little beside the trainings, so not measured beforehand.
EVALUATION = 60.0
# Images shown to each network in training on the user's own data, unless --epochs says otherwise.
BUDGET = 8000
# Shrunk below this many pixels (square root of the area, first quartile), images are cut into windows instead.
SMALLEST_OBJECT = 10.0
# Random scaling on the user's own data: held-out images often come from another height than the training images.
SCALES = (0.6, 1.5)


@dataclass(frozen=True)
class Plan:
    """A quickstart decided on.

    Attributes:
        out: folder of everything it makes.
        data: the dataset's folder, and whether the job renders it.
        synthetic: how many tiles to render, or None for the user's own data.
        seeds: of the students, and of the teacher (the first).
        teacher, student: recipes; the distilled student's recipe is the student's plus KD-RNet.
        command: how to repeat it.
        notes: what was decided for the user's data, and why.
    """

    out: Path
    data: Path
    synthetic: Size | None
    seeds: tuple[int, ...]
    teacher: Recipe
    student: Recipe
    command: str
    notes: tuple[str, ...] = ()

    def run(self, role: str, seed: int) -> Path:
        """The run folder of the ``teacher``, a ``student`` alone or a ``distilled`` one."""
        return self.out / (role if seed == self.seeds[0] else f"{role}-seed{seed}")

    def student_recipe(self, seed: int) -> Recipe:
        """The student's recipe with another seed."""
        return self.student.model_copy(update={"seed": seed})

    def distilled_recipe(self, seed: int) -> Recipe:
        """The same with KD-RNet, as the shipped recipe ``kd_rnet_quickstart`` has it."""
        settings = self.student_recipe(seed).model_dump(exclude={"method"})
        return load_recipe("kd_rnet_quickstart", **settings, teacher=str(self.run("teacher", self.seeds[0])))


def plan_synthetic(out: Path, size: str, seed: int, epochs: int | None, device: str) -> Plan:
    """The job on rendered scenes."""
    how = SIZES[size]
    data = out / "data"
    changes: dict[str, Any] = {
        "data": str(data),
        "image_size": how.image_size,
        "overlap": how.image_size // 2,
        "epochs": epochs or how.epochs,
        "device": device,
        "seed": seed,
    }
    flags = {"smallest": " --smallest", "full": " --full", "standard": ""}[size] + (
        f" --epochs {epochs}" if epochs else ""
    )
    return Plan(
        out=out,
        data=data,
        synthetic=how,
        seeds=tuple(range(seed, seed + how.seeds)),
        teacher=load_recipe("quickstart_teacher", **changes | {"epochs": epochs or how.teacher_epochs}),
        student=load_recipe("quickstart_student", **changes),
        command=f"fledge quickstart{flags} --seed {seed} --out {out}",
    )


def plan_own(
    out: Path,
    data: Path,
    seeds: Sequence[int],
    image_size: int,
    epochs: int | None,
    teacher_weights: Path | None,
    device: str,
) -> Plan:
    """The job on the user's own dataset; sizes are read off its labels.

    Raises:
        DataError: there is no training or no held-out split, or one of them has no objects.
    """
    splits = find_splits(data)
    if not {"train", "val"} <= set(splits):
        raise DataError(
            f"no held-out split: {data}: found {', '.join(splits.values()) or 'one folder'}: make two folders, such as "
            f"{data}/train and {data}/val, with no image (or video, or place) in both"
        )
    dataset = open_dataset(data, splits["train"])
    if not len(dataset.labels):
        raise DataError(f"no objects: {data}/{splits['train']}: label some first")
    settings, notes = _fit_to_data(dataset, image_size)
    settings |= {
        "data": str(data),
        "train_split": splits["train"],
        "eval_split": splits["val"],
        "epochs": epochs or max(2, round(BUDGET / len(dataset))),
        "device": device,
        "seed": seeds[0],
    }
    teacher = {**settings}
    if teacher_weights is not None:
        frozen = _stages_in(teacher_weights)
        teacher |= {"backbone": "resnet18", "weights": str(teacher_weights), "frozen_stages": frozen}
        notes.append(f"teacher: ResNet-18 with {teacher_weights.name}, its first {frozen} stages frozen")
    return Plan(
        out=out,
        data=data,
        synthetic=None,
        seeds=tuple(seeds),
        teacher=load_recipe("quickstart_teacher", **teacher),
        student=load_recipe("quickstart_student", **settings),
        command=f"fledge quickstart --data {data} --image-size {image_size} --epochs {settings['epochs']} "
        + (f"--teacher-weights {teacher_weights} " if teacher_weights else "")
        + ("--full " if len(seeds) > 1 else "")
        + f"--seed {seeds[0]} --out {out}",
        notes=tuple(notes),
    )


def estimate_seconds(plan: Plan, steps: int = 3) -> float:
    """Time for all trainings, from a few steps of each kind on the real data."""
    dataset = open_dataset(plan.data, plan.student.train_split)
    teacher = build_detector(plan.teacher, dataset.classes)
    device = pick_device(plan.student.device)
    first = _training_seconds(plan.teacher, build_train_step(plan.teacher, teacher, None), dataset, steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    each = []
    for recipe in (plan.student, for_classes(plan.distilled_recipe(plan.seeds[0]), len(dataset.classes))):
        student = build_detector(recipe, dataset.classes)
        lesson = teacher if recipe is not plan.student else None
        each.append(_training_seconds(recipe, build_train_step(recipe, student, lesson), dataset, steps))
    torch.set_num_threads(threads)
    at_once = cores() if device.type == "cpu" else 1
    return first + max(*each, len(plan.seeds) * sum(each) / at_once) + EVALUATION


def _training_seconds(recipe: Recipe, step: torch.nn.Module, dataset: DetectionDataset, steps: int) -> float:
    """Time of a whole training, from the median of a few steps (the first is left out)."""
    device = pick_device(recipe.device)
    step.to(device).train()
    total = max(len(dataset) // recipe.batch_size, 1) * recipe.epochs
    times, start = [], time.perf_counter()
    for batch in training_batches(recipe.model_copy(update={"workers": 0}), dataset, 0, min(steps, total) + 1):
        sum(step(batch.to(device)).values()).backward()
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return total * statistics.median(times[1:])


def _fit_to_data(dataset: DetectionDataset, image_size: int) -> tuple[dict[str, Any], list[str]]:
    """View, overlap and anchor size for a dataset, with a sentence about each."""
    if image_size % 32 or image_size < 64:
        raise UsageError(f"image size {image_size}: --image-size: give a multiple of 32, at least 64")
    long_side = statistics.median(dataset.sizes.max(axis=1).tolist())
    labelled = dataset.boxes[~dataset.ignore]
    sides = np.sqrt(labelled[:, 2] * labelled[:, 3])
    shrunk = image_size / long_side
    # Shrinking shows more at once, but an object under ten pixels is smaller than any anchor.
    fit = shrunk >= 1 or (shrunk >= 0.4 and float(np.quantile(sides, 0.25)) * shrunk >= SMALLEST_OBJECT)
    scale = shrunk if fit else 1.0
    smallest = float(np.quantile(sides, 0.05)) * scale
    longest = float(np.quantile(labelled[:, 2], 0.99)) * scale
    overlap = min(32 * math.ceil(max(longest, image_size / 4) / 32), image_size // 2)
    # The smallest anchor's side is 8 times the scale; its three octaves reach 1.6 times as far.
    anchor = min((1.0, 2.0, 4.0), key=lambda s: abs(np.log(smallest / (8 * s * 1.26))))
    how = f"shrunk to {image_size} px" if fit else f"cut into {image_size} px windows at native resolution"
    notes = [
        f"images: long side {long_side:.0f} px (median), {how}",
        f"objects: one in twenty is under {smallest:.0f} px at that scale, so anchors start at {8 * anchor:.0f} px; "
        f"scaled at random by {SCALES[0]} to {SCALES[1]} in training",
    ]
    settings = {
        "image_size": image_size,
        "view": "fit" if fit else "crop",
        "overlap": overlap,
        "anchor_scale": anchor,
        "right_angles": not fit,
        "scale_low": SCALES[0],
        "scale_high": SCALES[1],
    }
    return settings, notes


def _stages_in(weights: Path) -> int:
    """How many leading stages of a ResNet a file of weights covers."""
    names = read_weights(weights)
    present = [any(name.startswith(stage) for name in names) for stage in STAGES]
    count = present.index(False) if False in present else len(STAGES)
    if not count:
        raise DataError(f"no ResNet in {weights}: it has none of {', '.join(STAGES)}: give ResNet-18 weights")
    return count
