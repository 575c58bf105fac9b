"""How the objects of some splits are distributed, as bar charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.visualize.charts import BarSeries, bar_chart
from fledge.visualize.markup import Markup
from fledge.visualize.palette import Tone

TONES: tuple[Tone, ...] = ("student", "distilled", "extra1", "extra2", "teacher", "extra3")

Values = NDArray[np.float64]


def distributions(datasets: Sequence[DetectionDataset]) -> list[tuple[Markup, str]]:
    """Charts of size, aspect, angle and number of objects, one series a split, with their captions."""
    powers = [2.0**k for k in range(2, 11)]
    sizes = ["< 4", *(f"{int(a)}–{int(2 * a)}" for a in powers[:-1]), "≥ 1024"]
    ratios = [1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0]
    aspects = ["< 1.1", *(f"{a:g}–{b:g}" for a, b in pairwise(ratios)), "≥ 8"]
    turns = [float(k) for k in range(-75, 90, 15)]
    angles = [f"{k}° to {k + 15}°".replace("-", "−") for k in range(-90, 90, 15)]
    counts = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
    crowds = ["0", "1", "2–4", "5–9", "10–19", "20–49", "50–99", "100–199", "200–499", "≥ 500"]
    return [
        (_histogram(datasets, _size, powers, sizes, "Size of objects", "pixels"), "Square root of the area, pixels."),
        (
            _histogram(datasets, _aspect, ratios, aspects, "Long side by short side", ""),
            "Below 1.1 the angle says little.",
        ),
        (
            _histogram(datasets, _angle, turns, angles, "Angle of the long side", "degrees"),
            "Objects at least 1.1 times as long as wide; 0° is along the rows, positive angles turn clockwise.",
        ),
        (_histogram(datasets, _crowd, counts, crowds, "Objects in an image", ""), "Share of the images."),
    ]


def _histogram(
    datasets: Sequence[DetectionDataset],
    values_of: Callable[[DetectionDataset], Values],
    edges: Sequence[float],
    names: Sequence[str],
    title: str,
    unit: str,
) -> Markup:
    """The percentage of each split's values in every bin; bins without any at the ends are left out."""
    shares = []
    for dataset in datasets:
        values = values_of(dataset)
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(names))
        shares.append(100 * counts / max(1, len(values)))
    used = np.flatnonzero(np.sum(shares, axis=0))
    shown = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    series = [
        BarSeries(dataset.split, share[shown].tolist(), TONES[k % len(TONES)])
        for k, (dataset, share) in enumerate(zip(datasets, shares, strict=True))
    ]
    return bar_chart(names[shown], series, "%", f"{title}{f', {unit}' if unit else ''}")


def _size(dataset: DetectionDataset) -> Values:
    boxes = dataset.boxes[~dataset.ignore].astype(np.float64)
    return np.asarray(np.sqrt(boxes[:, 2] * boxes[:, 3]))


def _aspect(dataset: DetectionDataset) -> Values:
    boxes = dataset.boxes[~dataset.ignore].astype(np.float64)
    return boxes[:, 2] / boxes[:, 3]


def _angle(dataset: DetectionDataset) -> Values:
    boxes = dataset.boxes[~dataset.ignore].astype(np.float64)
    return np.asarray(np.rad2deg(boxes[boxes[:, 2] >= 1.1 * boxes[:, 3], 4]))


def _crowd(dataset: DetectionDataset) -> Values:
    owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    return np.bincount(owner[~dataset.ignore], minlength=len(dataset)).astype(np.float64)
