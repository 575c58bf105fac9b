"""Readers, one file per format, each ``parse(root, split) -> Draft``, the table of them, and ``open_dataset``.

A new format is one file here and one row in ``FORMATS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fledge.data.datasets import coco, dior_r, dota, hit_uav, hit_uav_xml, hrsc2016, yolo_obb
from fledge.data.datasets.draft import Draft, merge, order_classes, renaming
from fledge.data.datasets.finish import finish
from fledge.data.labels import DetectionDataset, class_key
from fledge.data.raster import COLOUR, PixelRule
from fledge.errors import DataError

Remap = Mapping[str, str] | None


def _named(official: Sequence[str]) -> Callable[[Iterable[Draft], Remap], tuple[str, ...]]:
    """Class names as they occur in the labels, in official order if all are official."""
    return lambda drafts, remap: order_classes(chain.from_iterable(d.names(remap) for d in drafts), official)


def _listed(drafts: Iterable[Draft], remap: Remap) -> tuple[str, ...]:
    """Class names as the splits list them, each once; two spellings within one split stay, to be refused."""
    new = renaming(remap)
    names: list[str] = []
    for draft in sorted(drafts, key=lambda draft: draft.split):
        known = {class_key(name) for name in names}
        names += [name for name in dict.fromkeys(map(new, draft.listed)) if name and class_key(name) not in known]
    return tuple(names)


class Format(NamedTuple):
    """One way to write a dataset down.

    Attributes:
        tree: its folders, as shown to users.
        splits: the splits found under a root; none means that the root is not in this format.
        parse: what the label files of one split state.
        classes: the class names common to the drafts of all splits, after a renaming.
    """

    tree: str
    splits: Callable[[Path], tuple[str, ...]]
    parse: Callable[[Path, str], Draft]
    classes: Callable[[Iterable[Draft], Remap], tuple[str, ...]]


# Where a root could be read in several ways, the first is taken.
FORMATS: dict[str, Format] = {
    "dota": Format(dota.TREE, dota.dota_splits, dota.parse_dota, _named(dota.DOTA_V20)),
    "hit_uav": Format(hit_uav.TREE, hit_uav.hit_uav_splits, hit_uav.parse_hit_uav, _listed),
    "hit_uav_xml": Format(
        hit_uav_xml.TREE, hit_uav_xml.hit_uav_xml_splits, hit_uav_xml.parse_hit_uav_xml, _named(hit_uav.CLASSES)
    ),
    "dior_r": Format(dior_r.TREE, dior_r.dior_r_splits, dior_r.parse_dior_r, _named(dior_r.DIOR)),
    "hrsc2016": Format(hrsc2016.TREE, hrsc2016.hrsc2016_splits, hrsc2016.parse_hrsc2016, lambda *_: hrsc2016.CLASSES),
    "coco": Format(coco.TREE, coco.coco_splits, coco.parse_coco, _listed),
    "yolo_obb": Format(yolo_obb.TREE, yolo_obb.yolo_splits, yolo_obb.parse_yolo, _listed),
}

# Where these two splits are there, "trainval" can be opened too: both together.
TRAINVAL, PARTS = "trainval", ("train", "val")
_TRAINING = ("train", TRAINVAL)
_HELD_OUT = ("val", "valid", "validation", "test")


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


def open_dataset(
    root: Path,
    split: str,
    classes: Sequence[str] | None = None,
    *,
    skip_bad_labels: bool = False,
    allow_unlabelled: bool = False,
    remap: Remap = None,
    pixels: PixelRule = COLOUR,
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

    Raises:
        DataError: unknown format, unknown split, files that are missing or damaged, or bad labels (all are named).
    """
    form = FORMATS[detect_format(root)]
    found = form.splits(root)
    parts = PARTS if split == TRAINVAL and set(PARTS) <= set(found) else (split,)
    if not set(parts) <= set(found):
        raise DataError(f"no split {split!r}: {root}: choose one of {', '.join(map(repr, found))}")
    draft = merge([form.parse(root, part) for part in parts], split)
    others = (form.parse(root, name) for name in found if name not in parts)
    names = form.classes(chain([draft], others), remap) if classes is None else classes
    dataset = finish(draft, names, skip_bad_labels=skip_bad_labels, allow_unlabelled=allow_unlabelled, remap=remap)
    return replace(dataset, pixels=pixels)


def find_splits(root: Path) -> dict[str, str]:
    """From role to split name: ``train`` (else trainval), and ``val`` for the held-out one (val, valid, else test).

    Case, and a number at the end as in COCO's train2017, do not matter. With ``trainval`` only ``test`` is held out. A
    root that is itself one split gives ``{"all": ""}``. A role without a split is absent.

    Raises:
        DataError: none of the accepted trees.
    """
    found = FORMATS[detect_format(root)].splits(root)
    if found == ("",):
        return {"all": ""}
    names = {re.sub(r"[\W_\d]+$", "", name).lower(): name for name in reversed(found)}
    train = next((name for name in _TRAINING if name in names), None)
    held_out = next((name for name in _HELD_OUT if name in names and (train != TRAINVAL or name == "test")), None)
    return {role: names[name] for role, name in (("train", train), ("val", held_out)) if name is not None}
