"""HRSC2016's XML: ``ROOT/FullDataSet/{AllImages/NAME,Annotations/STEM.xml}`` and ``ROOT/ImageSets/SPLIT.txt``.

Boxes as ``mbox_cx`` … ``mbox_ang`` (radians, w the long side, which is along a ship), and the upright ones around them
as ``box_xmin`` …; no ``header_…``, since no bow is known. ``Class_ID`` is that of the ship's type
(``fledge.data.catalogue.hrsc2016``): read as ``hrsc2016`` all are ships, as ``hrsc2016_types`` they keep their types.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from fledge.data.catalogue.hrsc2016 import HRSC_TYPES
from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls
from fledge.data.staging import place
from fledge.data.writers.fixed_classes import FixedClasses
from fledge.data.writers.lost import lost_corners
from fledge.data.writers.xml_files import tagged, write_list

CLASSES = FixedClasses("hrsc2016", {name: number for number, name in HRSC_TYPES.items()})

_HULL = ("box_xmin", "box_ymin", "box_xmax", "box_ymax")
_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


def image_folder(_: str) -> str:
    """Where the images lie, below the root: those of all splits in one folder."""
    return "FullDataSet/AllImages"


def write_hrsc2016(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    numbers = CLASSES.of(dataset).tolist()
    boxes = [
        tagged([*zip(_HULL, hull, strict=True), *zip(_BOX, box, strict=True)])
        for hull, box in zip(hulls(dataset).tolist(), dataset.boxes.astype("float64").tolist(), strict=True)
    ]
    for i, path in enumerate(dataset.paths):
        height, width = dataset.sizes[i].tolist()
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        lines = [
            "<HRSC_Image>",
            f"  <Img_ID>{escape(path.stem)}</Img_ID>",
            f"  <Img_SizeWidth>{width}</Img_SizeWidth><Img_SizeHeight>{height}</Img_SizeHeight>",
            "  <HRSC_Objects>",
            *(_object(numbers[r], bool(dataset.difficult[r]), boxes[r]) for r in rows if numbers[r]),
            "  </HRSC_Objects>",
            "</HRSC_Image>",
        ]
        place(root / "FullDataSet" / "Annotations" / f"{path.stem}.xml", ("\n".join(lines) + "\n").encode())
    write_list(root / "ImageSets", dataset, [path.stem for path in dataset.paths])
    return {**CLASSES.lost(dataset), **lost_corners(dataset, CLASSES.of(dataset) > 0)}


def _object(number: int, difficult: bool, boxes: str) -> str:
    return (
        f"    <HRSC_Object><Class_ID>1000000{number:02d}</Class_ID><difficult>{int(difficult)}</difficult>\n"
        f"      {boxes}</HRSC_Object>"
    )
