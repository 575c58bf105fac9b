"""Readers, one file per format, each ``parse(root, split) -> Draft``, the table of them (``forms``), ``open_dataset``.

A new format is one file here and one row in ``FORMATS``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from fledge.data.datasets.draft import merge
from fledge.data.datasets.finish import finish
from fledge.data.datasets.forms import FORMATS, Format, Remap
from fledge.data.labels import DetectionDataset
from fledge.data.raster import COLOUR, PixelRule
from fledge.errors import DataError, UsageError

__all__ = ["FORMATS", "Format", "detect_format", "find_splits", "open_dataset"]

# Where these two splits are there, "trainval" can be opened too: both together.
TRAINVAL, PARTS = "trainval", ("train", "val")
_TRAINING = ("train", TRAINVAL)
_HELD_OUT = ("val", "valid", "validation", "test")


def detect_format(root: Path, form: str | None = None) -> str:
    """The key in ``FORMATS`` of the dataset in a folder: the first that fits, or ``form`` if that fits.

    Raises:
        DataError: no such folder, none of the accepted trees (which are shown), or not that of ``form``.
        UsageError: there is no such form.
    """
    if form is not None and form not in FORMATS:
        raise UsageError(f"no form {form!r}: {root}: choose one of {', '.join(FORMATS)}")
    if not root.is_dir():
        raise DataError(f"no such folder: {root}: name the dataset's folder")
    for name in FORMATS if form is None else (form,):
        if FORMATS[name].splits(root):
            return name
    if form is not None:
        raise DataError(f"not a dataset in the form {form}: {root}: make it look like this:\n{FORMATS[form].tree}")
    raise DataError(f"not a dataset: {root}: give it one of these forms:\n{_trees_like(root)}")


def _trees_like(root: Path) -> str:
    """The trees that name most of the folders found here, three levels deep; all trees where none does."""
    there = {path.name for level in ("*", "*/*", "*/*/*") for path in root.glob(level) if path.is_dir()}
    trees = dict.fromkeys(known.tree for known in FORMATS.values())
    shared = {tree: sum(re.search(rf"[/ \]]{re.escape(name)}/", tree) is not None for name in there) for tree in trees}
    best = max(shared.values())
    return "\n".join(tree for tree, count in shared.items() if count == best)


def open_dataset(
    root: Path,
    split: str,
    classes: Sequence[str] | None = None,
    *,
    skip_bad_labels: bool = False,
    allow_unlabelled: bool = False,
    remap: Remap = None,
    pixels: PixelRule = COLOUR,
    form: str | None = None,
) -> DetectionDataset:
    """Index one split of a dataset in any format of ``FORMATS``.

    Args:
        root: the dataset's folder.
        split: one of its splits, or "trainval" for train and val together.
        classes: the class names in label order, such as a checkpoint's; matched without regard to case, spaces, hyphens
            and underscores. Without it the names are collected from all splits under ``root``, so that a label means
            the same in each.
        skip_bad_labels: leave bad objects out and count them in ``notes`` (all are in ``skipped``), instead of refusing
            the split. Missing or damaged files are refused all the same.
        allow_unlabelled: take images without a label file as images without objects.
        remap: from names in the labels to names of classes; "" makes such objects ignored ones.
        pixels: how the images are read.
        form: the key of the format, where the folders fit several and the first of them is not the one wanted.

    Raises:
        DataError: unknown format, unknown split, files that are missing or damaged, or bad labels (all are named).
        UsageError: there is no such form.
    """
    reader = FORMATS[detect_format(root, form)]
    found = reader.splits(root)
    parts = PARTS if split == TRAINVAL and set(PARTS) <= set(found) else (split,)
    if not set(parts) <= set(found):
        raise DataError(f"no split {split!r}: {root}: choose one of {', '.join(map(repr, found))}")
    draft = merge([reader.parse(root, part) for part in parts], split)
    others = (reader.parse(root, name) for name in found if name not in parts)
    names = reader.classes(chain([draft], others), remap) if classes is None else classes
    dataset = finish(draft, names, skip_bad_labels=skip_bad_labels, allow_unlabelled=allow_unlabelled, remap=remap)
    return replace(dataset, pixels=pixels)


def find_splits(root: Path, form: str | None = None) -> dict[str, str]:
    """From role to split name: ``train`` (else trainval), and ``val`` for the held-out one (val, valid, else test).

    Case, and a number at the end as in COCO's train2017, do not matter. With ``trainval`` only ``test`` is held out. A
    root that is itself one split gives ``{"all": ""}``. A role without a split is absent.

    Raises:
        DataError: none of the accepted trees.
        UsageError: there is no such form.
    """
    found = FORMATS[detect_format(root, form)].splits(root)
    if found == ("",):
        return {"all": ""}
    names = {re.sub(r"[\W_\d]+$", "", name).lower(): name for name in reversed(found)}
    train = next((name for name in _TRAINING if name in names), None)
    held_out = next((name for name in _HELD_OUT if name in names and (train != TRAINVAL or name == "test")), None)
    return {role: names[name] for role, name in (("train", train), ("val", held_out)) if name is not None}
