"""Large labelled images cut into overlapping windows, with the labels of each window.

An object with enough of its area inside a window is kept there whole, corners beyond the window included; an object
with less is marked as ignored, so that a sliver is never taught as an object nor as background. As the DOTA devkit does
with its ``ImgSplit``, except that it drops those or calls them difficult. Images may be cut at several scales; the
devkit calls these rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset, minimum_boxes, offsets_of
from fledge.data.windows import window_starts
from fledge.errors import UsageError
from fledge.geometry.iou import rotated_iou

# Less than this of an object inside a window, in pixels along either axis, would vanish when labels are rounded.
GRAZE = 0.02
HIGHEST_RATE = 8.0


class Cut(NamedTuple):
    """How to cut.

    Attributes:
        size: side of the square windows, pixels.
        overlap: least overlap of neighbouring windows, pixels.
        iof: the share of an object's area (of its rectangle) from which it counts as inside.
        keep_empty: keep windows without an object that counts.
        rates: factors by which the images are scaled before they are cut, each giving tiles of its own; size and
            overlap are pixels of the scaled image.
    """

    size: int
    overlap: int
    iof: float = 0.7
    keep_empty: bool = True
    rates: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, eq=False)
class TiledSplit:
    """The tiles of one split, still to be cut.

    Attributes:
        index: one entry a tile, in tile pixels; ``paths`` are bare names without a suffix. An ignored object that was
            cut keeps its label.
        source: (t,) int64, the image of the split that each tile comes from; ascending.
        origin: (t, 2) int64 x and y of each tile's corner in it, pixels of the scaled image.
        rate: (t,) float64, the factor by which that image is scaled; see ``scaled_size``.
        kept: objects of the tiles that count (one that lies in two windows counts twice).
        cut: objects of the tiles that became ignored because less than ``iof`` of them is inside.
        uncovered: objects of the split that count in no tile: too large for the overlap, or beyond the image's edge.
        empty: tiles without an object that counts, also those left out.
        left_out: tiles left out because they are empty.
    """

    index: DetectionDataset
    source: NDArray[np.int64]
    origin: NDArray[np.int64]
    rate: NDArray[np.float64]
    kept: int
    cut: int
    uncovered: int
    empty: int
    left_out: int


class _Grid(NamedTuple):
    """All windows of a split.

    Attributes:
        source: (t,) the image.
        rate: (t,).
        scale: (t, 2) the factors along x and y that rounding the scaled image to whole pixels makes of the rate.
        origin: (t, 2) x and y, pixels of the scaled image.
        extent: (t, 2) width and height, likewise.
    """

    source: NDArray[np.int64]
    rate: NDArray[np.float64]
    scale: NDArray[np.float64]
    origin: NDArray[np.int64]
    extent: NDArray[np.int64]


def tile_split(dataset: DetectionDataset, cut: Cut) -> TiledSplit:
    """The tiles of a split and their labels; reads no pixels.

    Tiles are named ``<stem>__<rate>__<x>___<y>``, as by the DOTA devkit; x and y are pixels of the scaled image.

    Raises:
        UsageError: a size below 32, an overlap that is negative or not smaller than it, an iof not in (0, 1], or rates
            that are none, the same, not positive or above 8.
    """
    check_cut(cut)
    grid = _grid(dataset.sizes, cut)
    tile, row = _touching(dataset, grid)
    share = _inside(dataset, row, grid, tile)
    sliver = share < cut.iof - 1e-9
    ignore = dataset.ignore[row] | sliver

    counts = np.bincount(tile[~ignore], minlength=len(grid.source))
    empty = counts == 0
    chosen = np.ones(len(empty), dtype=np.bool_) if cut.keep_empty else ~empty
    held = chosen[tile]
    covered = np.zeros(len(dataset.labels), dtype=np.bool_)
    covered[row[~ignore]] = True
    return TiledSplit(
        index=_index(dataset, grid, chosen, (tile[held], row[held], ignore[held])),
        source=grid.source[chosen],
        origin=grid.origin[chosen],
        rate=grid.rate[chosen],
        kept=int((~ignore[held]).sum()),
        cut=int((sliver & ~dataset.ignore[row])[held].sum()),
        uncovered=int((~covered & ~dataset.ignore).sum()),
        empty=int(empty.sum()),
        left_out=int((~chosen).sum()),
    )


def check_cut(cut: Cut) -> None:
    """Refuse settings that cannot be (UsageError)."""
    if cut.size < 32:
        raise UsageError(f"size is {cut.size}: tiles: give at least 32 pixels")
    if not 0 <= cut.overlap < cut.size:
        raise UsageError(f"overlap is {cut.overlap}: tiles of {cut.size} pixels: give 0 to {cut.size - 1}")
    if not 0 < cut.iof <= 1:
        raise UsageError(f"iof is {cut.iof}: tiles: give a share above 0 and up to 1")
    if not cut.rates or len(set(cut.rates)) < len(cut.rates):
        raise UsageError(f"rates are {cut.rates}: tiles: give each rate once, such as 0.5 and 1")
    for rate in cut.rates:
        if not (math.isfinite(rate) and 0 < rate <= HIGHEST_RATE):
            raise UsageError(f"rate is {rate}: tiles: give a factor above 0 and up to {HIGHEST_RATE:g}")


def scaled_size(height: int, width: int, rate: float) -> tuple[int, int]:
    """Height and width of an image scaled by a rate, in whole pixels."""
    return max(1, round(height * rate)), max(1, round(width * rate))


def _grid(sizes: NDArray[np.int32], cut: Cut) -> _Grid:
    windows, counts, frames = [], [], []
    for (height, width), rate in product(sizes.tolist(), cut.rates):
        scaled = scaled_size(height, width, rate)
        rows, columns = (window_starts(side, cut.size, cut.overlap) for side in scaled)
        windows += [(x, y) for y, x in product(rows, columns)]
        counts.append(len(rows) * len(columns))
        extent = min(cut.size, scaled[1]), min(cut.size, scaled[0])
        frames.append((rate, scaled[1] / width, scaled[0] / height, *extent))
    frame = np.repeat(np.array(frames, dtype=np.float64).reshape(-1, 5), counts, axis=0)
    return _Grid(
        source=np.repeat(np.arange(len(counts)) // len(cut.rates), counts),
        rate=frame[:, 0],
        scale=frame[:, 1:3],
        origin=np.array(windows, dtype=np.int64).reshape(-1, 2),
        extent=frame[:, 3:].astype(np.int64),
    )


def _touching(dataset: DetectionDataset, grid: _Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of tile and object row (p,) whose hulls overlap by more than ``GRAZE``, sorted by tile, then by row."""
    low, high = dataset.quads.min(axis=1), dataset.quads.max(axis=1)
    tiles, rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    first = np.searchsorted(grid.source, np.arange(len(dataset) + 1))
    for image in range(len(dataset)):
        mine = np.arange(dataset.offsets[image], dataset.offsets[image + 1])
        windows = np.arange(first[image], first[image + 1])
        if not len(mine):
            continue
        scale = grid.scale[windows]
        start, stop = grid.origin[windows] / scale, (grid.origin[windows] + grid.extent[windows]) / scale
        graze = GRAZE / scale[:, None]
        for part in np.array_split(mine, len(mine) * len(windows) // 4_000_000 + 1):
            meets = (low[part] < stop[:, None] - graze) & (high[part] > start[:, None] + graze)
            tile, row = np.nonzero(meets.all(axis=2))
            tiles.append(windows[tile])
            rows.append(part[row])
    tile, row = np.concatenate(tiles), np.concatenate(rows)
    order = np.lexsort((row, tile))
    return tile[order], row[order]


def _inside(
    dataset: DetectionDataset, row: NDArray[np.int64], grid: _Grid, tile: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The share (p,) of the area of objects ``row`` (p,) inside the windows ``tile`` (p,)."""
    origin, extent = grid.origin[tile] / grid.scale[tile], grid.extent[tile] / grid.scale[tile]
    quads = dataset.quads[row]
    whole = np.asarray(((quads >= origin[:, None]) & (quads <= (origin + extent)[:, None])).all(axis=(1, 2)))
    share = np.asarray(whole, dtype=np.float64)
    part = np.flatnonzero(~whole)
    frames = np.concatenate([origin[part] + extent[part] / 2, extent[part], np.zeros((len(part), 1))], axis=1)
    boxes = torch.from_numpy(dataset.boxes[row[part]]).double()
    share[part] = rotated_iou(boxes, torch.from_numpy(frames), aligned=True, mode="iof").numpy()
    return share


def _index(
    dataset: DetectionDataset,
    grid: _Grid,
    chosen: NDArray[np.bool_],
    held: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]],
) -> DetectionDataset:
    """The chosen tiles as a dataset; ``held`` is tile, object row and ignore of each of their objects."""
    tile, row, ignore = held
    move, scale = grid.origin[tile], grid.scale[tile]
    boxes = dataset.boxes[row].astype(np.float64)
    boxes[:, :2] -= move
    quads = dataset.quads[row] * scale[:, None] - move[:, None]
    scaled = (scale != 1).any(axis=1)
    boxes[scaled] = minimum_boxes(quads[scaled])
    columns = (grid.source[chosen], grid.rate[chosen], grid.origin[chosen])
    ids = tuple(
        f"{dataset.ids[image]}__{rate}__{x}___{y}"
        for image, rate, (x, y) in zip(*(column.tolist() for column in columns), strict=True)
    )
    counts = np.bincount(tile, minlength=len(chosen))[chosen]
    return replace(
        dataset,
        paths=tuple(Path(name) for name in ids),
        ids=ids,
        sizes=grid.extent[chosen, ::-1].astype(np.int32),
        quads=quads.astype(np.float32),
        boxes=boxes.astype(np.float32),
        labels=dataset.labels[row],
        difficult=dataset.difficult[row],
        ignore=ignore,
        offsets=offsets_of(counts),
        stamps=dataset.stamps[grid.source[chosen]],
    )
