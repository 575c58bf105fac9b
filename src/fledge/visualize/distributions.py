"""How the objects of some splits are distributed, as bar charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fledge.data.measures import Histogram
from fledge.visualize.charts import BarSeries, bar_chart
from fledge.visualize.markup import Markup
from fledge.visualize.palette import Tone

TONES: tuple[Tone, ...] = ("student", "distilled", "extra1", "extra2", "teacher", "extra3")
_CAPTIONS = (
    "Square root of the area, pixels.",
    "Below 1.1 the angle says little.",
    "Objects at least 1.1 times as long as wide; 0° is along the rows, positive angles turn clockwise.",
    "Share of the images.",
)


def distributions(splits: Mapping[str, Sequence[Histogram]]) -> list[tuple[Markup, str]]:
    """Charts of size, aspect, angle and number of objects from the ``histograms`` of each split, and their captions."""
    names = list(splits)
    return [
        (_chart(names, series), caption)
        for series, caption in zip(zip(*splits.values(), strict=True), _CAPTIONS, strict=True)
    ]


def _chart(names: Sequence[str], splits: Sequence[Histogram]) -> Markup:
    """The percentage of each split's values in every bin; bins without any at the ends are left out."""
    shares = [100 * np.array(h.counts) / max(1, sum(h.counts)) for h in splits]
    used = np.flatnonzero(np.sum(shares, axis=0))
    shown = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    series = [
        BarSeries(name, share[shown].tolist(), TONES[k % len(TONES)])
        for k, (name, share) in enumerate(zip(names, shares, strict=True))
    ]
    first = splits[0]
    return bar_chart(first.bins[shown], series, "%", f"{first.name}{f', {first.unit}' if first.unit else ''}")
