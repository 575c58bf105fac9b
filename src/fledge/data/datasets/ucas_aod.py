"""UCAS-AOD: oriented boxes of cars and airplanes in text; the folder says which.

A line has 13 numbers, often in scientific notation and separated by tabs: the four corners, an angle in degrees, and
the horizontal box; the corners are read. Without lists the whole set is one split; ``ImageSets/SPLIT.txt`` makes splits
of it. Both folders use the names from P0001 on. As in the lists that circulate, airplanes are numbered on from the 510
cars: ``PLANE/P0001`` is called P0511. Images of ``Neg`` have no objects and are called ``Neg_`` and their name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import images_by_stem, list_names, listed_images, split_lists
from fledge.data.datasets.text_labels import BadLabelError, decimals, read_lines_of
from fledge.errors import DataError

TREE = """\
UCAS-AOD txt:   ROOT/CAR/P0001.png with P0001.txt, ROOT/PLANE/P0001.png with P0001.txt beside them
                ROOT/Neg/P0001.png                          images without objects
                each line: x1 y1 x2 y2 x3 y3 x4 y4 angle x y w h
                optional: ROOT/ImageSets/SPLIT.txt          P0001 (cars), P0511 (airplanes), Neg_P0001"""

CARS, PLANES, NEGATIVE = "CAR", "PLANE", "Neg"
_CLASS = {CARS: "car", PLANES: "airplane"}
NUMBER_OF_CARS = 510
_FORM = "write x1 y1 x2 y2 x3 y3 x4 y4 angle x y w h"


def parse_ucas_aod(root: Path, split: str) -> Draft:
    """One split: the images of a list, or all of them (``split=""``).

    Raises:
        DataError: the folders or the list are missing.
    """
    if split not in ucas_aod_splits(root):
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    folders = {part: images_by_stem([root / part]) for part in (*_CLASS, NEGATIVE)}
    images = {image_name(part, stem): path for part, found in folders.items() for stem, path in found.items()}
    draft = Draft(root, split, "ucas_aod")
    if split:
        images, draft.damage = listed_images(_lists(root)[split], images)
    draft.images, draft.ids = list(images.values()), list(images)
    for index, path in enumerate(draft.images):
        labels = path.with_suffix(".txt")
        if path.parent.name != NEGATIVE and labels.is_file():
            read_lines_of(draft, index, labels, _reader(_CLASS[path.parent.name]))
        elif path.parent.name != NEGATIVE:
            draft.unlabelled = ([*draft.unlabelled[0], path.name], path.parent)
    return draft


def ucas_aod_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists, or ("",)."""
    if not any(next((root / part).glob("*.txt"), None) for part in _CLASS):
        return ()
    return list_names(_lists(root)) or ("",)


def image_name(folder: str, stem: str) -> str:
    """What the image with a stem in one of the three folders is called."""
    if folder == PLANES and re.fullmatch(r"P\d{1,6}", stem, re.ASCII):
        return f"P{int(stem[1:]) + NUMBER_OF_CARS:04d}"
    return stem if folder == CARS else f"{folder}_{stem}"


def _lists(root: Path) -> dict[str, Path]:
    return split_lists([root / "ImageSets", root / "ImageSets" / "Main"])


def _reader(name: str) -> Callable[[str], Row]:
    def parse(text: str) -> Row:
        fields = text.split()
        if len(fields) != 13:
            raise BadLabelError(f"{len(fields)} numbers instead of 13", _FORM, "fields")
        return Row(0, 0, 0, decimals(fields, "number", _FORM)[:8], name)

    return parse
