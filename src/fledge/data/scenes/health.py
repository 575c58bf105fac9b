"""What ``fledge check`` measures of scene classification datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge.data.class_names import alike_between, alike_within, differences
from fledge.data.duplicates import Twin, find_twins, take_prints
from fledge.data.findings import FEW, IMBALANCE, Finding, class_findings, published_findings, sort, twin_findings
from fledge.data.labels import class_key
from fledge.data.published import Beside, beside, known_dataset
from fledge.data.raster import read_size
from fledge.data.scenes.folder_per_class import open_scenes, scene_splits
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.data.splits import WHOLE, Progress, silent
from fledge.errors import DataError


@dataclass(frozen=True, eq=False)
class SceneHealth:
    """A whole dataset.

    Attributes:
        root: its folder.
        splits: by name.
        image_sizes: images by (width, height), the most frequent first, by split.
        missing: classes without an image in a split in which others have some, by split.
        twins: images that occur twice, exactly or nearly; those with another dataset name it in ``other_split``.
        conflicts: those of them with the same pixels and another class.
        unreadable: images that cannot be decoded.
        against: the other dataset, if one was compared.
        only_here, only_there: class names that the other dataset lacks, or has in addition.
        alike: pairs of class names that may be one class spelt twice.
        beside: the figures published of the dataset that it is, or looks like.
    """

    root: Path
    splits: dict[str, SceneDataset]
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
    def leaks(self) -> list[Twin]:
        """The images that are exactly the same in two splits, or in two datasets."""
        return [twin for twin in self.twins if twin.exact and twin.split != twin.other_split]

    @property
    def passed(self) -> bool:
        """Whether all images could be read, none lies in two splits, and none has two classes."""
        return not (self.unreadable or self.leaks or self.conflicts)


def check_scenes(
    root: Path, against: Path | None = None, progress: Progress = silent, name: str | None = None
) -> SceneHealth:
    """Count the images of each class, and look for images that occur twice.

    Args:
        root: a dataset with a folder for each class.
        against: another one to compare classes and images with.
        progress: shows how far the images are.
        name: the catalogue's dataset that it is; by default one with the same classes.

    Raises:
        DataError: there is no such dataset.
        UsageError: a name that the catalogue lacks.
    """
    named = known_dataset(name) if name else None
    opened = [open_scenes(root, split) for split in scene_splits(root) or (WHOLE,)]
    others = [open_scenes(against, split) for split in scene_splits(against) or (WHOLE,)] if against else []
    images = [(d.split, d.path(i)) for d in opened for i in range(len(d))]
    images += [(f"{against}: {d.split}", d.path(i)) for d in others for i in range(len(d))]
    with progress("compare images", len(images)) as advance:
        prints = take_prints(images, advance)
    own = {dataset.split for dataset in opened}
    twins = tuple(twin for twin in find_twins(prints) if {twin.split, twin.other_split} & own)
    here, there = ([name for d in part for name in d.classes] for part in (opened, others))
    only_here, only_there = differences(here, there) if others else ((), ())
    published = beside(opened, named)
    return SceneHealth(
        root=root,
        splits={dataset.split: dataset for dataset in opened},
        image_sizes={dataset.split: _sizes(dataset) for dataset in opened},
        missing=_missing(opened),
        twins=twins,
        conflicts=_conflicts(twins, [*opened, *others]),
        unreadable=prints.faults,
        against=against,
        only_here=only_here,
        only_there=only_there,
        alike=alike_within(here, published.classes)
        + alike_between(only_here, only_there)
        + alike_between(published.unlisted, published.unfound),
        beside=published,
    )


def _sizes(dataset: SceneDataset) -> dict[tuple[int, int], int]:
    sizes: Counter[tuple[int, int]] = Counter()
    for i in range(len(dataset)):
        with suppress(DataError):  # named among the unreadable ones
            height, width = read_size(dataset.path(i))
            sizes[width, height] += 1
    return dict(sizes.most_common())


def _missing(datasets: Sequence[SceneDataset]) -> dict[str, tuple[str, ...]]:
    counts = {dataset.split: dataset.summary().objects for dataset in datasets}
    return {
        split: names
        for split, images in counts.items()
        if (names := tuple(name for name, count in images.items() if not count))
    }


def _conflicts(twins: Sequence[Twin], datasets: Sequence[SceneDataset]) -> tuple[Twin, ...]:
    classes = {d.path(i): class_key(d.classes[int(d.labels[i])]) for d in datasets for i in range(len(d))}
    return tuple(twin for twin in twins if twin.exact and classes[twin.path] != classes[twin.other])


def scene_findings(health: SceneHealth) -> list[Finding]:
    """What was found, errors first."""
    found = [Finding("error", WHOLE, fault) for fault in health.unreadable]
    found += [
        Finding("error", twin.split, f"the same pixels in two classes: {twin.path} and {twin.other}")
        for twin in health.conflicts
    ]
    found += twin_findings(health.twins)
    found += class_findings(health.missing, health.against, health.only_here, health.only_there, health.alike, "image")
    found += published_findings(health.beside)
    for name, dataset in health.splits.items():
        found += [Finding("warning", name, text) for text in _balance(dataset)]
        found += [Finding("note", name, note) for note in dataset.notes]
    return sort(found)


def _balance(dataset: SceneDataset) -> Iterator[str]:
    present = {name: count for name, count in dataset.summary().objects.items() if count}
    most, least = max(present, key=lambda n: present[n]), min(present, key=lambda n: present[n])
    if present[most] >= IMBALANCE * present[least]:
        yield f"{most} has {present[most] / present[least]:.0f} times the images of {least}"
    few = [f"{name} {count}" for name, count in present.items() if count < FEW]
    if few:
        yield f"fewer than {FEW} images: {', '.join(few)}"


def scene_record(health: SceneHealth) -> dict[str, Any]:
    """A check as JSON."""
    return {
        "root": str(health.root),
        "passed": health.passed,
        "splits": {
            name: {
                "format": dataset.format,
                "images": len(dataset),
                "classes": dataset.summary().objects,
                "image sizes": {f"{w}x{h}": count for (w, h), count in health.image_sizes[name].items()},
                "notes": list(dataset.notes),
            }
            for name, dataset in health.splits.items()
        },
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
