"""What ``fledge check`` measures of images without boxes: scenes, masks, and images without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fledge.data.class_names import alike_between, alike_within, differences
from fledge.data.duplicates import Twin, find_twins, take_prints
from fledge.data.labels import class_key
from fledge.data.published import Beside, beside, known_dataset
from fledge.data.raster import read_size
from fledge.data.scenes.folder_per_class import open_scenes, scene_splits
from fledge.data.scenes.loveda import loveda_splits, open_loveda
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.data.scenes.segmentation_dataset import NO_DATA, SegmentationDataset
from fledge.data.scenes.unlabelled import UnlabelledImages, only_images, open_unlabelled
from fledge.data.splits import Progress, silent
from fledge.errors import DataError

ImageSet = SceneDataset | SegmentationDataset | UnlabelledImages

NO_DATA_NAME = "(no data)"
# Folders with these names are parts of other datasets, not classes.
_PARTS = {"images", "labels", "masks", "annotations", "jpegimages", "labeltxt", "annfiles", "imagespng", "maskspng"}


@dataclass(frozen=True, eq=False)
class ImageHealth:
    """A whole dataset of images without boxes.

    Attributes:
        root: its folder.
        splits: by name.
        refused: why a split cannot be opened, by name.
        counts: by split, images of each class, or pixels of each class and without data; empty without labels.
        image_sizes: images by (width, height), the most frequent first, by split.
        missing: classes without an image or pixel in a split in which others have some, by split.
        twins: images that occur twice, exactly or nearly; those with another dataset name it in ``other_split``.
        conflicts: those of them with the same pixels and another class.
        unreadable: images and masks that cannot be decoded.
        against: the other dataset, if one was compared.
        only_here, only_there: class names that the other dataset lacks, or has in addition.
        alike: pairs of class names that may be one class spelt twice.
        beside: the figures published of the dataset that it is, or looks like.
    """

    root: Path
    splits: Mapping[str, ImageSet]
    refused: dict[str, str]
    counts: dict[str, dict[str, int]]
    image_sizes: dict[str, dict[tuple[int, int], int]]
    missing: dict[str, tuple[str, ...]]
    twins: tuple[Twin, ...]
    conflicts: tuple[Twin, ...]
    unreadable: tuple[str, ...]
    against: Path | None
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    alike: tuple[tuple[str, str], ...]
    beside: Beside

    @property
    def noun(self) -> str:
        """What is counted of each class."""
        return "pixel" if any(isinstance(dataset, SegmentationDataset) for dataset in self.splits.values()) else "image"

    @property
    def leaks(self) -> list[Twin]:
        """The images that are exactly the same in two splits, or in two datasets."""
        return [twin for twin in self.twins if twin.exact and twin.split != twin.other_split]

    @property
    def passed(self) -> bool:
        """Whether all images could be read, none lies in two splits, and none has two classes."""
        return not (self.refused or self.unreadable or self.leaks or self.conflicts)


def holds_images(root: Path) -> bool:
    """Whether a folder looks like LoveDA, like a folder for each class, or like nothing but images."""
    if loveda_splits(root) or only_images(root):
        return True
    try:
        return any(len(_class_keys(root, split) - _PARTS) > 1 for split in scene_splits(root))
    except DataError:
        return False


def _class_keys(root: Path, split: str) -> set[str]:
    return {class_key(name) for name in open_scenes(root, split).classes}


def open_images(root: Path) -> tuple[list[ImageSet], dict[str, str]]:
    """The splits of a dataset without boxes, and why others cannot be opened.

    Raises:
        DataError: it is none of the kinds that are known, or no split can be opened.
    """
    opened: list[ImageSet] = []
    refused = {}
    loveda = loveda_splits(root)
    for split in loveda or scene_splits(root):
        try:
            opened.append(open_loveda(root, split) if loveda else open_scenes(root, split))
        except DataError as error:
            refused[split] = str(error)
    if refused and not opened:
        raise DataError("\n".join(refused.values()))
    return (opened, refused) if opened else ([open_unlabelled(root)], {})


def check_images(
    root: Path, against: Path | None = None, progress: Progress = silent, name: str | None = None
) -> ImageHealth:
    """Count the images or pixels of each class, and look for images that occur twice.

    Args:
        root: a folder for each class, LoveDA, or images without labels.
        against: another one to compare classes and images with.
        progress: shows how far the images are.
        name: the catalogue's dataset that it is; by default one with the same classes.

    Raises:
        DataError: there is no such dataset.
        UsageError: a name that the catalogue lacks.
    """
    named = known_dataset(name) if name else None
    opened, refused = open_images(root)
    others = open_images(against)[0] if against else []
    images = [(d.split, d.path(i)) for d in opened for i in range(len(d))]
    images += [(f"{against}: {d.split}", d.path(i)) for d in others for i in range(len(d))]
    with progress("compare images", len(images)) as advance:
        prints = take_prints(images, advance)
    own = {dataset.split for dataset in opened}
    twins = tuple(twin for twin in find_twins(prints) if {twin.split, twin.other_split} & own)
    counted = {dataset.split: _count(dataset, progress) for dataset in opened}
    counts = {split: found for split, (found, _) in counted.items()}
    here, there = ([name for d in part for name in d.classes] for part in (opened, others))
    only_here, only_there = differences(here, there) if others else ((), ())
    published = beside(opened, named)
    return ImageHealth(
        root=root,
        splits={dataset.split: dataset for dataset in opened},
        refused=refused,
        counts=counts,
        image_sizes={dataset.split: _sizes(dataset) for dataset in opened},
        missing=_missing(counts),
        twins=twins,
        conflicts=_conflicts(twins, [*opened, *others]),
        unreadable=prints.faults + tuple(fault for _, faults in counted.values() for fault in faults),
        against=against,
        only_here=only_here,
        only_there=only_there,
        alike=alike_within(here, published.classes)
        + alike_between(only_here, only_there)
        + alike_between(published.unlisted, published.unfound),
        beside=published,
    )


def _count(dataset: ImageSet, progress: Progress) -> tuple[dict[str, int], tuple[str, ...]]:
    """Images, or pixels and those without data, of each class, and the masks that cannot be read."""
    if not isinstance(dataset, SegmentationDataset):
        return dict(dataset.summary().objects), ()
    if not dataset.masks:
        return {}, ()
    total, faults = np.zeros(256, dtype=np.int64), []
    with progress(f"count pixels of {dataset.split}", len(dataset)) as advance:
        for i in range(len(dataset)):
            try:
                total += np.bincount(dataset.mask(i).ravel(), minlength=256)
            except DataError as error:
                faults.append(str(error))
            advance(i + 1, dataset.path(i).stem)
    counts = {name: int(total[label]) for label, name in enumerate(dataset.classes)}
    return {**counts, NO_DATA_NAME: int(total[NO_DATA])}, tuple(faults)


def _sizes(dataset: ImageSet) -> dict[tuple[int, int], int]:
    sizes: Counter[tuple[int, int]] = Counter()
    for i in range(len(dataset)):
        with suppress(DataError):  # named among the unreadable ones
            height, width = read_size(dataset.path(i))
            sizes[width, height] += 1
    return dict(sizes.most_common())


def _missing(counts: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[str, ...]]:
    return {
        split: names
        for split, found in counts.items()
        if (names := tuple(name for name, count in found.items() if not count and name != NO_DATA_NAME))
    }


def _conflicts(twins: Sequence[Twin], datasets: Sequence[ImageSet]) -> tuple[Twin, ...]:
    scenes = [dataset for dataset in datasets if isinstance(dataset, SceneDataset)]
    classes = {d.path(i): class_key(d.classes[int(d.labels[i])]) for d in scenes for i in range(len(d))}
    return tuple(twin for twin in twins if twin.exact and classes.get(twin.path) != classes.get(twin.other))


def image_record(health: ImageHealth) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "root": str(health.root),
        "passed": health.passed,
        "splits": {
            name: {
                "format": dataset.format,
                "images": len(dataset),
                f"{health.noun}s of classes": health.counts[name],
                "image sizes": {f"{w}x{h}": count for (w, h), count in health.image_sizes[name].items()},
                "notes": list(dataset.notes),
            }
            for name, dataset in health.splits.items()
        },
        "refused splits": health.refused,
        "missing classes": health.missing,
        "unreadable images": list(health.unreadable),
        "twins": [twin.record() for twin in health.twins],
        "same pixels in two classes": [twin.record() for twin in health.conflicts],
        "against": str(health.against) if health.against else None,
        "classes only here": list(health.only_here),
        "classes only there": list(health.only_there),
        "classes spelt alike": [list(pair) for pair in health.alike],
        **health.beside.record(),
    }
