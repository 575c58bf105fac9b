"""A dataset on disk beside the figures that were published of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from fledge.data.catalogue import CATALOGUE, KnownDataset
from fledge.data.class_names import differences
from fledge.data.labels import Summary, class_key
from fledge.errors import UsageError

# Fewer class names than this are too common to tell by themselves which dataset they belong to.
_TELLING = 5


class Counted(Protocol):
    """One split of a dataset of any task, as far as its figures go."""

    @property
    def split(self) -> str:
        """Its name."""

    @property
    def format(self) -> str:
        """The key of its format."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""

    def summary(self) -> Summary:
        """Its counts."""


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


def recognise(datasets: Sequence[Counted]) -> KnownDataset | None:
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


def _any_agrees(known: KnownDataset, datasets: Sequence[Counted]) -> bool:
    return any(comparison.agrees for comparison in compare(known, datasets))


def compare(known: KnownDataset, datasets: Sequence[Counted]) -> tuple[Comparison, ...]:
    """Counts of the splits, of train and val together, and of the whole if all is there, beside the published ones."""
    counts = {dataset.split: dataset.summary() for dataset in datasets}
    parts: dict[str, tuple[Summary, ...]] = {name: (summary,) for name, summary in counts.items()}
    if {"train", "val"} <= counts.keys():
        parts["trainval"] = counts["train"], counts["val"]
    compared = [
        comparison
        for split in known.splits
        if split in parts
        for comparison in _compare_one(known, split, parts[split])
    ]
    whole = set(known.splits) <= parts.keys()
    if whole or not compared:
        compared += _compare_one(known, "", tuple(counts.values()))
        compared += _compare_classes(known, tuple(counts.values()))
    return tuple(compared)


def _compare_one(known: KnownDataset, split: str, summaries: Sequence[Summary]) -> list[Comparison]:
    counts = known.counts_of(split)
    objects = sum(sum(summary.objects.values()) for summary in summaries)
    ignored = sum(summary.ignored for summary in summaries)
    found: tuple[tuple[Literal["images", "objects"], tuple[int, ...]], ...] = (
        ("images", (sum(summary.images for summary in summaries),)),
        ("objects", (objects, objects + ignored)),  # some authors count the ignored ones
    )
    compared = []
    for what, figures in found[: None if known.task == "detection" else 1]:
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


class Beside(NamedTuple):
    """A dataset beside the catalogue's one that it is, or looks like.

    Attributes:
        known: the catalogue's; None if it looks like none.
        named: whether the user said so.
        comparisons: figures beside the published ones.
        unlisted, unfound: class names that ``known`` lacks, or has in addition.
    """

    known: KnownDataset | None = None
    named: bool = False
    comparisons: tuple[Comparison, ...] = ()
    unlisted: tuple[str, ...] = ()
    unfound: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The published class names, as far as known."""
        return self.known.classes if self.known else ()

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "known as": self.known.key if self.known else None,
            "named so": self.named,
            "published": [comparison._asdict() for comparison in self.comparisons],
            "classes not published": list(self.unlisted),
            "published classes not found": list(self.unfound),
        }


NOTHING = Beside()


def beside(datasets: Sequence[Counted], named: KnownDataset | None = None) -> Beside:
    """The splits of a dataset beside a known one, by default that which has the same classes."""
    known = named or recognise(datasets)
    if known is None:
        return NOTHING
    names = [name for dataset in datasets for name in dataset.classes]
    unlisted, unfound = differences(names, known.classes) if known.classes else ((), ())
    return Beside(known, named is not None, compare(known, datasets), unlisted, unfound)
