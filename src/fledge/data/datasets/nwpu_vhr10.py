"""NWPU VHR-10: horizontal boxes in text, ``(x1,y1),(x2,y2),class`` with classes numbered from 1.

There is no official split. Without lists the whole set is one split, images without objects (the negative set)
included; ``ImageSets/SPLIT.txt`` beside the folders makes splits of it. Both folders use the numbers from 001 on, so a
negative image is called ``negative_001``.
"""

from __future__ import annotations

import re
from pathlib import Path

from fledge.data.catalogue.nwpu_vhr10 import VHR10_CLASSES
from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import images_by_stem, list_names, listed_images, split_lists
from fledge.data.datasets.text_labels import BadLabelError, read_lines_of, upright
from fledge.errors import DataError

TREE = """\
NWPU VHR-10:    ROOT/positive image set/001.jpg with ROOT/ground truth/001.txt
                ROOT/negative image set/001.jpg             images without objects
                each line: (x1,y1),(x2,y2),class            class 1 to 10
                optional: ROOT/ImageSets/SPLIT.txt          001 or negative_001, one a line"""

POSITIVE, NEGATIVE, LABELS = "positive image set", "negative image set", "ground truth"
NEGATIVE_PREFIX = "negative_"
_LINE = re.compile(r"\(([+-]?\d{1,6}),([+-]?\d{1,6})\),\(([+-]?\d{1,6}),([+-]?\d{1,6})\),(\d{1,3})", re.ASCII)
_FORM = "write (x1,y1),(x2,y2),class"


def parse_nwpu_vhr10(root: Path, split: str) -> Draft:
    """One split: the images of a list, or all of them (``split=""``).

    Raises:
        DataError: the folders or the list are missing.
    """
    if split not in nwpu_vhr10_splits(root):
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    folders = {part: images_by_stem([root / part]) for part in (POSITIVE, NEGATIVE)}
    images = {image_name(part, stem): path for part, found in folders.items() for stem, path in found.items()}
    draft = Draft(root, split, "nwpu_vhr10")
    if split:
        images, draft.damage = listed_images(_lists(root)[split], images)
    draft.images, draft.ids = list(images.values()), list(images)
    for index, path in enumerate(draft.images):
        labels = root / LABELS / f"{path.stem}.txt"
        if path.parent.name == POSITIVE and labels.is_file():
            read_lines_of(draft, index, labels, _parse_line)
        elif path.parent.name == POSITIVE:
            draft.unlabelled = ([*draft.unlabelled[0], path.name], root / LABELS)
    return draft


def nwpu_vhr10_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists, or ("",)."""
    if not (root / POSITIVE).is_dir() or not (root / LABELS).is_dir():
        return ()
    return list_names(_lists(root)) or ("",)


def image_name(folder: str, stem: str) -> str:
    """What the image with a stem in one of the two folders is called."""
    return f"{NEGATIVE_PREFIX}{stem}" if folder == NEGATIVE else stem


def _lists(root: Path) -> dict[str, Path]:
    return split_lists([root / "ImageSets"])


def _parse_line(text: str) -> Row:
    found = _LINE.fullmatch(re.sub(r"\s", "", text))
    if not found:
        raise BadLabelError(f"{text[:64]!r} is no object", _FORM, "fields")
    number = int(found[5])
    if not 1 <= number <= len(VHR10_CLASSES):
        raise BadLabelError(f"class is {number}", f"write a number from 1 to {len(VHR10_CLASSES)}", "class index")
    return Row(0, 0, 0, upright(*(float(found[k]) for k in range(1, 5))), VHR10_CLASSES[number - 1])
