"""Formats whose classes are a fixed list, known by their numbers: objects of other classes cannot be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fledge.data.datasets.draft import first_few
from fledge.data.labels import DetectionDataset, class_key
from fledge.data.writers.lost import without_objects
from fledge.errors import DataError


class FixedClasses(NamedTuple):
    """The classes of a format.

    Attributes:
        form: the key of the format.
        numbers: from the name of a class to its number in the files, 1 or more.
    """

    form: str
    numbers: Mapping[str, int]

    def of(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """The number (T,) of each object's class; 0 for an object that cannot be written."""
        known = {class_key(name): number for name, number in self.numbers.items()}
        table = np.array([known.get(class_key(name), 0) for name in dataset.classes], dtype=np.int64)
        numbers = table[dataset.labels] if len(table) else np.zeros(len(dataset.labels), dtype=np.int64)
        return np.where(dataset.ignore, 0, numbers)

    def lost(self, dataset: DetectionDataset) -> dict[str, int]:
        """The objects that cannot be written, as counts: the ignored ones, and those of each class not in the list."""
        unknown = (self.of(dataset) == 0) & ~dataset.ignore
        left_out = np.bincount(dataset.labels[unknown], minlength=len(dataset.classes))
        other = {
            f"object of class {name}, left out: {self.form} has no such class": int(count)
            for name, count in zip(dataset.classes, left_out, strict=True)
        }
        return {"ignored object, left out": int(dataset.ignore.sum()), **other}

    def lost_names(self, datasets: Sequence[DetectionDataset]) -> dict[str, int]:
        """What is lost of the class names of all splits beside those of objects that cannot be written, as counts."""
        known = {class_key(name) for name in self.numbers}
        names = {name for name in without_objects(datasets) if class_key(name) not in known}
        return {"class without an object, left out": len(names)}

    def check(self, datasets: Sequence[DetectionDataset]) -> None:
        """Refuse splits of which no object at all can be written.

        Raises:
            DataError: there are only such.
        """
        if not any(self.of(dataset).any() for dataset in datasets):
            used = {name for dataset in datasets for name, count in dataset.summary().objects.items() if count}
            raise DataError(
                f"no object can be written: {datasets[0].root}: the labels name {first_few(sorted(used)) or 'none'}; "
                f"{self.form} has {first_few(list(self.numbers), 10)}: rename classes on reading (--remap), or choose "
                "another format"
            )
