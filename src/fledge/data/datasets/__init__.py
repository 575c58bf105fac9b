"""Readers, one file per format, each ``read(root, split, classes) -> DetectionDataset``, and the table of them.

A new format is one file here and one row in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fledge.data.datasets import dota, hit_uav
from fledge.data.labels import DetectionDataset
from fledge.errors import DataError


class Format(NamedTuple):
    """One way to write a dataset down.

    Attributes:
        tree: its folders, as shown to users.
        splits: the splits found under a root; none means that the root is not in this format.
        classes: the class names common to some splits of a root.
        read: the index of one split.
    """

    tree: str
    splits: Callable[[Path], tuple[str, ...]]
    classes: Callable[[Path, Sequence[str]], tuple[str, ...]]
    read: Callable[[Path, str, Sequence[str]], DetectionDataset]


FORMATS: dict[str, Format] = {
    "dota": Format(dota.TREE, dota.dota_splits, dota.dota_classes, dota.read_dota),
    "hit_uav": Format(hit_uav.TREE, hit_uav.hit_uav_splits, lambda *_: hit_uav.CLASSES, hit_uav.read_hit_uav),
}

ROLES = {"train": ("train",), "val": ("val", "valid", "validation", "test")}


def detect_format(root: Path) -> str:
    """The key in ``FORMATS`` of the dataset in a folder.

    Raises:
        DataError: no such folder, or none of the accepted trees (which are shown).
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}: name the dataset's folder")
    for name, form in FORMATS.items():
        if form.splits(root):
            return name
    trees = "\n".join(form.tree for form in FORMATS.values())
    raise DataError(f"not a dataset: {root}: give it one of these forms:\n{trees}")


def open_dataset(root: Path, split: str, classes: Sequence[str] | None = None) -> DetectionDataset:
    """Index one split of a dataset in any format of ``FORMATS``.

    Without ``classes`` the names are collected from all splits under ``root``, so that a label means the same in each.

    Raises:
        DataError: unknown format, unknown split, or anything its reader refuses.
    """
    form = FORMATS[detect_format(root)]
    found = form.splits(root)
    if split not in found:
        raise DataError(f"no split {split!r}: {root}: choose one of {', '.join(map(repr, found))}")
    return form.read(root, split, form.classes(root, found) if classes is None else classes)


def find_splits(root: Path) -> dict[str, str]:
    """From role to split name: ``train``, and ``val`` for the held-out one (val, valid, validation, else test).

    A root that is itself one split gives ``{"all": ""}``. A role without a split is absent.

    Raises:
        DataError: none of the accepted trees.
    """
    found = FORMATS[detect_format(root)].splits(root)
    if found == ("",):
        return {"all": ""}
    roles = {role: next((name for name in names if name in found), None) for role, names in ROLES.items()}
    return {role: name for role, name in roles.items() if name is not None}
