"""Overlapping windows over an image, and which window answers for which place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from fledge.data.windows import window_starts


@dataclass(frozen=True)
class Window:
    """One window of an image, in pixels.

    Attributes:
        x, y: left and top edge.
        width, height: extent, never beyond the image.
        owned: (x1, y1, x2, y2), the part whose box centres this window answers for; the owned parts of all windows
            tile the image, each border lying in the middle of an overlap.
    """

    x: int
    y: int
    width: int
    height: int
    owned: tuple[float, float, float, float]


def windows(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Cover an image with square windows, row by row.

    Neighbours overlap by at least ``overlap``; the last window of a row or column is moved back to end at the border,
    so no pixel is left out and no window but that of a smaller image is cut short.
    """
    columns, rows = _spans(width, size, overlap), _spans(height, size, overlap)
    return [Window(x, y, w, h, (x1, y1, x2, y2)) for y, h, y1, y2 in rows for x, w, x1, x2 in columns]


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int, float, float]]:
    """Start, extent and owned interval of the windows along one axis; the outermost intervals are unbounded."""
    if length <= size:
        return [(0, length, float("-inf"), float("inf"))]
    starts = window_starts(length, size, overlap)
    borders = [(a + size + b) / 2 for a, b in pairwise(starts)]
    lows, highs = [float("-inf"), *borders], [*borders, float("inf")]
    return [(s, size, low, high) for s, low, high in zip(starts, lows, highs, strict=True)]
