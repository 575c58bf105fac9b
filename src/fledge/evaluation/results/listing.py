"""Detections as result files state them, before anything is checked against images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import FARTHEST, LabelProblem, refuse
from fledge.geometry.boxes import corners
from fledge.types import Detections

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Source(NamedTuple):
    """One file of results: its bare name, how to call it in messages, and its content."""

    name: str
    where: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Listing:
    """The D detections of one result folder or file, in its order.

    Attributes:
        form: the format, as printed.
        images: the names of the images as written, each once; patches are called as patches.
        classes: the names of the classes as written, each once; also of those without a detection.
        image: (D,) index into ``images``.
        label: (D,) index into ``classes``.
        score: (D,) in 0…1.
        quads: (D, 4, 2) corners, pixels of the image.
        files: the files, as called in messages.
        file: (D,) index into ``files``.
        place: (D,) line, or number of the record in a json file, from 1.
        records: whether ``place`` counts records.
        horizontal: whether the file states horizontal boxes; the quads are then their corners.
        notes: what was decided while reading, one sentence each.
    """

    form: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    image: Integers
    label: Integers
    score: Floats
    quads: Floats
    files: tuple[str, ...]
    file: Integers
    place: Integers
    records: bool = False
    horizontal: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)

    def where(self, i: int) -> str:
        """The place of detection i: ``file:line`` or ``file: record N``."""
        return place_of(self.files[self.file[i]], int(self.place[i]), self.records)

    def select(self, rows: Integers) -> Listing:
        """Only these detections; the names of images, classes and files stay."""
        return replace(
            self,
            image=self.image[rows],
            label=self.label[rows],
            score=self.score[rows],
            quads=self.quads[rows],
            file=self.file[rows],
            place=self.place[rows],
        )


@dataclass
class Collector:
    """Rows on their way into a ``Listing``, a file at a time; faults are kept until all files are read."""

    form: str
    records: bool = False
    horizontal: bool = False
    images: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    problems: list[LabelProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _parts: list[tuple[Integers, Integers, Floats, Floats, Integers, Integers]] = field(default_factory=list)

    def image_codes(self, names: Sequence[str]) -> Integers:
        """The index of each image name; new names get the next one."""
        codes = self.images
        return np.fromiter((codes.setdefault(name, len(codes)) for name in names), np.int64, len(names))

    def label(self, name: str) -> int:
        """The index of a class name; a new name gets the next one."""
        return self.classes.setdefault(name, len(self.classes))

    def add(self, where: str, image: Integers, label: Integers, score: Floats, quads: Floats, place: Integers) -> None:
        """The detections of one file."""
        file = np.full(len(score), len(self.files), dtype=np.int64)
        self.files.append(where)
        self._parts.append((image, label, score, quads, file, place))

    def listing(self, name: str) -> Listing:
        """Everything added.

        Raises:
            DataError: there were faults; ``name`` is what was read.
        """
        refuse(self.problems, name, content="detections")
        none = np.zeros(0, dtype=np.int64)
        parts = [(none, none, np.zeros(0), np.zeros((0, 4, 2)), none, none), *self._parts]
        image, label, score, quads, file, place = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Listing(
            self.form,
            tuple(self.images),
            tuple(self.classes),
            image,
            label,
            score,
            quads,
            tuple(self.files),
            file,
            place,
            self.records,
            self.horizontal,
            tuple(self.notes),
        )


def listing_of(found: Sequence[Detections]) -> Listing:
    """What was found in some images, one after the other."""
    into = Collector("found by fledge", records=True)
    for detections in found:
        labels = np.array([into.label(name) for name in detections.classes], dtype=np.int64)
        count = len(detections)
        into.add(
            detections.frame.image_id,
            into.image_codes([detections.frame.image_id] * count),
            labels[detections.labels.numpy()] if count else labels[:0],
            detections.scores.double().numpy(),
            corners(detections.boxes.double()).numpy(),
            np.arange(1, count + 1),
        )
    return into.listing("detections")


def place_of(file: str, number: int, records: bool) -> str:
    """How a place is called in messages."""
    return f"{file}: record {number}" if records else f"{file}:{number}"


def sound(score: Floats, coordinates: Floats) -> bool:
    """Whether all scores are in 0…1 and all coordinates finite and within a million; NaN is neither."""
    return bool(((score >= 0) & (score <= 1)).all() and (np.abs(coordinates) <= FARTHEST).all())


def corners_of_hulls(low: Floats, high: Floats) -> Floats:
    """(N, 4, 2) corners of horizontal boxes from their least and greatest points (N, 2), clockwise on screen."""
    return np.stack([low, np.stack([high[:, 0], low[:, 1]], 1), high, np.stack([low[:, 0], high[:, 1]], 1)], axis=1)
