"""UCAS-AOD's text: ``ROOT/{CAR,PLANE}/NAME`` with ``STEM.txt`` beside them, and ``ROOT/ImageSets/SPLIT.txt``.

A line has 13 numbers: the four corners, the angle of the first side in degrees from 0 to 180, and the upright box
around them. The folder is the class, so an image holds the objects of one class: the one it has more of. Images of
which no object is written go to ``Neg``. Airplanes are numbered on from the 510 cars, as the reader has it: ``P0511``
becomes ``PLANE/P0001``. There is no word for difficult or ignored objects.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.catalogue.ucas_aod import UCAS_AOD_CLASSES
from fledge.data.datasets.ucas_aod import CARS, NEGATIVE, NUMBER_OF_CARS, PLANES, image_name
from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls
from fledge.data.staging import place
from fledge.data.writers.fixed_classes import FixedClasses
from fledge.data.writers.lost import renamed
from fledge.data.writers.xml_files import write_list

CLASSES = FixedClasses("ucas_aod", {name: number for number, name in enumerate(UCAS_AOD_CLASSES, start=1)})

_FOLDERS = (NEGATIVE, CARS, PLANES)


def image_names(dataset: DetectionDataset) -> list[str]:
    """The images' files below the root, without suffix."""
    folders = [_FOLDERS[number] for number in _class_of_images(dataset, CLASSES.of(dataset)).tolist()]
    return [f"{folder}/{_stem(name, folder)}" for name, folder in zip(dataset.ids, folders, strict=True)]


def read_as(file: str) -> str:
    """What an image in such a file is called when it is read."""
    return image_name(*file.split("/", 1))


def write_ucas_aod(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    numbers = CLASSES.of(dataset)
    written = (numbers > 0) & (numbers == np.repeat(_class_of_images(dataset, numbers), np.diff(dataset.offsets)))
    lines = _lines(dataset)
    for i, path in enumerate(dataset.paths):
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        if path.parent.name != NEGATIVE:
            place(path.with_suffix(".txt"), "".join(lines[r] for r in rows if written[r]).encode())
    names = [image_name(path.parent.name, path.stem) for path in dataset.paths]
    write_list(root / "ImageSets", dataset, names)
    return {
        **CLASSES.lost(dataset),
        "object of the other class in its image, left out": int(((numbers > 0) & ~written).sum()),
        "difficult object, now a plain one": int((dataset.difficult & written).sum()),
        "image with another name, as the folder is part of it": renamed(dataset.ids, names),
    }


def _lines(dataset: DetectionDataset) -> list[str]:
    quads, edges = dataset.quads.astype(np.float64), hulls(dataset)
    side = quads[:, 1] - quads[:, 0]
    angles = np.rad2deg(np.arctan2(side[:, 1], side[:, 0])) % 180
    upright = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1)
    rows = np.concatenate([quads.reshape(-1, 8), angles[:, None], upright], axis=1).tolist()
    return ["\t".join(f"{value:.9e}" for value in row) + "\n" for row in rows]


def _class_of_images(dataset: DetectionDataset, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number (n,) of the class that each image has more of, the first of equals, or 0 without any."""
    owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    counts = np.zeros((len(dataset), len(_FOLDERS)))
    np.add.at(counts, (owner, numbers), 1)
    counts[:, 0] = 0.5  # less than one object of a class
    chosen: NDArray[np.int64] = counts.argmax(axis=1)
    return chosen


def _stem(name: str, folder: str) -> str:
    """The stem that makes an image in a folder be called ``name``, if there is one."""
    number = int(name[1:]) if re.fullmatch(r"P\d{4,6}", name, re.ASCII) else 0
    if folder == PLANES and number > NUMBER_OF_CARS:
        return f"P{number - NUMBER_OF_CARS:04d}"
    return name if folder == CARS else name.removeprefix(f"{folder}_")
