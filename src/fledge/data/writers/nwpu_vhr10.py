"""NWPU VHR-10's text: ``ROOT/positive image set/NAME``, ``ROOT/ground truth/STEM.txt``, ``ROOT/ImageSets/SPLIT.txt``.

A line is ``(x1,y1),(x2,y2),class``: upright boxes, whole pixels, the number of one of ten classes. Images of which no
object is written go to ``negative image set``, whose images are called ``negative_`` and the name of the file. There is
no word for difficult or ignored objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.catalogue.nwpu_vhr10 import VHR10_CLASSES
from fledge.data.datasets.nwpu_vhr10 import LABELS, NEGATIVE, NEGATIVE_PREFIX, POSITIVE, image_name
from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls, turned
from fledge.data.staging import place
from fledge.data.writers.fixed_classes import FixedClasses
from fledge.data.writers.lost import renamed
from fledge.data.writers.xml_files import write_list

CLASSES = FixedClasses("nwpu_vhr10", {name: number for number, name in enumerate(VHR10_CLASSES, start=1)})

_WIDEST = 999_999  # the reader takes six digits


def image_names(dataset: DetectionDataset) -> list[str]:
    """The images' files below the root, without suffix."""
    written = CLASSES.of(dataset) > 0
    counts = np.diff(np.append(0, np.cumsum(written))[dataset.offsets])
    return [
        f"{POSITIVE}/{name}" if count else f"{NEGATIVE}/{name.removeprefix(NEGATIVE_PREFIX)}"
        for name, count in zip(dataset.ids, counts.tolist(), strict=True)
    ]


def read_as(file: str) -> str:
    """What an image in such a file is called when it is read."""
    return image_name(*file.split("/", 1))


def write_nwpu_vhr10(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    numbers = CLASSES.of(dataset)
    exact, written = hulls(dataset), numbers > 0
    edges = _whole(exact, np.repeat(dataset.sizes[:, ::-1], np.diff(dataset.offsets), axis=0))
    lines = [f"({x1},{y1}),({x2},{y2}),{n}\n" for (x1, y1, x2, y2), n in zip(edges.tolist(), numbers, strict=True)]
    (root / LABELS).mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(dataset.paths):
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        if path.parent.name == POSITIVE:
            place(root / LABELS / f"{path.stem}.txt", "".join(lines[r] for r in rows if written[r]).encode())
    names = [image_name(path.parent.name, path.stem) for path in dataset.paths]
    write_list(root / "ImageSets", dataset, names)
    return {
        **CLASSES.lost(dataset),
        "difficult object, now a plain one": int((dataset.difficult & written).sum()),
        "turned box, now the upright one around it": int((turned(dataset) & written).sum()),
        "box rounded to whole pixels": int(((np.abs(edges - exact) > 1e-3).any(axis=1) & written).sum()),
        "image without objects, now called negative_ and its name": renamed(dataset.ids, names),
    }


def _whole(edges: NDArray[np.float64], sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Boxes (T, 4) of whole pixels in images of (T, 2) width and height: the nearest, but outwards where that would
    leave no box, or none in the image.
    """
    low, high = np.rint(edges[:, :2]), np.rint(edges[:, 2:])
    gone = (high <= low) | (high <= 0) | (low >= sizes)
    low, high = np.where(gone, np.floor(edges[:, :2]), low), np.where(gone, np.ceil(edges[:, 2:]), high)
    whole: NDArray[np.int64] = np.concatenate([low, high], axis=1).clip(-_WIDEST, _WIDEST).astype(np.int64)
    return whole
