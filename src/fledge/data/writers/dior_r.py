"""DIOR-R XML: the four corners of an object in ``robndbox``, under eight tags that name them in the object's own frame.

Corners keep the order of the labels: the first is called left top, the others follow around the box.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.labels import DetectionDataset
from fledge.data.writers.xml_files import names_of, write_xml

_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)


def write_dior_r(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    corners = dataset.quads.astype("float64").reshape(-1, 8).tolist()
    write_xml(
        root,
        dataset,
        "Annotations/Oriented Bounding Boxes",
        names_of(dataset),
        lambda row: ("robndbox", list(zip(_CORNERS, corners[row], strict=True))),
    )
    return {"ignored object, left out": int(dataset.ignore.sum())}
