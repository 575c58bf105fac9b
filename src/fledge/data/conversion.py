"""A dataset written down in another format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fledge.data.datasets.dota import IGNORED_AS_2
from fledge.data.labels import DetectionDataset, Summary
from fledge.data.splits import Progress, open_splits, silent
from fledge.data.staging import copy_file, is_made, staged
from fledge.data.tile_folder import fingerprint
from fledge.data.writers import WRITERS, check_names
from fledge.errors import UsageError
from fledge.files import write_json


class ConversionReport(NamedTuple):
    """What conversion wrote.

    Attributes:
        splits: counts of each split.
        lost: what the format could not hold, as counts by description.
        notes: of the readers.
        made: False if the folder was complete before.
    """

    splits: dict[str, Summary]
    lost: dict[str, int]
    notes: tuple[str, ...]
    made: bool


def convert_dataset(
    root: Path,
    out: Path,
    to: str,
    splits: Sequence[str] = (),
    images: Literal["copy", "link"] = "copy",
    progress: Progress = silent,
    **reading: Any,
) -> ConversionReport:
    """Write a dataset down in another format; the image files stay byte for byte what they are.

    ``out`` appears when it is complete; until then the work lies in ``out.part`` and goes on there when repeated. Where
    ``out`` is complete already, from the same data and settings, nothing is done.
    ``out/SPLIT/converted.json`` says where a split came from and what was lost.

    Args:
        root: a dataset in any format that can be read.
        out: the folder to make.
        to: the format to write, a key of ``WRITERS``.
        splits: those to convert; by default all.
        images: copy the image files, or link to them.
        progress: shows how far it is.
        reading: further options of ``open_dataset``.

    Raises:
        UsageError: an unknown format, or an ``out`` that exists.
        DataError: the dataset cannot be read.
        ResourceError: the disk is full.
    """
    if to not in WRITERS:
        raise UsageError(f"unknown format {to!r}: conversion: choose from {', '.join(WRITERS)}")
    datasets = open_splits(root, splits, **reading)
    plan = {
        "made by": "fledge convert",
        "source": str(root.resolve()),
        "format": to,
        "images": images,
        "splits": {dataset.split: fingerprint(dataset) for dataset in datasets},
    }
    WRITERS[to].check(datasets)
    check_names(to, datasets)
    lost = Counter(WRITERS[to].lost_names(datasets))
    there = is_made(out, plan)
    if not there:
        with staged(out, plan) as part:
            for dataset in datasets:
                _convert(dataset, part, to, images == "link", progress)
    for dataset in datasets:
        record = json.loads((out / dataset.split / "converted.json").read_text(encoding="utf-8"))
        lost.update(record["lost"])
    notes = tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes))
    return ConversionReport({dataset.split: dataset.summary() for dataset in datasets}, dict(+lost), notes, not there)


def _convert(dataset: DetectionDataset, root: Path, form: str, link: bool, progress: Progress) -> None:
    folder = root / WRITERS[form].image_folder(dataset.split)
    # Not every image is called like its file: parts of FAIR1M use the same file names.
    stems = WRITERS[form].image_names(dataset)
    names = [f"{stem}{path.suffix}" for stem, path in zip(stems, dataset.paths, strict=True)]
    with progress(f"convert {dataset.split}", len(dataset)) as advance:
        for i, (path, name) in enumerate(zip(dataset.paths, names, strict=True)):
            copy_file(path, folder / name, link)
            advance(i + 1, dataset.ids[i])
    written = replace(dataset, root=root, paths=tuple(folder / name for name in names))
    lost = {what: count for what, count in WRITERS[form].write(root, written).items() if count}
    record = {
        "made by": "fledge convert",
        **(IGNORED_AS_2 if form == "dota" else {}),
        "classes": dataset.classes,
        "source": str(dataset.root.resolve()),
        "source format": dataset.format,
        "lost": lost,
    }
    write_json(root / dataset.split / "converted.json", record)
