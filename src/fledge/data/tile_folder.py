"""A dataset of tiles on disk, made from one of large images: pixels as stored, labels, and a manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fledge.data.datasets.dota import IGNORED_AS_2
from fledge.data.labels import DetectionDataset
from fledge.data.samples import ImageForm
from fledge.data.splits import Progress, open_splits, silent
from fledge.data.staging import is_made, staged
from fledge.data.threads import in_order
from fledge.data.tile_images import Cutter
from fledge.data.tiling import Cut, TiledSplit, check_cut, tile_split
from fledge.data.writers import WRITERS, check_names
from fledge.errors import DataError, UsageError
from fledge.files import write_json


class TileReport(NamedTuple):
    """What tiling made.

    Attributes:
        splits: the tiles of each split.
        lost: what the format of the labels could not hold, as counts by description.
        notes: of the readers.
        made: False if the folder was complete before.
    """

    splits: dict[str, TiledSplit]
    lost: dict[str, int]
    notes: tuple[str, ...]
    made: bool


class Writing(NamedTuple):
    """How tiles are written.

    Attributes:
        form: the format of the labels, a key of ``WRITERS``.
        images: the format of the images, as in ``encode_stored``.
        workers: threads that each hold one image in memory; the result does not depend on their number.
    """

    form: str = "dota"
    images: ImageForm = "auto"
    workers: int = 1


AS_STORED = Writing()


def tile_dataset(
    root: Path,
    out: Path,
    cut: Cut,
    splits: Sequence[str] = (),
    writing: Writing = AS_STORED,
    progress: Progress = silent,
    **reading: Any,
) -> TileReport:
    """Cut the images of a dataset into overlapping windows, one image in memory for each worker.

    ``out`` appears when it is complete; until then the work lies in ``out.part`` and goes on there when repeated. Where
    ``out`` is complete already, from the same data and settings, nothing is done. ``out/SPLIT/tiles.json`` has the
    settings, the windows of each image, and the SHA-256 of image files and tiles.

    Args:
        root: a dataset in any format that can be read.
        out: the folder to make.
        cut: size, overlap, scales and which objects count.
        splits: those to cut; by default all.
        writing: formats and number of workers.
        progress: shows how far it is.
        reading: further options of ``open_dataset``.

    Raises:
        UsageError: settings that cannot be, or an ``out`` that holds something else.
        DataError: the dataset cannot be read, the image format cannot hold its pixels, or no tile would be left of a
            split.
        ResourceError: the disk is full.
    """
    check_cut(cut)
    if writing.form not in WRITERS:
        raise UsageError(f"unknown format {writing.form!r}: tiles: choose from {', '.join(WRITERS)}")
    if writing.workers < 1:
        raise UsageError(f"workers is {writing.workers}: tiles: give at least 1")
    datasets = open_splits(root, splits, **reading)
    if WRITERS[writing.form].world and writing.images != "tiff":
        raise UsageError(f"images are {writing.images}: {writing.form} labels lie in the world: choose tiff")
    WRITERS[writing.form].check(datasets)
    plan = {
        "made by": "fledge tile",
        "source": str(root.resolve()),
        "format": writing.form,
        "images": writing.images,
        "cut": cut._asdict(),
        "splits": {dataset.split: fingerprint(dataset) for dataset in datasets},
    }
    tiled = {dataset.split: tile_split(dataset, cut) for dataset in datasets}
    for name, tiles in tiled.items():
        if not len(tiles.index):
            raise DataError(
                f"no tiles: {root}: no object of split {name!r} counts in any: keep empty tiles, or lower iof"
            )
    check_names(writing.form, [tiles.index for tiles in tiled.values()])
    lost = Counter(WRITERS[writing.form].lost_names([tiles.index for tiles in tiled.values()]))
    there = is_made(out, plan)
    if not there:
        with staged(out, plan) as part:
            for dataset in datasets:
                _write_split(dataset, tiled[dataset.split], cut, part, writing, progress)
    for name in tiled:
        lost.update(json.loads((out / name / "tiles.json").read_text(encoding="utf-8"))["lost"])
    notes = tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes))
    return TileReport(tiled, dict(+lost), notes, not there)


def fingerprint(dataset: DetectionDataset) -> str:
    """What determines the tiles of a split, in 32 characters: its images' names, sizes and times of change, its
    classes, and its objects."""
    names = "\n".join([*map(str, dataset.paths), *dataset.classes])
    state = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16)
    objects = (dataset.quads, dataset.labels, dataset.difficult, dataset.ignore, dataset.offsets)
    for part in (dataset.sizes, dataset.stamps, *objects):
        state.update(np.ascontiguousarray(part).data)
    return state.hexdigest()


def _write_split(
    dataset: DetectionDataset, tiled: TiledSplit, cut: Cut, root: Path, writing: Writing, progress: Progress
) -> None:
    """Images, labels, and last the manifest."""
    writer = WRITERS[writing.form]
    images = root / writer.image_folder(dataset.split)
    with progress(f"tile {dataset.split}", len(dataset)) as advance:
        cutter = Cutter(dataset, tiled, writer.image_names(tiled.index), images, writing.images)
        cuts = []
        for image, done in enumerate(in_order(cutter.cut, len(dataset), writing.workers)):
            cuts.append(done)
            advance(image + 1, dataset.ids[image])
    files = [tile.file for done in cuts for tile in done.tiles]
    lost = writer.write(root, replace(tiled.index, root=root, paths=tuple(images / file for file in files)))
    manifest = {
        "made by": "fledge tile",
        **cut._asdict(),
        **(IGNORED_AS_2 if writing.form == "dota" else {}),
        "classes": dataset.classes,
        "source": str(dataset.root.resolve() / dataset.split),
        "lost": {what: count for what, count in lost.items() if count},
        "images": {name: done.record() for name, done in zip(dataset.ids, cuts, strict=True)},
    }
    write_json(root / dataset.split / "tiles.json", manifest)
