"""Latency, memory, size, arithmetic and average precision of runs and exported files, side by side."""

from __future__ import annotations

import json
import math
import multiprocessing
import re
import resource
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.build import build_detector
from fledge.data.datasets.folders import image_files
from fledge.data.labels import DetectionDataset
from fledge.data.raster import read_image
from fledge.engine.checkpoint import newest_checkpoint
from fledge.engine.progress import say
from fledge.errors import DataError, UsageError
from fledge.evaluation.cost import count_operations
from fledge.export.model import ExportedModel
from fledge.export.proof import precision_of, window_of
from fledge.inference.model import WindowModel
from fledge.recipe import Recipe
from fledge.runs import load_model, load_with_recipe, open_split

Image = NDArray[np.uint8]

_IMAGES = 8  # different images that the times are taken on, in turn
_SCORED = 200  # images at most


@dataclass(frozen=True)
class Row:
    """One variant at one size and number of threads.

    Attributes:
        model: the folder or file.
        runtime, precision: what computes it, and in which numbers.
        size: side of the square images, pixels.
        threads: of the CPU.
        median_ms, p95_ms: time from bytes to boxes of one image.
        cpu_ms: median processor time of it, which other work on the machine disturbs less.
        peak_bytes: largest resident memory of a process that does nothing else (the runtime itself included).
        file_bytes: of the weights file of a run, or of the exported files.
        parameters: of the network.
        flops: of the network for one image, a multiply-add counting as two.
        ap50, ap50_95: average precision at exact rotated IoU, 0…1; None where it was not measured.
    """

    model: str
    runtime: str
    precision: str
    size: int
    threads: int
    median_ms: float
    p95_ms: float
    cpu_ms: float
    peak_bytes: int
    file_bytes: int
    parameters: int
    flops: int
    ap50: float | None
    ap50_95: float | None


def benchmark(
    models: Sequence[str | Path],
    threads: Sequence[int] = (1,),
    sizes: Sequence[int] = (),
    data: str | Path | None = None,
    split: str | None = None,
    repeats: int = 30,
) -> list[Row]:
    """Measure runs and exported files, each in processes of its own, one after another.

    Args:
        models: run folders, checkpoints and files of ``fledge export``.
        threads: numbers of CPU threads.
        sizes: sides of the images in pixels; by default each model's own. A file for one
            size is measured at that alone.
        data: labelled dataset for average precision and images to time on (decoding takes longer where there is more to
            find), or a folder of images for the times alone. Without it: images of noise, and no average precision.
        split: of the dataset; by default the recipe's ``eval_split``.
        repeats: timed images of each row, after three for warming up.

    Raises:
        DataError: a model or the dataset cannot be read.
    """
    if not models:
        raise UsageError("nothing to measure: give run folders or exported files")
    rows: list[Row] = []
    for model in map(Path, models):
        predictor, recipe = load_with_recipe(model, "cpu")
        loaded = predictor.model
        ap = _precision(loaded, recipe, data, split, model)
        files = _files(model)
        fixed = loaded.record.size if isinstance(loaded, ExportedModel) else None
        wanted = [fixed[0]] if fixed else list(sizes or [loaded.image_size])
        if fixed and sizes and fixed[0] not in sizes:
            say(f"{model}: for {fixed[0]} px alone, so measured at that")
        for size in wanted:
            parameters, flops = _arithmetic(recipe, loaded.classes, size)
            images = _images(loaded, data, size)
            for count in threads:
                say(f"benchmark: {model}, {size} px, {count} threads")
                median, late, cpu, peak = _in_a_process(model, count, images, repeats)
                runtime, precision = _kind(loaded)
                times = (median, late, cpu, peak, files)
                rows.append(Row(str(model), runtime, precision, size, count, *times, parameters, flops, *ap))
    return rows


def _kind(model: WindowModel) -> tuple[str, str]:
    """Runtime and precision."""
    return (model.record.runtime, model.record.precision) if isinstance(model, ExportedModel) else ("torch", "fp32")


def _precision(
    model: WindowModel, recipe: Recipe, data: str | Path | None, split: str | None, path: Path
) -> tuple[float | None, float | None]:
    """AP50 and AP50:95; None each without labels."""
    if data is None or (split is None and image_files(Path(data))):
        return None, None
    dataset: DetectionDataset = open_split(recipe, Path(data), split or recipe.eval_split, model.classes)
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), _SCORED)).round().astype(int).tolist()
    found = precision_of(model, dataset.subset(chosen), f"AP of {path}")
    half, whole = (value if math.isfinite(value) else None for value in found.values())
    return half, whole


def _images(model: WindowModel, data: str | Path | None, size: int) -> Image:
    """(N, size, size, C) windows of images spread over a folder, or noise."""
    channels = model.pixels.channels
    if data is None:
        return np.random.default_rng(0).integers(0, 256, (_IMAGES, size, size, channels), np.uint8)
    files = image_files(Path(data)) or sorted(f for folder in Path(data).rglob("*") for f in image_files(folder))
    if not files:
        raise DataError(f"no images: {data}: give a folder with images in it")
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, _IMAGES).round().astype(int).tolist()]
    made = np.zeros((_IMAGES, size, size, channels), np.uint8)
    for row, file in zip(made, chosen, strict=True):
        pixels = window_of(model, read_image(file, model.pixels), None, ())
        tiles = [-(-size // side) for side in pixels.shape[:2]]
        row[:] = np.tile(pixels, (*tiles, 1))[:size, :size]
    return made


def _arithmetic(recipe: Recipe, classes: Sequence[str], size: int) -> tuple[int, int]:
    """Parameters, and FLOPs for one image, of the network a recipe describes."""
    side = -(-size // 32) * 32
    images = torch.zeros((1, len(recipe.bands) or 3, side, side), dtype=torch.uint8)
    return count_operations(build_detector(recipe, classes).eval(), images)


def _files(path: Path) -> int:
    """Bytes of an exported file with what lies beside it, or of a run's weights."""
    if path.is_file():
        beside = path.with_suffix(".bin")
        return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" else 0)
    checkpoint = path if (path / "manifest.json").is_file() else newest_checkpoint(path / "checkpoints")
    names = ("ema.safetensors", "model.safetensors")
    found = [checkpoint / name for name in names if checkpoint and (checkpoint / name).is_file()]
    return found[0].stat().st_size if found else 0


def _in_a_process(model: Path, threads: int, images: Image, repeats: int) -> tuple[float, float, float, int]:
    """``_measure`` in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, model, threads, images, repeats).result()


def _measure(model: Path, threads: int, images: Image, repeats: int) -> tuple[float, float, float, int]:
    """Median and 95th percentile of the time, median processor time (milliseconds), and peak memory (bytes)."""
    torch.set_num_threads(threads)
    loaded = load_model(model, "cpu", threads)
    sizes = np.array([images.shape[1:3]], dtype=np.int64)
    wall, cpu = [], []
    for k in range(repeats + 3):
        image = images[k % len(images)][None]
        start, spent = time.perf_counter(), time.process_time()
        loaded.run(image, sizes)
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - spent))
    late = float(np.percentile(wall[3:], 95))
    return statistics.median(wall[3:]), late, statistics.median(cpu[3:]), _peak()


def _peak() -> int:
    """Largest resident memory of this process in bytes, its parent's not counted where the system tells them apart."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [json.loads(json.dumps(asdict(row))) for row in rows]
