"""What is in a dataset, and what may be wrong with it: the figures behind ``fledge check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.data.catalogue import KnownDataset
from fledge.data.class_names import alike_between, alike_within, differences
from fledge.data.datasets import FORMATS
from fledge.data.duplicates import Twin, find_twins, take_prints
from fledge.data.labels import DetectionDataset, Summary, without_duplicates
from fledge.data.measures import Histogram, axis_aligned, beyond_edge, fit_iou, histograms
from fledge.data.published import NOTHING, Beside, beside, known_dataset
from fledge.data.splits import WHOLE, Progress, open_splits, silent, split_names
from fledge.errors import DataError

TINY_PX = 4.0
HUGE_SHARE = 0.25
ODD_FIT = 0.5
PERCENTILES = (1, 10, 50, 90, 99)


@dataclass(frozen=True, eq=False)
class SplitHealth:
    """One split.

    Attributes:
        dataset: its index, bad labels left out.
        counts: images and objects.
        identical: objects that repeat one of the same image: the same class and corners.
        tiny: objects whose short side is below 4 pixels.
        huge: objects that cover more than a quarter of their image.
        beyond: objects that reach more than a pixel beyond the edge of their image.
        odd: objects whose corners overlap with their rectangle at an IoU below 0.5.
        aligned: objects whose sides are parallel to the image's, within half a degree.
        sizes: square root of the area, pixels, at ``PERCENTILES`` of the objects (empty without objects).
        lengths: the long side, likewise.
        image_sizes: images by (width, height), the most frequent first.
        histograms: of sizes, aspects, angles and objects in an image.
    """

    dataset: DetectionDataset
    counts: Summary
    identical: int
    tiny: int
    huge: int
    beyond: int
    odd: int
    aligned: int
    sizes: tuple[float, ...]
    lengths: tuple[float, ...]
    image_sizes: dict[tuple[int, int], int]
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True, eq=False)
class Health:
    """A whole dataset.

    Attributes:
        root: its folder.
        splits: those that could be read, by name.
        refused: why training would refuse a split, bad labels aside, by name.
        missing: classes without an object in a split in which others have some, by split.
        twins: images that occur twice, exactly or nearly; those with another dataset name it in ``other_split``.
        unreadable: images that cannot be decoded.
        against: the other dataset, if one was compared.
        only_here, only_there: class names that the other dataset lacks, or has in addition.
        alike: pairs of class names that may be one class spelt twice, here, or here and in the other dataset.
        beside: the figures published of the dataset that it is, or looks like.
    """

    root: Path
    splits: dict[str, SplitHealth]
    refused: dict[str, str]
    missing: dict[str, tuple[str, ...]]
    twins: tuple[Twin, ...]
    unreadable: tuple[str, ...]
    against: Path | None = None
    only_here: tuple[str, ...] = ()
    only_there: tuple[str, ...] = ()
    alike: tuple[tuple[str, str], ...] = ()
    beside: Beside = NOTHING

    @property
    def bad_labels(self) -> int:
        """Objects that could not be read, in the splits that could."""
        return sum(len(split.dataset.skipped) for split in self.splits.values())

    @property
    def leaks(self) -> list[Twin]:
        """The images that are exactly the same in two splits, or in two datasets."""
        return [twin for twin in self.twins if twin.exact and twin.split != twin.other_split]

    @property
    def passed(self) -> bool:
        """Whether all files and labels could be read and no image occurs in two splits."""
        return not (self.refused or self.unreadable or self.bad_labels or self.leaks)


def check_dataset(
    root: Path,
    against: Path | None = None,
    progress: Progress = silent,
    name: str | None = None,
    form: str | None = None,
) -> Health:
    """Measure all splits of a dataset and look for images that occur twice.

    Args:
        root: a dataset in any format that can be read. Bad labels, and splits that cannot be read, are collected.
        against: another dataset to compare classes and images with.
        progress: shows how far the images are.
        name: the catalogue's dataset that it is; by default one with the same classes.
        form: the format to read ``root`` in, where its folders fit several; by default that of ``name`` if it fits.

    Raises:
        DataError: there is no dataset, or none of its splits can be read.
        UsageError: a name that the catalogue lacks, or an unknown format.
    """
    named = known_dataset(name) if name else None
    opened, refused = _open(root, form or _form_of(root, named))
    others, _ = _open(against) if against else ([], {})
    names = [(dataset.split, path) for dataset in opened for path in dataset.paths]
    names += [(f"{against}: {dataset.split}", path) for dataset in others for path in dataset.paths]
    with progress("compare images", len(names)) as advance:
        prints = take_prints(names, advance)
    own = {dataset.split for dataset in opened}
    twins = [twin for twin in find_twins(prints) if {twin.split, twin.other_split} & own]
    published = beside(opened, named)
    here, there = ([name for dataset in part for name in dataset.classes] for part in (opened, others))
    only_here, only_there = differences(here, there) if others else ((), ())
    return Health(
        root=root,
        splits={dataset.split: measure(dataset) for dataset in opened},
        refused=refused,
        missing=_missing(opened),
        twins=tuple(twins),
        unreadable=prints.faults,
        against=against,
        only_here=only_here,
        only_there=only_there,
        alike=alike_within(here, published.classes)
        + alike_between(only_here, only_there)
        + alike_between(published.unlisted, published.unfound),
        beside=published,
    )


def measure(dataset: DetectionDataset) -> SplitHealth:
    """The figures of one split. Ignored objects count in ``counts`` only."""
    kept = ~dataset.ignore
    width, height = dataset.boxes[kept, 2].astype(np.float64), dataset.boxes[kept, 3].astype(np.float64)
    area = np.repeat(dataset.sizes.astype(np.float64).prod(axis=1), np.diff(dataset.offsets))[kept]
    image_sizes = Counter((w, h) for h, w in dataset.sizes.tolist())
    return SplitHealth(
        dataset=dataset,
        counts=dataset.summary(),
        identical=without_duplicates(dataset)[1],
        tiny=int((height < TINY_PX).sum()),
        huge=int((width * height > HUGE_SHARE * area).sum()),
        beyond=int(beyond_edge(dataset)[kept].sum()),
        odd=int((fit_iou(dataset)[kept] < ODD_FIT).sum()),
        aligned=int(axis_aligned(dataset)[kept].sum()),
        sizes=_percentiles(np.sqrt(width * height)),
        lengths=_percentiles(width),
        image_sizes=dict(image_sizes.most_common()),
        histograms=histograms(dataset),
    )


def _percentiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.percentile(values, PERCENTILES).tolist()) if len(values) else ()


def _form_of(root: Path, known: KnownDataset | None) -> str | None:
    """The format of a known dataset if the folders fit it, such as DIOR with both its sets of labels."""
    fits = known is not None and known.format in FORMATS and bool(FORMATS[known.format].splits(root))
    return known.format if known is not None and fits else None


def _open(root: Path, form: str | None = None) -> tuple[list[DetectionDataset], dict[str, str]]:
    """The splits that can be read, and why training would refuse them, bad labels aside."""
    opened: list[DetectionDataset] = []
    refused = {}
    for name in split_names(root, form=form):
        try:
            opened += open_splits(root, [name], skip_bad_labels=True, form=form)
        except DataError as error:
            refused[name or WHOLE] = str(error)
            try:
                opened += open_splits(root, [name], skip_bad_labels=True, allow_unlabelled=True, form=form)
            except DataError as still:
                refused[name or WHOLE] += f"\n{still}" * (str(still) != str(error))
    if not opened:
        raise DataError("\n".join(refused.values()))
    return opened, refused


def _missing(datasets: Sequence[DetectionDataset]) -> dict[str, tuple[str, ...]]:
    counts = {dataset.split: dataset.summary().objects for dataset in datasets}
    used = {name for objects in counts.values() for name, count in objects.items() if count}
    missing = {
        split: tuple(name for name in objects if name in used and not objects[name])
        for split, objects in counts.items()
    }
    return {split: names for split, names in missing.items() if names}


def health_record(health: Health) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "root": str(health.root),
        "passed": health.passed,
        "splits": {name: _split_record(split) for name, split in health.splits.items()},
        "refused splits": health.refused,
        "missing classes": health.missing,
        "unreadable images": list(health.unreadable),
        "twins": [twin.record() for twin in health.twins],
        "against": str(health.against) if health.against else None,
        "classes only here": list(health.only_here),
        "classes only there": list(health.only_there),
        "classes spelt alike": [list(pair) for pair in health.alike],
        **health.beside.record(),
    }


def _split_record(split: SplitHealth) -> dict[str, Any]:
    dataset = split.dataset
    return {
        "format": dataset.format,
        **split.counts._asdict(),
        "identical": split.identical,
        "tiny": split.tiny,
        "huge": split.huge,
        "beyond the edge": split.beyond,
        "corners far from a rectangle": split.odd,
        "axis-aligned": split.aligned,
        "percentiles": list(PERCENTILES),
        "size px": [round(value, 2) for value in split.sizes],
        "long side px": [round(value, 2) for value in split.lengths],
        "image sizes": {f"{width}x{height}": count for (width, height), count in split.image_sizes.items()},
        "histograms": {
            h.name: {"unit": h.unit, "counts": dict(zip(h.bins, h.counts, strict=True))} for h in split.histograms
        },
        "notes": list(dataset.notes),
        "bad labels": [problem._asdict() for problem in dataset.skipped],
    }
