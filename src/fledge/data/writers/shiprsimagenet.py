"""ShipRSImageNet's XML: ``ROOT/VOC_Format/{JPEGImages/NAME,annotations/STEM.xml,ImageSets/SPLIT.txt}``.

The corners are under ``polygon``, the upright box around them under ``bndbox``. ``name`` is a class of level 3, and
``level_0`` to ``level_3`` are the numbers of the classes it belongs to. Lists name images with their suffix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fledge.data.catalogue.shiprsimagenet import LEVELS, level_numbers
from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls
from fledge.data.staging import place
from fledge.data.writers.fixed_classes import FixedClasses
from fledge.data.writers.xml_files import EDGES, NUMBERED, element, tagged, write_annotations

CLASSES = FixedClasses("shiprsimagenet", {name: number for number, name in enumerate(LEVELS[3], start=1)})

_BASE = "VOC_Format"


def image_folder(_: str) -> str:
    """Where the images lie, below the root: those of all splits in one folder."""
    return f"{_BASE}/JPEGImages"


def write_shiprsimagenet(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    numbers, edges = CLASSES.of(dataset).tolist(), hulls(dataset).tolist()
    corners = dataset.quads.astype(np.float64).reshape(-1, 8).tolist()

    def content(row: int) -> str:
        levels = [(f"level_{level}", float(number)) for level, number in enumerate(level_numbers(numbers[row]))]
        box = element("bndbox", list(zip(EDGES, edges[row], strict=True)))
        return tagged(levels) + box + element("polygon", list(zip(NUMBERED, corners[row], strict=True)))

    names = [LEVELS[3][number - 1] if number else "" for number in numbers]
    write_annotations(root / _BASE / "annotations", dataset, names, content)
    lines = "".join(f"{path.name}\n" for path in dataset.paths)
    place(root / _BASE / "ImageSets" / f"{dataset.split}.txt", lines.encode())
    return CLASSES.lost(dataset)
