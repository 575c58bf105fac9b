"""HIT-UAV in XML, which is also what the tool roLabelImg writes: ``robndbox`` with cx, cy, w, h and angle.

Pixels, radians, x right, y down; the angle is that of w, clockwise on screen; w is not always the long side. The
classes, and ``DontCare``, are as in ``hit_uav``; other class names are taken as they come.
"""

from __future__ import annotations

import math
from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.hit_uav import DONT_CARE
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.datasets.xml_labels import (
    XmlForm,
    child,
    class_of,
    difficult_of,
    numbers,
    parse_xml,
    xml_splits,
)
from fledge.data.datasets.xml_tree import Node
from fledge.data.labels import class_key

TREE = """\
HIT-UAV XML:    ROOT/[rotate_xml/]ImageSets/Main/SPLIT.txt    one image name a line
(roLabelImg)    ROOT/[rotate_xml/]JPEGImages/NAME.jpg with ROOT/[rotate_xml/]Annotations/NAME.xml
                <object> with <name> and <robndbox> of <cx> <cy> <w> <h> <angle> (radians)"""


def parse_hit_uav_xml(root: Path, split: str) -> Draft:
    """One split of HIT-UAV in XML or of a dataset labelled with roLabelImg.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _FORM, TREE)


def hit_uav_xml_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _FORM)


def angle_in_radians(angle: float) -> float:
    """The angle itself.

    Raises:
        BadLabelError: it is more than a full turn, so not in radians.
    """
    if abs(angle) > math.tau:
        what = f"angle {angle:g} is more than a full turn, so not in radians"
        raise BadLabelError(what, "write the angle in radians, clockwise on screen", "angle")
    return angle


def _row(node: Node) -> Row:
    cx, cy, w, h, angle = numbers(child(node, "robndbox"), ("cx", "cy", "w", "h", "angle"))
    name = class_of(node)
    box = (cx, cy, w, h, angle_in_radians(angle))
    return Row(0, 0, 0, box, name, difficult_of(node), class_key(name) == DONT_CARE)


_FORM = XmlForm(
    format="hit_uav_xml",
    mark=b"<cx>",
    bases=(".", "rotate_xml"),
    images=("JPEGImages",),
    annotations=("Annotations",),
    objects="object",
    size=("size", "width", "height"),
    row=_row,
)
