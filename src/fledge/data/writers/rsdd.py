"""RSDD-SAR's XML: ``ROOT/JPEGImages/NAME``, ``ROOT/Annotations/STEM.xml``, ``ROOT/ImageSets/SPLIT.json``.

``robndbox`` has cx, cy, h, w and angle, of which ``h`` is the long side and the angle (radians) belongs to it.
``polarization`` tells the form from roLabelImg's; it is empty, as no labels state it. The json file of a split is
COCO's, with the labels too, as in MMRotate's copy. RSDD-SAR's only class is ``ship``; others are written as they are.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.labels import DetectionDataset
from fledge.data.writers.coco import coco_content
from fledge.data.writers.lost import lost_corners
from fledge.data.writers.xml_files import element, names_of, write_annotations
from fledge.files import write_json

_TAGS = ("cx", "cy", "h", "w", "angle")


def write_rsdd(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    boxes = dataset.boxes.astype("float64").tolist()  # le90: the first side is the long one
    write_annotations(
        root / "Annotations",
        dataset,
        names_of(dataset),
        lambda row: element("robndbox", list(zip(_TAGS, boxes[row], strict=True))),
        "<polarization></polarization>",
    )
    write_json(root / "ImageSets" / f"{dataset.split}.json", coco_content(dataset))
    return {"ignored object, left out": int(dataset.ignore.sum()), **lost_corners(dataset, ~dataset.ignore)}
