"""The functions behind the commands: train, distil, evaluate, detect.

Each takes plain paths and values and returns what it made; ``fledge.cli`` only parses arguments and prints.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fledge.data.labels import DetectionDataset
from fledge.data.transforms import fit_to
from fledge.distributed import gathered, joined, rank, world_size
from fledge.engine.progress import progress
from fledge.evaluation.average_precision import COCO_THRESHOLDS, Interpolation, Metrics
from fledge.evaluation.average_precision import evaluate as average_precision
from fledge.evaluation.cost import Cost, measure_cost
from fledge.inference.predictor import Predictor, Source
from fledge.recipe import Recipe
from fledge.runs import load_model, load_predictor, open_split
from fledge.training import distill, train, training_batches
from fledge.types import Detections

__all__ = ["Evaluation", "detect", "distill", "evaluate", "load", "precision", "train", "training_batches"]


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


def load(run: str | Path, device: str = "auto") -> Predictor:
    """A trained detector from a run folder, one of its checkpoints, or a file that ``fledge export`` wrote.

    Example:
        >>> fledge.load("runs/student").detect("scene.png").to_dota()  # doctest: +SKIP

    Raises:
        DataError: there is no checkpoint, or it or the file is damaged.
    """
    return Predictor(load_model(Path(run), device))


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    interpolation: Interpolation = "area",
    device: str = "auto",
    title: str = "evaluate",
    remap: Mapping[str, str] | None = None,
) -> Evaluation:
    """Average precision and cost of a trained detector on a labelled split.

    Args:
        run: run folder or checkpoint.
        data: dataset folder; by default the recipe's ``eval_data``, or else the one the run was trained on.
        split: its split; by default the recipe's ``eval_split``.
        interpolation: ``area`` or ``voc07``.
        device: where to compute.
        title: shown with the progress.
        remap: class names of the labels to read under another name; an empty one ignores their objects.
    """
    predictor, model, recipe = load_predictor(Path(run), device)
    with joined(model.device):
        metrics, found, dataset = _score(predictor, recipe, data, split, interpolation, title, remap=remap)
    sizes = [_input_size(tuple(size), recipe) for size in dataset.sizes.tolist()]
    size = statistics.mode(sizes)
    chosen = [i for i, s in enumerate(sizes) if s == size]
    samples = [_input(dataset, i, size, recipe) for i in chosen[:: max(1, len(chosen) // 20)][:20]]
    cost = measure_cost(model.module, size, images=samples)
    return Evaluation(metrics, cost, found, dataset)


def precision(
    run: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    interpolation: Interpolation = "area",
    device: str = "auto",
    title: str = "evaluate",
    limit: int | None = None,
) -> Metrics:
    """Average precision alone: the arguments of ``evaluate``, and ``limit``.

    Args:
        run, data, split, interpolation, device, title: see ``evaluate``.
        limit: take at most this many images, spread evenly over the split.
    """
    predictor, model, recipe = load_predictor(Path(run), device)
    with joined(model.device):
        return _score(predictor, recipe, data, split, interpolation, title, limit)[0]


def _score(
    predictor: Predictor,
    recipe: Recipe,
    data: str | Path | None,
    split: str | None,
    interpolation: Interpolation,
    title: str,
    limit: int | None = None,
    remap: Mapping[str, str] | None = None,
) -> tuple[Metrics, list[Detections], DetectionDataset]:
    """Average precisions on a split or an evenly spread part of it, the detections, and the images they are of."""
    folder = Path(data or recipe.eval_data or recipe.data)
    dataset = open_split(recipe, folder, split or recipe.eval_split, predictor.classes, remap)
    if limit is not None and limit < len(dataset):
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, limit).round().astype(int).tolist())
    found = _detect_together(predictor, dataset.paths, recipe.score_threshold, title)
    truth = [dataset.targets(i) for i in range(len(dataset))]
    metrics = average_precision(found, truth, predictor.classes, COCO_THRESHOLDS, interpolation)
    return metrics, found, dataset


def _detect_together(
    predictor: Predictor, paths: Sequence[Path], score_threshold: float, title: str
) -> list[Detections]:
    """Detections in some images, each computed by one of the processes, on all of them."""
    mine = paths[rank() :: world_size()]
    with progress(title, len(mine)) as advance:
        own = predictor.detect_many(mine, score_threshold, advance=lambda n: advance(n, ""))
    shares = gathered(own)
    return [shares[i % len(shares)][i // len(shares)] for i in range(len(paths))]


def detect(
    run: str | Path | Predictor, sources: Sequence[Source], score_threshold: float = 0.3, device: str = "auto"
) -> list[Detections]:
    """Detections of a trained detector in some images (files or arrays), in pixels of each image.

    ``run`` is its run folder, a checkpoint, or what ``load`` returned.
    """
    predictor = run if isinstance(run, Predictor) else load(run, device)
    with progress("detect", len(sources)) as advance:
        return predictor.detect_many(sources, score_threshold, advance=lambda n: advance(n, ""))


def _input(dataset: DetectionDataset, i: int, size: tuple[int, int], recipe: Recipe) -> Tensor:
    """Image i as the network sees it, or its first window: (C, H, W) uint8."""
    image = dataset.read(i)
    if recipe.view == "fit":
        image, _ = fit_to(image, recipe.image_size)
    canvas = np.zeros((*size, image.shape[2]), np.uint8)
    part = image[: size[0], : size[1]]
    canvas[: part.shape[0], : part.shape[1]] = part
    return torch.from_numpy(canvas).permute(2, 0, 1)


def _input_size(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """Height and width the network sees for an image (one window of it), in whole multiples of 32."""
    scale = recipe.image_size / max(size) if recipe.view == "fit" else 1.0
    height, width = (-(-min(round(side * scale), recipe.image_size) // 32) * 32 for side in size)
    return height, width
