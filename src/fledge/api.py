"""The functions behind the commands: train, distil, evaluate, detect.

Each takes plain paths and values and returns what it made; ``fledge.cli`` only parses arguments and prints.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fledge.build import build_detector
from fledge.data.labels import DetectionDataset
from fledge.data.transforms import fit_scale, fit_to
from fledge.distributed import joined
from fledge.engine.progress import progress
from fledge.errors import UsageError
from fledge.evaluation.average_precision import Metrics, score
from fledge.evaluation.case import Case, case_of
from fledge.evaluation.cost import Cost, measure_cost, measure_whole
from fledge.evaluation.fingerprint import labels_sha256
from fledge.evaluation.protocols import protocol_named
from fledge.export.model import ExportedModel, load_exported
from fledge.file_evaluation import evaluate_files
from fledge.inference.model import TorchModel
from fledge.inference.predictor import Predictor, Source
from fledge.inference.together import detect_together, own_share
from fledge.provenance import run_notes
from fledge.recipe import Recipe
from fledge.runs import default_protocol, load_model, load_with_recipe, open_split
from fledge.training import distill, train, training_batches
from fledge.types import Detections

__all__ = [
    "Evaluation",
    "detect",
    "distill",
    "evaluate",
    "evaluate_files",
    "load",
    "precision",
    "train",
    "training_batches",
]


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        metrics: average precisions, and the protocol they are by.
        cost: parameters, FLOPs and time of the detector, on up to 20 images of the most common input size, or of that
            of an exported file for one size.
        detections: one per image of the split, in its order.
        dataset: the split.
        case: labels and detections as the protocol compared them.
        about: how the detections were suppressed (``nms``) and which labels these are (``labels_sha256``), as plain
            values.
        horizontal: whether the detector's boxes are horizontal.
    """

    metrics: Metrics
    cost: Cost
    detections: list[Detections]
    dataset: DetectionDataset
    case: Case
    about: dict[str, Any]
    horizontal: bool = False


def load(run: str | Path, device: str = "auto") -> Predictor[Any]:
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
    protocol: str | None = None,
    device: str = "auto",
    title: str = "evaluate",
    remap: Mapping[str, str] | None = None,
    names: str | Path = "",
) -> Evaluation:
    """Average precision and cost of a trained detector on a labelled split.

    Args:
        run: run folder, checkpoint, or a file that ``fledge export`` wrote.
        data: dataset folder; by default the recipe's ``eval_data``, or else the one the run was trained on. An exported
            file does not know where they lie: give it.
        split: its split; by default the recipe's ``eval_split``.
        protocol: its name, see ``fledge.evaluation.protocols``; by default ``box_area``, and ``coco`` for a detector of
            horizontal boxes.
        device: where to compute.
        title: shown with the progress.
        remap: class names of the labels to read under another name; an empty one ignores their objects.
        names: a text file with the names of the images to take, one a line; by default the recipe's ``eval_list``
            where data and split are its own, too.

    Raises:
        UsageError: no protocol has this name; or an exported file without ``data``, on another device than the CPU, or
            of a runtime that is not installed.
        DataError: the checkpoint, the file or the data cannot be used.
    """
    named = protocol_named(protocol) if protocol else None
    predictor, recipe = load_with_recipe(Path(run), device)
    rules = named or default_protocol(recipe)
    case, found, dataset = _detected(predictor, recipe, data, split, title, remap=remap, names=str(names))
    cost = _cost(predictor.model, recipe, dataset)
    about: dict[str, Any] = {"nms": _suppression(recipe), "labels_sha256": labels_sha256(case)}
    if notes := run_notes(Path(run)):
        about["notes"] = notes
    return Evaluation(score(case, rules), cost, found, dataset, case, about, recipe.horizontal)


def precision(
    run: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    protocol: str | None = None,
    device: str = "auto",
    title: str = "evaluate",
    limit: int | None = None,
) -> Metrics:
    """Average precision alone: the arguments of ``evaluate``, and ``limit``.

    Args:
        run, data, split, protocol, device, title: see ``evaluate``.
        limit: take at most this many images, spread evenly over the split.
    """
    named = protocol_named(protocol) if protocol else None
    predictor, recipe = load_with_recipe(Path(run), device)
    rules = named or default_protocol(recipe)
    return score(_detected(predictor, recipe, data, split, title, limit)[0], rules)


def _detected(
    predictor: Predictor[TorchModel] | Predictor[ExportedModel],
    recipe: Recipe,
    data: str | Path | None,
    split: str | None,
    title: str,
    limit: int | None = None,
    remap: Mapping[str, str] | None = None,
    names: str = "",
) -> tuple[Case, list[Detections], DetectionDataset]:
    """What is found on a split or an evenly spread part of it, with its labels and alone, and the images it is of."""
    model = predictor.model
    if data is None and isinstance(model, ExportedModel):
        raise UsageError(
            f"which data: {model.path}: an exported file does not know where its data lie: give --data DIR"
        )
    folder = Path(data or recipe.eval_data or recipe.data)
    names = names or (recipe.eval_list if data is None and split is None else "")
    dataset = open_split(recipe, folder, split or recipe.eval_split, predictor.classes, remap, names)
    if limit is not None and limit < len(dataset):
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, limit).round().astype(int).tolist())
    device = model.device if isinstance(model, TorchModel) else torch.device("cpu")
    with joined(device), progress(title, len(own_share(dataset.paths))) as advance:
        found = detect_together(predictor, dataset.paths, recipe.score_threshold, lambda n: advance(n, ""))
    truth = [dataset.targets(i) for i in range(len(dataset))]
    return case_of(found, truth, predictor.classes), found, dataset


def _cost(model: TorchModel | ExportedModel, recipe: Recipe, dataset: DetectionDataset) -> Cost:
    """What one image takes: one of the most common input size, or of that which an exported file is for."""
    sizes = [_input_size(tuple(size), recipe) for size in dataset.sizes.tolist()]
    size = statistics.mode(sizes)
    chosen = [i for i, s in enumerate(sizes) if s == size]
    fixed = model.record.size if isinstance(model, ExportedModel) else None
    samples = [_input(dataset, i, fixed or size, recipe) for i in chosen[:: max(1, len(chosen) // 20)][:20]]
    if isinstance(model, TorchModel):
        return measure_cost(model.module, size, images=samples)
    alone = load_exported(model.path, threads=1)
    whole = np.array([samples[0].shape[1:]], np.int64)
    network = build_detector(recipe, model.classes).eval()
    return measure_whole(network, lambda image: alone.run(image.permute(1, 2, 0)[None].numpy(), whole), samples)


def _suppression(recipe: Recipe) -> dict[str, float | int]:
    """What was dropped before anything was compared."""
    return {"score_threshold": recipe.score_threshold, "iou": recipe.nms_iou, "max_detections": recipe.max_detections}


def detect(
    run: str | Path | Predictor[Any], sources: Sequence[Source], score_threshold: float = 0.3, device: str = "auto"
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
        image, _ = fit_to(image, recipe.image_size, recipe.short_side)
    canvas = np.zeros((*size, image.shape[2]), np.uint8)
    part = image[: size[0], : size[1]]
    canvas[: part.shape[0], : part.shape[1]] = part
    return torch.from_numpy(canvas).permute(2, 0, 1)


def _input_size(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """Height and width the network sees for an image (one window of it), in whole multiples of 32."""
    scale = fit_scale(*size, recipe.image_size, recipe.short_side) if recipe.view == "fit" else 1.0
    height, width = (-(-min(round(side * scale), recipe.image_size) // 32) * 32 for side in size)
    return height, width
