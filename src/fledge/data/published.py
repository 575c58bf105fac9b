"""A dataset on disk beside the figures that were published of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from fledge.data.catalogue import CATALOGUE, Count, KnownDataset
from fledge.data.class_names import differences
from fledge.data.labels import DetectionDataset, Summary, class_key
from fledge.errors import UsageError

# Fewer class names than this are too common to tell by themselves which dataset they belong to.
_TELLING = 5


class Comparison(NamedTuple):
    """One figure.

    Attributes:
        split: "" for the whole dataset.
        what: "images", "objects", or the name of a class.
        found: the figure counted.
        published: those that were published; each is accepted.
        agrees: whether one of them is the figure counted.
        verified: whether all of them were confirmed at a public source.
    """

    split: str
    what: str
    found: int
    published: tuple[int, ...]
    agrees: bool
    verified: bool


def known_dataset(name: str) -> KnownDataset:
    """The catalogue's entry of a name; case and separators do not matter.

    Raises:
        UsageError: there is none.
    """
    entries = {class_key(key): known for key, known in CATALOGUE.items()}
    if class_key(name) not in entries:
        raise UsageError(f"unknown dataset {name!r}: catalogue: choose from {', '.join(CATALOGUE)}")
    return entries[class_key(name)]


def recognise(datasets: Sequence[DetectionDataset]) -> KnownDataset | None:
    """The catalogue's dataset that has these classes, neither more nor fewer; None if there is no such or the names say
    too little.

    Of several, such as two sets of labels for the same images, the one in the same format comes first.
    """
    keys = {class_key(name) for dataset in datasets for name in dataset.classes}
    fits = [known for known in CATALOGUE.values() if keys == {class_key(name) for name in known.classes}]
    same = [known for known in fits if datasets and known.format == datasets[0].format]
    if same and (len(keys) >= _TELLING or _any_agrees(same[0], datasets)):
        return same[0]
    return fits[0] if fits and len(keys) >= _TELLING else None


def _any_agrees(known: KnownDataset, datasets: Sequence[DetectionDataset]) -> bool:
    return any(comparison.agrees for comparison in compare(known, datasets))


def compare(known: KnownDataset, datasets: Sequence[DetectionDataset]) -> tuple[Comparison, ...]:
    """Counts of the splits, of train and val together, and of the whole if all is there, beside the published ones."""
    counts = {dataset.split: dataset.summary() for dataset in datasets}
    parts: dict[str, tuple[Summary, ...]] = {name: (summary,) for name, summary in counts.items()}
    if {"train", "val"} <= counts.keys():
        parts["trainval"] = counts["train"], counts["val"]
    compared = [
        comparison
        for split in known.splits
        if split in parts
        for comparison in _compare_one(split, known.counts_of(split), parts[split])
    ]
    whole = set(known.splits) <= parts.keys()
    if whole or not compared:
        compared += _compare_one("", known.counts_of(), tuple(counts.values()))
        compared += _compare_classes(known, tuple(counts.values()))
    return tuple(compared)


def _compare_one(split: str, counts: Sequence[Count], summaries: Sequence[Summary]) -> list[Comparison]:
    objects = sum(sum(summary.objects.values()) for summary in summaries)
    ignored = sum(summary.ignored for summary in summaries)
    found: tuple[tuple[Literal["images", "objects"], tuple[int, ...]], ...] = (
        ("images", (sum(summary.images for summary in summaries),)),
        ("objects", (objects, objects + ignored)),  # some authors count the ignored ones
    )
    compared = []
    for what, figures in found:
        stated = [(getattr(count, what), count.verified) for count in counts if getattr(count, what) is not None]
        if stated:
            published = tuple(dict.fromkeys(figure for figure, _ in stated))
            agreeing = [figure for figure in figures if figure in published]
            verified = all(flag for _, flag in stated)
            compared.append(Comparison(split, what, (agreeing or figures)[0], published, bool(agreeing), verified))
    return compared


def _compare_classes(known: KnownDataset, summaries: Sequence[Summary]) -> list[Comparison]:
    found: Counter[str] = Counter()
    for summary in summaries:
        found.update({class_key(name): count for name, count in summary.objects.items()})
    verified = "class_counts" not in known.unverified
    return [
        Comparison("", name, found[class_key(name)], (count,), found[class_key(name)] == count, verified)
        for name, count in known.class_counts.items()
    ]


def class_differences(
    known: KnownDataset, datasets: Sequence[DetectionDataset]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class names that the catalogue lacks, and those that it has in addition."""
    return differences([name for dataset in datasets for name in dataset.classes], known.classes)
