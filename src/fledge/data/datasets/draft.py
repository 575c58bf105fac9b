"""What label files state, before anything is checked against images and classes.

Every reader parses one split into a ``Draft``; ``fledge.data.datasets.finish`` makes the dataset of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fledge.data.labels import CLASS_NAME, LabelProblem, class_key


class Row(NamedTuple):
    """One object as a label file states it.

    Attributes:
        image: index in ``Draft.images``.
        file: index in ``Draft.files``.
        place: line number, or words such as ``annotation id 7``.
        shape: eight numbers, the corners x1 y1 … x4 y4, or five: cx, cy, w, h, and the angle of w in radians, clockwise
            on screen. Pixels, or fractions of the image's width and height (``Draft.normalised``; the angle is then 0).
        name: the class as written.
        difficult: None where the format has such a field and this object lacks it.
        ignore: whether the format itself says that this is no object to be found.
    """

    image: int
    file: int
    place: int | str
    shape: tuple[float, ...]
    name: str
    difficult: bool | None = False
    ignore: bool = False


class StatedSize(NamedTuple):
    """Width and height of an image as its label file states them, and where."""

    where: str
    width: object
    height: object


@dataclass
class Draft:
    """One split as its label files state it.

    Attributes:
        root, split, format: as in ``DetectionDataset``.
        images: the image files, in the order of the dataset.
        ids: their names where the stems of the files would not do, as when folders repeat them; else empty.
        files: the label files.
        rows: the objects that could be parsed, in the order of the files.
        faults: what could not, each with the number of rows before it.
        damage: problems that leave nothing to skip to: files that are missing or cannot be parsed at all.
        unlabelled: names of images without a label file, and the folder where one was looked for.
        stated: sizes stated in the label files, by index of the image.
        normalised: whether shapes are fractions of the image.
        listed: class names that the dataset itself lists, in order.
        counts: what was mended or found odd, for the notes.
    """

    root: Path
    split: str
    format: str
    images: list[Path] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    faults: list[tuple[int, LabelProblem]] = field(default_factory=list)
    damage: list[LabelProblem] = field(default_factory=list)
    unlabelled: tuple[list[str], Path] = field(default_factory=lambda: ([], Path()))
    stated: dict[int, StatedSize] = field(default_factory=dict)
    normalised: bool = False
    listed: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)

    def fault(self, where: str, what: str, remedy: str, kind: str) -> None:
        """Note that the object at a place cannot be used."""
        self.faults.append((len(self.rows), LabelProblem(where, what, remedy, kind)))

    def where(self, row: Row) -> str:
        """The place of an object, ``file:line`` or ``file: annotation id N``."""
        return f"{self.files[row.file]}:{'' if isinstance(row.place, int) else ' '}{row.place}"

    def names(self, remap: Mapping[str, str] | None = None) -> set[str]:
        """The class names in use, after ``remap``, but for those of ignored objects and those that cannot be names."""
        target = renaming(remap)
        used = {row.name for row in self.rows if not row.ignore}
        return {name for name in map(target, used) if name and CLASS_NAME.fullmatch(name)}


def merge(drafts: Sequence[Draft], split: str) -> Draft:
    """Drafts of one dataset as a single split of a new name."""
    merged = replace(drafts[0], split=split)
    for draft in drafts[1:]:
        images, files, rows = len(merged.images), len(merged.files), len(merged.rows)
        moved = [row._replace(image=row.image + images, file=row.file + files) for row in draft.rows]
        merged = replace(
            merged,
            images=merged.images + draft.images,
            ids=merged.ids + draft.ids,
            files=merged.files + draft.files,
            rows=merged.rows + moved,
            faults=merged.faults + [(before + rows, problem) for before, problem in draft.faults],
            damage=merged.damage + draft.damage,
            unlabelled=(merged.unlabelled[0] + draft.unlabelled[0], merged.unlabelled[1]),
            stated=merged.stated | {image + images: size for image, size in draft.stated.items()},
            listed=tuple(dict.fromkeys(merged.listed + draft.listed)),
            counts=merged.counts + draft.counts,
        )
    return merged


def order_classes(names: Iterable[str], official: Sequence[str]) -> tuple[str, ...]:
    """Names found in label files, each once: in official order if all are official (absent ones left out), else sorted.

    Names that differ in case, spaces, hyphens and underscores only are one; an official one is spelt as there.
    """
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        found.setdefault(class_key(name), name)
    spelling = {class_key(name): name for name in official}
    if found.keys() <= spelling.keys():
        return tuple(name for key, name in spelling.items() if key in found)
    return tuple(sorted(found.values()))


def first_few(names: Sequence[str], shown: int = 5) -> str:
    """The first names of a long list."""
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def renaming(remap: Mapping[str, str] | None) -> Callable[[str], str]:
    """From a name in the labels to the one to use; case, spaces, hyphens and underscores do not matter."""
    targets = {class_key(name): target for name, target in (remap or {}).items()}
    return lambda name: targets.get(class_key(name), name)
