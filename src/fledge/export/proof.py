"""The proof of an exported file: it finds the boxes of the detector it was made from, or loses little precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.engine.progress import progress
from fledge.errors import NumericError
from fledge.evaluation.average_precision import evaluate
from fledge.evaluation.protocols import Protocol
from fledge.export.parity import Agreement
from fledge.export.record import Record
from fledge.inference.model import WindowModel, stack
from fledge.inference.predictor import Predictor, default_scale, resized
from fledge.inference.windows import windows

Image = NDArray[np.uint8]

_ODD = (0.83, 0.71)  # of height and width: other sizes, which are no multiples of 32
FIGURES = ("AP50", "AP50:95")


def window_of(model: WindowModel, image: Image, size: tuple[int, int] | None, padding: Sequence[int]) -> Image:
    """The middle window (h, w, C) of an image (H, W, C) as a model is shown it; of the whole ``size`` if one is given,
    with the padding colour where the image does not reach."""
    scaled = resized(image, default_scale(model, *image.shape[:2]))
    cut = windows(scaled.shape[0], scaled.shape[1], model.image_size, model.overlap)
    middle = cut[len(cut) // 2]
    pixels = scaled[middle.y : middle.y + middle.height, middle.x : middle.x + middle.width]
    if size is None:
        return pixels
    canvas = np.empty((*size, image.shape[2]), np.uint8)
    canvas[:] = padding
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


def same_boxes(
    model: WindowModel, other: WindowModel, record: Record, named: Sequence[tuple[str, Image]], batches: Sequence[int]
) -> Agreement:
    """Compare what two models find in windows: as they are and, for a file for any size, at a second, odd size.

    Args:
        model, other: the reference, and what it is compared with.
        record: of the file.
        named: names and windows (h, w, C).
        batches: numbers of images at once, as far as they have one size.

    Raises:
        NumericError: boxes differ; the message says which.
    """
    agreement = Agreement()
    shapes = [(1.0, 1.0)] if record.size else [(1.0, 1.0), _ODD]
    trials = [(shape, batch) for shape in shapes for batch in batches]
    with progress("compare", len(trials) * len(named)) as advance:
        for done, (shape, batch) in enumerate(trials):
            cut = [(f"{name} ({w.shape[1]}x{w.shape[0]} px, batch {batch})", w) for name, w in _cut(named, shape)]
            seen = done * len(named)
            for names, pixels in _alike(cut, batch):
                stacked = stack(pixels, record.pixels.channels)
                pairs = zip(names, model.run(*stacked), other.run(*stacked), strict=True)
                for name, expected, found in pairs:
                    agreement.add(name, expected, found, record.score_threshold, record.nms_iou)
                seen += len(names)
                advance(seen, "")
    if agreement.differences:
        raise NumericError(
            f"export differs from PyTorch: {agreement.first()}: {agreement}: nothing was written; report it with these "
            "lines, or try another runtime"
        )
    return agreement


def _alike(named: Sequence[tuple[str, Image]], count: int) -> Iterator[tuple[list[str], list[Image]]]:
    """Names and windows of one shape, at most ``count`` together, as the predictor groups them: padded to the largest,
    a smaller one would show the reference another border than the file, which is given true pixels only."""
    for shape in dict.fromkeys(window.shape for _, window in named):
        rows = [(name, window) for name, window in named if window.shape == shape]
        for start in range(0, len(rows), count):
            names, windows = zip(*rows[start : start + count], strict=True)
            yield list(names), list(windows)


def _cut(named: Sequence[tuple[str, Image]], shape: tuple[float, float]) -> Iterator[tuple[str, Image]]:
    for name, window in named:
        height, width = (max(1, round(part * side)) for part, side in zip(shape, window.shape[:2], strict=True))
        yield name, window[:height, :width]


def precision_of(model: WindowModel, dataset: DetectionDataset, title: str, rules: Protocol) -> dict[str, float]:
    """AP50 and AP50:95 (0…1) of a model on a labelled split, by the rules of a protocol that has both."""
    predictor = Predictor(model)
    with progress(title, len(dataset)) as advance:
        found = predictor.detect_many(dataset.paths, 0.0, advance=lambda n: advance(n, ""))
    truth = [dataset.targets(i) for i in range(len(dataset))]
    summary = evaluate(found, truth, model.classes, rules).summary()
    return {name: summary[name] for name in FIGURES}


def same_precision(
    model: WindowModel, other: WindowModel, dataset: DetectionDataset, max_drop: float, what: str, rules: Protocol
) -> tuple[dict[str, float], dict[str, float]]:
    """AP of two models on a labelled split.

    Raises:
        NumericError: the second loses more than ``max_drop``, or nothing can be measured.
    """
    before, after = (precision_of(m, dataset, name, rules) for m, name in ((model, "fp32"), (other, what)))
    for name in FIGURES:
        if not before[name] - after[name] <= max_drop:  # a NaN fails, too
            raise NumericError(
                f"{what} loses too much: {name} falls from {100 * before[name]:.1f} to {100 * after[name]:.1f} on "
                f"{len(dataset)} images of {dataset.root}: nothing was written; allow more with --max-drop, give more "
                "calibration images, or take another precision"
            )
    return before, after
