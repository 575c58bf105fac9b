"""Overlapping windows over an image, and which window answers for which place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

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
    return list(WindowGrid(height, width, size, overlap))


class WindowGrid(Sequence[Window]):
    """The windows of ``windows``, numbered row by row and made when asked for: a large scene has many.

    Args:
        height, width, size, overlap: as of ``windows``.
    """

    def __init__(self, height: int, width: int, size: int, overlap: int) -> None:
        self._columns, self._rows = _spans(width, size, overlap), _spans(height, size, overlap)
        self.columns = len(self._columns)

    def __len__(self) -> int:
        return self.columns * len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        (y, h, y1, y2), (x, w, x1, x2) = self._rows[index // self.columns], self._columns[index % self.columns]
        return Window(x, y, w, h, (x1, y1, x2, y2))

    def origins(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Column and row of the first pixel (N, 2) of windows (N,)."""
        x, y = (np.array([start for start, *_ in spans], np.int32) for spans in (self._columns, self._rows))
        return np.stack([x[numbers % self.columns], y[numbers // self.columns]], axis=1)

    def groups(self, size: int) -> Iterator[range]:
        """Numbers of neighbouring windows, at most ``size`` at a time, none beyond the end of a row of windows."""
        for start in range(0, len(self), self.columns):
            for first in range(start, start + self.columns, size):
                yield range(first, min(first + size, start + self.columns))


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int, float, float]]:
    """Start, extent and owned interval of the windows along one axis; the outermost intervals are unbounded."""
    if length <= size:
        return [(0, length, float("-inf"), float("inf"))]
    starts = window_starts(length, size, overlap)
    borders = [(a + size + b) / 2 for a, b in pairwise(starts)]
    lows, highs = [float("-inf"), *borders], [*borders, float("inf")]
    return [(s, size, low, high) for s, low, high in zip(starts, lows, highs, strict=True)]
