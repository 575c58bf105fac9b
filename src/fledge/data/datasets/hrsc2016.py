"""HRSC2016: ships with oriented boxes in XML of its own (Liu et al., ICPRAM 2017, doi 10.5220/0006120603240331).

``mbox_cx``, ``mbox_cy``, ``mbox_w``, ``mbox_h`` and ``mbox_ang`` are the rotated box: pixels, radians, clockwise on
screen, w along the ship. ``box_*`` (horizontal) and ``header_*`` (the bow) are not read. All objects are one class,
``ship``, as in the results that papers report; the form ``hrsc2016_types`` reads the types of ships instead, by the
last two digits of ``Class_ID``. The lists decide what is in a split: the archive holds more images than they name.
"""

from __future__ import annotations

import re
from pathlib import Path

from fledge.data.catalogue.hrsc2016 import HRSC_CLASSES, HRSC_TYPES
from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.hit_uav_xml import angle_in_radians
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.datasets.xml_labels import XmlForm, difficult_of, numbers, parse_xml, xml_splits
from fledge.data.datasets.xml_tree import Node

TREE = """\
HRSC2016 XML:   ROOT/ImageSets/SPLIT.txt            one image name a line: train, val, trainval, test
                ROOT/FullDataSet/AllImages/NAME.bmp with ROOT/FullDataSet/Annotations/NAME.xml
                (or Train/ and Test/ with the same folders inside; or JPEGImages/ for AllImages/)
                <HRSC_Object> with <mbox_cx> <mbox_cy> <mbox_w> <mbox_h> <mbox_ang> (radians)"""

_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


def parse_hrsc2016(root: Path, split: str) -> Draft:
    """One split of HRSC2016, every object a ship.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _FORM, TREE)


def parse_hrsc2016_types(root: Path, split: str) -> Draft:
    """One split of HRSC2016 with the types of ships.

    Raises:
        DataError: as for ``parse_hrsc2016``.
    """
    return parse_xml(root, split, _FORM._replace(format="hrsc2016_types", row=_typed_row), TREE)


def hrsc2016_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _FORM)


def _row(node: Node) -> Row:
    cx, cy, w, h, angle = numbers(node, _BOX)
    return Row(0, 0, 0, (cx, cy, w, h, angle_in_radians(angle)), HRSC_CLASSES[0], difficult_of(node))


def _typed_row(node: Node) -> Row:
    row, number = _row(node), node.value("Class_ID")
    known = re.fullmatch(r"10{6}(\d\d)", number, re.ASCII)
    if not known or int(known[1]) not in HRSC_TYPES:
        raise BadLabelError(f"Class_ID is {number[:64]!r}", "write 1000000 and the two digits of a type", "class index")
    return row._replace(name=HRSC_TYPES[int(known[1])])


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
