"""HRSC2016: ships with oriented boxes in XML of its own (Liu et al., ICPRAM 2017, doi 10.5220/0006120603240331).

``mbox_cx``, ``mbox_cy``, ``mbox_w``, ``mbox_h`` and ``mbox_ang`` are the rotated box: pixels, radians, clockwise on
screen, w along the ship. ``box_*`` (horizontal) and ``header_*`` (the bow) are not read. All objects are one class,
``ship``, as in the results that papers report; the ids of ship types are not read. The lists decide what is in a split:
the archive holds more images than they name.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.hit_uav_xml import angle_in_radians
from fledge.data.datasets.xml_labels import XmlForm, difficult_of, numbers, parse_xml, xml_splits
from fledge.data.datasets.xml_tree import Node

TREE = """\
HRSC2016 XML:   ROOT/ImageSets/SPLIT.txt            one image name a line: train, val, trainval, test
                ROOT/FullDataSet/AllImages/NAME.bmp with ROOT/FullDataSet/Annotations/NAME.xml
                (or Train/ and Test/ with the same folders inside; or JPEGImages/ for AllImages/)
                <HRSC_Object> with <mbox_cx> <mbox_cy> <mbox_w> <mbox_h> <mbox_ang> (radians)"""

CLASSES = ("ship",)
_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


def parse_hrsc2016(root: Path, split: str) -> Draft:
    """One split of HRSC2016, every object a ship.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _FORM, TREE)


def hrsc2016_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _FORM)


def _row(node: Node) -> Row:
    cx, cy, w, h, angle = numbers(node, _BOX)
    return Row(0, 0, 0, (cx, cy, w, h, angle_in_radians(angle)), CLASSES[0], difficult_of(node))


_FORM = XmlForm(
    format="hrsc2016",
    mark=b"<mbox_cx>",
    bases=("FullDataSet", "Train", "Test", "."),
    images=("AllImages", "JPEGImages"),
    annotations=("Annotations",),
    objects="HRSC_Object",
    size=("", "Img_SizeWidth", "Img_SizeHeight"),
    row=_row,
)
