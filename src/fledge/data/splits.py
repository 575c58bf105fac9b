"""Several splits of one dataset at once, and how the commands that read and write them show how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fledge.data.datasets import FORMATS, detect_format, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.errors import UsageError

Advance = Callable[[int, str], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""Called with a title and a number of steps; gives a function that takes the steps done and a note."""

WHOLE = "all"


def silent(*_: object) -> AbstractContextManager[Advance]:
    """A ``Progress`` that shows nothing."""
    return nullcontext(lambda *_: None)


def split_names(root: Path, wanted: Sequence[str] = (), form: str | None = None) -> tuple[str, ...]:
    """The splits of a dataset, in the format ``form`` if given, or those of them that are wanted.

    Raises:
        DataError: no dataset.
        UsageError: a wanted split that is not there.
    """
    found = FORMATS[detect_format(root, form)].splits(root)
    for name in wanted:
        if name not in found:
            raise UsageError(f"no split {name!r}: {root}: choose from {', '.join(map(repr, found))}")
    return tuple(dict.fromkeys(wanted)) or found


def open_splits(root: Path, wanted: Sequence[str] = (), **reading: Any) -> list[DetectionDataset]:
    """Index the splits of a dataset, with one class list; a root that is itself a split is called ``all``.

    Args:
        root: the dataset's folder.
        wanted: the splits to open; by default all.
        reading: options of ``open_dataset``.

    Raises:
        DataError: what the reader refuses.
        UsageError: a wanted split that is not there.
    """
    opened = [open_dataset(root, name, **reading) for name in split_names(root, wanted, reading.get("form"))]
    return [dataset if dataset.split else replace(dataset, split=WHOLE) for dataset in opened]
