"""Large labelled images cut into overlapping windows, with the labels of each window.

An object with enough of its area inside a window is kept there whole, corners beyond the window included; an object
with less is marked as ignored, so that a sliver is never taught as an object nor as background. As the DOTA devkit does
with its ``ImgSplit``, except that it drops those or calls them difficult.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset, offsets_of
from fledge.data.windows import window_starts
from fledge.errors import UsageError
from fledge.geometry.iou import rotated_iou

# Less than this of an object inside a window, in pixels along either axis, would vanish when labels are rounded.
GRAZE = 0.02


class Cut(NamedTuple):
    """How to cut.

    Attributes:
        size: side of the square windows, pixels.
        overlap: least overlap of neighbouring windows, pixels.
        iof: the share of an object's area (of its rectangle) from which it counts as inside.
        keep_empty: keep windows without an object that counts.
    """

    size: int
    overlap: int
    iof: float = 0.7
    keep_empty: bool = True


@dataclass(frozen=True, eq=False)
class TiledSplit:
    """The tiles of one split, still to be cut.

    Attributes:
        index: one entry a tile, in tile pixels; ``paths`` are bare names without a suffix. An ignored object that was
            cut keeps its label.
        source: (t,) int64, the image of the split that each tile comes from; ascending.
        origin: (t, 2) int64 x and y of each tile's corner in it.
        kept: objects of the tiles that count (one that lies in two windows counts twice).
        cut: objects of the tiles that became ignored because less than ``iof`` of them is inside.
        uncovered: objects of the split that count in no tile: too large for the overlap, or beyond the image's edge.
        empty: tiles without an object that counts, also those left out.
        left_out: tiles left out because they are empty.
    """

    index: DetectionDataset
    source: NDArray[np.int64]
    origin: NDArray[np.int64]
    kept: int
    cut: int
    uncovered: int
    empty: int
    left_out: int


class _Grid(NamedTuple):
    """All windows of a split: source (t,), origin (t, 2) as x and y, extent (t, 2) as width and height."""

    source: NDArray[np.int64]
    origin: NDArray[np.int64]
    extent: NDArray[np.int64]


def tile_split(dataset: DetectionDataset, cut: Cut) -> TiledSplit:
    """The tiles of a split and their labels; reads no pixels.

    Tiles are named ``<stem>__1.0__<x>___<y>``, as by the DOTA devkit at its original scale.

    Raises:
        UsageError: a size below 32, an overlap that is negative or not smaller than it, an iof not in (0, 1].
    """
    check_cut(cut)
    grid = _grid(dataset.sizes, cut)
    tile, row = _touching(dataset, grid)
    share = _inside(dataset, row, grid.origin[tile], grid.extent[tile])
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


def _grid(sizes: NDArray[np.int32], cut: Cut) -> _Grid:
    source, origin, extent = [], [], []
    for image, (height, width) in enumerate(sizes.tolist()):
        rows, columns = (window_starts(side, cut.size, cut.overlap) for side in (height, width))
        found = [(x, y) for y, x in product(rows, columns)]
        source += [image] * len(found)
        origin += found
        extent += [(min(cut.size, width), min(cut.size, height))] * len(found)
    pairs = (np.array(part, dtype=np.int64).reshape(-1, 2) for part in (origin, extent))
    return _Grid(np.array(source, dtype=np.int64), *pairs)


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
        start, stop = grid.origin[windows], grid.origin[windows] + grid.extent[windows]
        for part in np.array_split(mine, len(mine) * len(windows) // 4_000_000 + 1):
            meets = (low[part] < stop[:, None] - GRAZE) & (high[part] > start[:, None] + GRAZE)
            tile, row = np.nonzero(meets.all(axis=2))
            tiles.append(windows[tile])
            rows.append(part[row])
    tile, row = np.concatenate(tiles), np.concatenate(rows)
    order = np.lexsort((row, tile))
    return tile[order], row[order]


def _inside(
    dataset: DetectionDataset, row: NDArray[np.int64], origin: NDArray[np.int64], extent: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The share (p,) of the area of objects ``row`` (p,) inside their windows of (p, 2) corner, width and height."""
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
    move = grid.origin[tile]
    boxes = dataset.boxes[row].astype(np.float64)
    boxes[:, :2] -= move
    ids = tuple(
        f"{dataset.ids[image]}__1.0__{x}___{y}"
        for image, (x, y) in zip(grid.source[chosen].tolist(), grid.origin[chosen].tolist(), strict=True)
    )
    counts = np.bincount(tile, minlength=len(chosen))[chosen]
    return replace(
        dataset,
        paths=tuple(Path(name) for name in ids),
        ids=ids,
        sizes=grid.extent[chosen, ::-1].astype(np.int32),
        quads=(dataset.quads[row].astype(np.float64) - move[:, None]).astype(np.float32),
        boxes=boxes.astype(np.float32),
        labels=dataset.labels[row],
        difficult=dataset.difficult[row],
        ignore=ignore,
        offsets=offsets_of(counts),
        stamps=dataset.stamps[grid.source[chosen]],
    )
