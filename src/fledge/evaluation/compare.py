"""Whether one detector is better than another: a paired bootstrap over images.

Images are drawn with replacement, the same ones for both, and the average precisions computed again (B. Efron and R.
Tibshirani, "An Introduction to the Bootstrap", 1993). An image drawn twice counts twice: since detections are matched
within an image, its matches are those it has anyway, so that only the ranking has to be summed again with weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.errors import UsageError
from fledge.evaluation.average_precision import Metrics, summarize
from fledge.evaluation.case import Case
from fledge.evaluation.curves import average_precision
from fledge.evaluation.matching import Matches, match
from fledge.evaluation.protocols import Protocol

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWS = 1000


@dataclass(frozen=True)
class Comparison:
    """The difference of a figure between two results on the same images: the first minus the second, in 0…1.

    Attributes:
        figure: its name, such as ``AP50``.
        first, second: the figure of each on all images.
        mean: of the difference over the draws.
        low, high: of its 95 % interval (percentiles).
        p: share of the draws, on the smaller side of zero, times two; at least 2 / (draws + 1).
        draws: how many.
        seed: of the draws.
        images: how many there are to draw from.
    """

    figure: str
    first: float
    second: float
    mean: float
    low: float
    high: float
    p: float
    draws: int
    seed: int
    images: int

    @property
    def difference(self) -> float:
        """On all images."""
        return self.first - self.second

    def record(self) -> dict[str, Any]:
        """Plain values."""
        values = {"difference": self.difference, **vars(self)}
        return {
            k: (round(v, 6) if math.isfinite(v) else None) if isinstance(v, float) else v for k, v in values.items()
        }


def compare(
    first: Case,
    second: Case,
    protocol: Protocol,
    figure: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    advance: Callable[[int, str], None] = lambda *_: None,
) -> Comparison:
    """A paired bootstrap of the difference between two results.

    Args:
        first: one result.
        second: another, of the same images and labels.
        protocol: the rules for both.
        figure: ``AP50``, ``AP75`` or ``AP50:95``; by default the first that the protocol has.
        draws: how often images are drawn.
        seed: of the draws: the same gives the same result.
        advance: called with the number of draws done.

    Raises:
        UsageError: the two are of different images, or the protocol has no such figure.
    """
    if first.images != second.images or len(first.objects) != len(second.objects):
        raise UsageError("cannot compare: two results of different images: give two for the same ground truth")
    rankings = [_Ranking(case, protocol, figure) for case in (first, second)]
    random = np.random.default_rng(seed)
    count = len(first.images)
    differences = np.empty(draws)
    for k in range(draws):
        weights = np.bincount(random.integers(count, size=count), minlength=count) if count else np.zeros(0)
        differences[k] = rankings[0].figure(weights) - rankings[1].figure(weights)
        if k % 50 == 49:
            advance(k + 1, "")
    known = differences[np.isfinite(differences)]  # a draw can miss every object
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (math.nan, math.nan)
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    one = np.ones(count)
    return Comparison(
        rankings[0].name,
        rankings[0].figure(one),
        rankings[1].figure(one),
        float(known.mean()) if len(known) else math.nan,
        float(low),
        float(high),
        min(1.0, 2 * (tail + 1) / (len(known) + 1)),
        draws,
        seed,
        count,
    )


class _Ranking:
    """The matches of one result, ready to be summed with a weight for each image."""

    def __init__(self, case: Case, protocol: Protocol, figure: str | None) -> None:
        matches = match(case, protocol)
        metrics = summarize(case, protocol, matches)
        self.name, rows = _thresholds(metrics, figure)
        self._interpolation = protocol.interpolation
        objects = case.objects
        counted = ~objects.ignore & ~(objects.difficult & protocol.honours_difficult)
        self._objects = np.zeros((len(case.classes), len(case.images)))
        np.add.at(self._objects, (objects.label[counted], objects.image[counted]), 1)
        self._classes = [_by_class(case, matches, k, rows) for k in range(len(case.classes))]

    def figure(self, weights: NDArray[Any]) -> float:
        """The mean over classes and thresholds with a weight (n,) for each image; NaN without an object."""
        total = self._objects @ weights
        values = [
            average_precision(*_curve(images, hit, weights, total[k]), self._interpolation)
            for k, rows in enumerate(self._classes)
            if total[k]
            for images, hit in rows
        ]
        return float(np.mean(values)) if values else math.nan


def _thresholds(metrics: Metrics, figure: str | None) -> tuple[str, list[int]]:
    """The name of a figure and the rows of the thresholds that it is the mean of."""
    names = metrics.protocol.thresholds
    figures = list(metrics.figures()) or ["AP"]
    name = figure or figures[0]
    if name not in figures:
        raise UsageError(f"no figure {name}: protocol {metrics.protocol.name}: it has {', '.join(figures)}")
    single = {"AP50": 0.5, "AP75": 0.75}
    return name, [names.index(single[name])] if name in single else list(range(len(names)))


def _by_class(case: Case, matches: Matches, label: int, rows: list[int]) -> list[tuple[Ints, NDArray[np.bool_]]]:
    """For each threshold the images (N,) of a class's detections that count, best score first, and which are right."""
    mine = matches.order[case.found.label[matches.order] == label]
    parts = []
    for row in rows:
        counted = mine[matches.outcome[row, mine] >= 0]
        parts.append((case.found.image[counted], matches.outcome[row, counted] == 1))
    return parts


def _curve(images: Ints, hit: NDArray[np.bool_], weights: NDArray[Any], total: float) -> tuple[Floats, Floats]:
    """Recall and precision after each right detection that was drawn."""
    weight = weights[images]
    places = np.flatnonzero(hit & (weight > 0))
    true = np.cumsum(weight[places])
    return true / total, true / np.cumsum(weight)[places]
