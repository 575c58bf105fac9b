"""What distillation looks like: maps of teacher and student, how far apart they are, and what runs find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fledge
from fledge.build import pick_device
from fledge.data.labels import DetectionDataset, class_file_name
from fledge.distill.parts.hyperbolic import exponential_map, hyperbolic_mask, poincare_distance
from fledge.errors import DataError
from fledge.files import write_bytes
from fledge.inference.predictor import Predictor
from fledge.pictures.lesson import Lesson, batch_of, class_vectors, compared, open_lesson, stages
from fledge.runs import load_predictor, open_split
from fledge.types import Batch
from fledge.visualize.draw import draw_boxes
from fledge.visualize.heat import heat
from fledge.visualize.images import Image, encode, to_rgb
from fledge.visualize.page import GalleryRow, Page
from fledge.visualize.table import Column, Value

SIDE = 480  # of the pictures, pixels
_LABELLED, _FOUND = 1, 2  # colours of classes: blue and red
Named = list[tuple[str, Image]]


def pictures(
    runs: Mapping[str, str | Path],
    out: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    count: int = 4,
    level: str = "p3",
    score: float = 0.3,
    disturbance: str = "",
    embedder_weights: str = "",
    device: str = "auto",
) -> Path:
    """Draw a distilled run beside its teacher and other runs, as PNG files and one page.

    Args:
        runs: run folders by the name to show; the maps are those of the first one that has a teacher.
        out: folder for the pictures and ``pictures.html``.
        data, split: as for ``evaluate``.
        count: images, those with the most objects.
        level: of the pyramid.
        score: least score of the detections that are drawn.
        disturbance: what to add to the teacher's maps, as ``ifkd_disturbance``; by default what the run was trained
            with, if it was.
        embedder_weights: of the disturbance.
        device: where to compute.

    Returns:
        The page.

    Raises:
        UsageError: no run has a teacher, or there is no such level.
        DataError: a run or the data cannot be used.
    """
    predictors = {name: load_predictor(Path(run), device) for name, run in runs.items()}
    lesson = open_lesson(runs, disturbance, embedder_weights, pick_device(device))
    recipe, classes = lesson.recipe, lesson.step.student.classes
    folder = Path(data or recipe.eval_data or recipe.data)
    dataset = open_split(recipe, folder, split or recipe.eval_split, classes)  # type: ignore[arg-type]
    if not len(dataset):
        raise DataError(f"no images: {folder}: the split is empty: choose another with --split")
    teacher = load_predictor(Path(recipe.teacher), device)
    finders = {"teacher": teacher[0], **{name: found for name, (found, _) in predictors.items()}}
    page = Page("What distillation looks like", f"{lesson.run}: {recipe.method}, teacher {recipe.teacher}")
    shown = np.argsort(-np.diff(dataset.offsets), kind="stable")[:count].tolist()
    batches = {dataset.ids[i]: batch_of(dataset, i, recipe, lesson.step) for i in shown}
    drawn = [_maps(page, lesson, batches, level), _distances(page, lesson, batches, level)]
    _class_distances(page, lesson, dataset, level)
    drawn.append(_detections(page, finders, dataset, shown, score))
    page.footer({"Images": str(dataset.root), "Version": f"fledge {fledge.__version__}"})
    for name, image in (row for rows in drawn for row in rows):
        write_bytes(Path(out) / f"{name}.png", encode(image, "png"))
    return page.write(Path(out) / "pictures.html")


def _maps(page: Page, lesson: Lesson, batches: Mapping[str, Batch], level: str) -> Named:
    """Maps of the teacher, with and without what disturbs and reconstructs it, and of the student."""
    page.heading("Maps")
    about = "" if lesson.disturbance is None else f" Disturbed by {lesson.disturbance.describe()}."
    page.paragraph(
        f"Length of the vectors of {level}, each picture on its own scale, from dark (least) to light (largest).{about}"
    )
    files, rows, names = [], [], ["image"]
    for number, (name, batch) in enumerate(batches.items(), start=1):
        maps = stages(lesson, batch, level)
        names = ["image", *maps]
        drawn = [_shown(batch), *(_heat(x.norm(dim=1)[0], batch) for x in maps.values())]
        rows.append(GalleryRow(drawn, f"`{name}`"))
        files += [(f"{number:02d}-{kind.replace(' ', '-')}", image) for kind, image in zip(names, drawn, strict=True)]
    page.gallery(names, rows)
    return files


def _distances(page: Page, lesson: Lesson, batches: Mapping[str, Batch], level: str) -> Named:
    """How far apart student and target are, before and after the hyperbolic map."""
    page.heading("Distances of student and teacher")
    curvature = float(getattr(lesson.recipe, "ifkd_curvature", 1.0))
    files: Named = []
    rows = []
    for number, (name, batch) in enumerate(batches.items(), start=1):
        found = compared(lesson, batch, level)
        if found is None:
            page.paragraph("The networks' maps have different widths, and this method has no adapter between them.")
            return files
        own, target = found
        both = [(own - target).norm(dim=1)[0], hyperbolic_mask(own, target, curvature)[0, 0]]
        drawn = [_shown(batch), *(_heat(x, batch) for x in both)]
        spreads = [float(x.std(correction=0) / x.mean().clamp(min=1e-12)) for x in both]
        rows.append(GalleryRow(drawn, f"`{name}`: deviation over mean {spreads[0]:.2f} and {spreads[1]:.2f}"))
        kinds = ("euclidean", "hyperbolic")
        files += [(f"{number:02d}-{kind}", image) for kind, image in zip(kinds, drawn[1:], strict=True)]
    page.paragraph(
        f"At each place of {level}, after the adapter and all that changes the target; right, in the Poincaré ball of "
        f"curvature {curvature:g}."
    )
    page.gallery(["image", "Euclidean", "hyperbolic"], rows)
    return files


def _class_distances(page: Page, lesson: Lesson, dataset: DetectionDataset, level: str) -> None:
    """The distances of classes, each the mean of its objects' vectors in the teacher's maps."""
    page.heading("Distances of classes")
    classes: tuple[str, ...] = lesson.step.student.classes  # type: ignore[assignment]
    means = class_vectors(lesson, dataset, level)
    if len(means) < 2:
        page.paragraph("There are objects of fewer than two classes.")
        return
    scaled = torch.stack(list(means.values())) / len(next(iter(means.values()))) ** 0.5
    ball = exponential_map(scaled, float(getattr(lesson.recipe, "ifkd_curvature", 1.0)))
    names = [classes[k] for k in means]
    page.paragraph(
        f"Vectors of the teacher's {level}, averaged over the cells of each object, then over the objects of a class. "
        "Each table is divided by the mean of its distances, so that they can be compared."
    )
    for title, table in (("Euclidean", torch.cdist(scaled, scaled)), ("hyperbolic", _all_pairs(ball))):
        relative = table / table[~torch.eye(len(table), dtype=torch.bool)].mean().clamp(min=1e-12)
        rows: list[list[Value]] = [[name, *row] for name, row in zip(names, relative.tolist(), strict=True)]
        page.table([Column(title), *(Column(name, ".2f") for name in names)], rows)


def _all_pairs(points: Tensor) -> Tensor:
    """(N, N) Poincaré distances of points (N, C)."""
    count = len(points)
    x, y = points.repeat_interleave(count, dim=0), points.repeat(count, 1)
    return poincare_distance(x, y).view(count, count)


def _detections(
    page: Page, finders: Mapping[str, Predictor[Any]], dataset: DetectionDataset, shown: Sequence[int], score: float
) -> Named:
    """What each run finds, over what is labelled."""
    page.heading("Detections")
    page.paragraph(f"Blue: labelled. Red: found, with a score of at least {score:g}.")
    files, rows = [], []
    for number, i in enumerate(shown, start=1):
        image, truth = to_rgb(dataset.read(i)), dataset.targets(i)
        truth = truth.select(~truth.ignore)
        drawn = []
        for name, predictor in finders.items():
            found = predictor.detect(dataset.paths[i], score)
            boxes = torch.cat([truth.boxes, found.boxes])
            kinds = torch.tensor([_LABELLED] * len(truth) + [_FOUND] * len(found), dtype=torch.int64)
            scale = SIDE / max(image.shape[:2])
            drawn.append(draw_boxes(image, boxes, kinds, ("", "labelled", "found"), scale=scale))
            files.append((f"{number:02d}-detections-{class_file_name(name)}", drawn[-1]))
        rows.append(GalleryRow(drawn, f"`{dataset.ids[i]}`: {len(truth)} objects"))
    page.gallery(list(finders), rows)
    return files


def _shown(batch: Batch) -> Image:
    """The image that a batch of one holds, with the outlines of its objects."""
    image = to_rgb(np.ascontiguousarray(batch.images[0].permute(1, 2, 0).cpu().numpy()))
    target = batch.targets[0].to("cpu")
    kinds = torch.full((len(target),), _LABELLED)
    scale = SIDE / max(image.shape[:2])
    return draw_boxes(image, target.boxes, kinds, ("", "labelled"), scale=scale, thickness=1)


def _heat(values: Tensor, batch: Batch) -> Image:
    height, width = batch.images.shape[2:]
    scale = SIDE / max(height, width)
    return heat(values.double().cpu().numpy(), (round(height * scale), round(width * scale)))
