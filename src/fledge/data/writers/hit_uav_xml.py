"""HIT-UAV's XML, which is also that of the labelling tool roLabelImg: ``robndbox`` with cx, cy, w, h and angle.

Angles are radians from 0 to pi. Ignored objects get the class DontCare. A quadrilateral that is no rectangle becomes
the rectangle of least area around it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.writers.lost import lost_corners
from fledge.data.writers.xml_files import names_of, write_xml

_TAGS = ("cx", "cy", "w", "h", "angle")


def write_hit_uav_xml(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    boxes = dataset.boxes.astype("float64")
    boxes[:, 4] %= math.pi
    rows = boxes.tolist()
    write_xml(
        root,
        dataset,
        "Annotations",
        names_of(dataset, ignored="DontCare"),
        lambda row: ("robndbox", list(zip(_TAGS, rows[row], strict=True))),
    )
    return lost_corners(dataset, np.ones(len(dataset.labels), dtype=np.bool_))
