"""What is known about a public dataset, as plain facts: no file is opened here and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Task = Literal["detection", "classification", "segmentation", "unlabelled"]
Shape = Literal["oriented", "horizontal"]


class Count(NamedTuple):
    """One published figure; where sources disagree there are several of one split, and each is accepted.

    Attributes:
        split: the split's name as the format spells it; "" for the whole dataset.
        images: None where nobody says.
        objects: labelled objects, or None.
        verified: whether the figures were read or counted at a public source; others merely circulate.
        note: what kind of figure it is, where that matters.
    """

    split: str
    images: int | None = None
    objects: int | None = None
    verified: bool = True
    note: str = ""


@dataclass(frozen=True)
class KnownDataset:
    """A public dataset. A text that is empty is not known, which is not the same as "none".

    Attributes:
        key: its name on the command line.
        title: as its authors write it.
        task: what its labels are for.
        page: where to get it; archives behind a registration stay there.
        terms: under which terms, and who says so.
        format: the key of the reader that opens it, or "" where it has none.
        other_formats: keys of further readers, and what they read; these are asked for by name.
        tree: the folders as unpacked.
        classes: the class names in fledge's label order, spelt as in the files.
        counts: the published figures; total first.
        split_rule: how papers split and test it.
        image_size: in pixels.
        shapes: of the boxes that a detection dataset has labels for.
        class_counts: objects (or images, for classification) of each class in the whole dataset, where published.
        levels: other class lists of the same objects by name, from coarse to fine.
        traps: what goes wrong with it, one sentence each.
        overlaps: keys of datasets that have images in common with it, and which.
        recipes: the shipped recipes made for it, as a pattern of names.
        unverified: names of the other attributes that were not confirmed at a public source.
    """

    key: str
    title: str
    task: Task
    page: str
    terms: str
    format: str
    tree: str
    classes: tuple[str, ...]
    counts: tuple[Count, ...]
    split_rule: str = ""
    image_size: str = ""
    shapes: tuple[Shape, ...] = ()
    class_counts: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    traps: tuple[str, ...] = ()
    overlaps: Mapping[str, str] = field(default_factory=dict)
    recipes: str = ""
    other_formats: Mapping[str, str] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()

    def counts_of(self, split: str = "") -> tuple[Count, ...]:
        """The published figures of one split, or of the whole."""
        return tuple(count for count in self.counts if count.split == split)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that figures are known of."""
        return tuple(dict.fromkeys(count.split for count in self.counts if count.split))
