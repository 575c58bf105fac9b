"""A dataset of tiles on disk, made from one of large images: pixels as stored, labels, and a manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fledge.data.datasets.dota import IGNORED_AS_2
from fledge.data.labels import DetectionDataset
from fledge.data.samples import Stored, encode_stored, read_stored
from fledge.data.splits import Advance, Progress, open_splits, silent
from fledge.data.staging import place, placed, staged
from fledge.data.tiling import Cut, TiledSplit, check_cut, tile_split
from fledge.data.writers import WRITERS
from fledge.errors import DataError, UsageError
from fledge.files import write_json


class TileReport(NamedTuple):
    """What tiling made.

    Attributes:
        splits: the tiles of each split.
        lost: what the format of the labels could not hold, as counts by description.
        notes: of the readers.
    """

    splits: dict[str, TiledSplit]
    lost: dict[str, int]
    notes: tuple[str, ...]


def tile_dataset(
    root: Path,
    out: Path,
    cut: Cut,
    splits: Sequence[str] = (),
    form: str = "dota",
    progress: Progress = silent,
    **reading: Any,
) -> TileReport:
    """Cut the images of a dataset into overlapping windows, one image in memory at a time.

    ``out`` appears when it is complete; until then the work lies in ``out.part`` and goes on there when repeated.
    ``out/SPLIT/tiles.json`` has the settings, and the windows of each image.

    Args:
        root: a dataset in any format that can be read.
        out: the folder to make.
        cut: size, overlap and which objects count.
        splits: those to cut; by default all.
        form: the format of the labels, a key of ``WRITERS``.
        progress: shows how far it is.
        reading: further options of ``open_dataset``.

    Raises:
        UsageError: settings that cannot be, or an ``out`` that holds something else.
        DataError: the dataset cannot be read, or no tile would be left of a split.
        ResourceError: the disk is full.
    """
    check_cut(cut)
    if form not in WRITERS:
        raise UsageError(f"unknown format {form!r}: tiles: choose from {', '.join(WRITERS)}")
    datasets = open_splits(root, splits, **reading)
    plan = {
        "made by": "fledge tile",
        "source": str(root.resolve()),
        "format": form,
        "cut": cut._asdict(),
        "splits": {dataset.split: fingerprint(dataset) for dataset in datasets},
    }
    tiled = {dataset.split: tile_split(dataset, cut) for dataset in datasets}
    for name, tiles in tiled.items():
        if not len(tiles.index):
            raise DataError(
                f"no tiles: {root}: no object of split {name!r} counts in any: keep empty tiles, or lower iof"
            )
    lost = Counter(WRITERS[form].lost_names([tiles.index for tiles in tiled.values()]))
    with staged(out, plan) as part:
        for dataset in datasets:
            lost.update(_write_split(dataset, tiled[dataset.split], cut, part, form, progress))
    notes = tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes))
    return TileReport(tiled, dict(+lost), notes)


def fingerprint(dataset: DetectionDataset) -> str:
    """What determines the tiles of a split, in 32 characters: its images' names and sizes, and its objects."""
    state = hashlib.blake2b("\n".join(map(str, dataset.paths)).encode("utf-8", "surrogateescape"), digest_size=16)
    for part in (dataset.sizes, dataset.quads, dataset.labels, dataset.difficult, dataset.ignore, dataset.offsets):
        state.update(np.ascontiguousarray(part).data)
    return state.hexdigest()


def _write_split(
    dataset: DetectionDataset, tiled: TiledSplit, cut: Cut, root: Path, form: str, progress: Progress
) -> dict[str, int]:
    """Images, labels, and last the manifest; returns what the labels could not hold."""
    images = root / WRITERS[form].image_folder(dataset.split)
    with progress(f"tile {dataset.split}", len(dataset)) as advance:
        files = _cut_images(dataset, tiled, images, advance)
    lost = WRITERS[form].write(root, replace(tiled.index, root=root, paths=tuple(images / file for file in files)))
    write_json(root / dataset.split / "tiles.json", _manifest(dataset, tiled, cut, form, files))
    return lost


def _manifest(
    dataset: DetectionDataset, tiled: TiledSplit, cut: Cut, form: str, files: Sequence[str]
) -> dict[str, Any]:
    """How the tiles of one split were made, as JSON."""
    windows: dict[str, dict[str, list[int]]] = {path.name: {} for path in dataset.paths}
    for image, origin, file in zip(tiled.source.tolist(), tiled.origin.tolist(), files, strict=True):
        windows[dataset.paths[image].name][file] = origin
    return {
        "made by": "fledge tile",
        **cut._asdict(),
        **(IGNORED_AS_2 if form == "dota" else {}),
        "classes": dataset.classes,
        "source": str(dataset.root.resolve() / dataset.split),
        "images": windows,
    }


def _cut_images(dataset: DetectionDataset, tiled: TiledSplit, folder: Path, advance: Advance) -> list[str]:
    """Write the tiles that are not there yet; returns the file name of each tile."""
    there = {path.stem: path.name for path in folder.iterdir() if placed(path)} if folder.is_dir() else {}
    files = []
    bounds = np.searchsorted(tiled.source, np.arange(len(dataset) + 1)).tolist()
    for image in range(len(dataset)):
        tiles = range(bounds[image], bounds[image + 1])
        missing = [tile for tile in tiles if tiled.index.ids[tile] not in there]
        if missing:
            stored = _read(dataset, image)
            for tile in missing:
                (x, y), (height, width) = tiled.origin[tile].tolist(), tiled.index.sizes[tile].tolist()
                data, suffix = encode_stored(stored._replace(samples=stored.samples[y : y + height, x : x + width]))
                name = tiled.index.ids[tile]
                there[name] = f"{name}{suffix}"
                place(folder / there[name], data)
        files += [there[tiled.index.ids[tile]] for tile in tiles]
        advance(image + 1, dataset.ids[image])
    return files


def _read(dataset: DetectionDataset, image: int) -> Stored:
    stored = read_stored(dataset.paths[image])
    height, width = dataset.sizes[image].tolist()
    if stored.samples.shape[:2] != (height, width):
        raise DataError(
            f"image changed: {dataset.paths[image]}: it was {width}x{height} pixels when its labels were read: do not "
            "change a dataset while it is in use"
        )
    return stored
