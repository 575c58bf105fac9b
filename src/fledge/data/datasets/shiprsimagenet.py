"""ShipRSImageNet V1.0 and V1.1: oriented boxes of ships in Pascal VOC XML, classes at four levels.

The quadrilateral is under ``polygon``; ``name`` is the class of level 3, and ``level_0`` to ``level_3`` are the numbers
of the classes of each level, counted from 1. Lists may name images with their suffix. The COCO files of the archive
(``COCO_Format/``) are read by the form ``coco``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fledge.data.catalogue.shiprsimagenet import LEVELS
from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.datasets.xml_labels import XmlForm, child, class_of, difficult_of, numbers, parse_xml, xml_splits
from fledge.data.datasets.xml_tree import Node

TREE = """\
ShipRSImageNet: ROOT/VOC_Format/ImageSets/[Main/]SPLIT.txt                    one image name a line
                ROOT/VOC_Format/JPEGImages/NAME.bmp with ROOT/VOC_Format/annotations/NAME.xml   (or Annotations/)
                <object> with <name>, <level_0> … <level_3> and <polygon> of <x1> <y1> … <x4> <y4>"""

FINEST = 3
_CORNERS = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")


def parse_shiprsimagenet(root: Path, split: str) -> Draft:
    """One split with the 50 classes of level 3, by name.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _form(FINEST), TREE)


def at_level(level: int) -> Callable[[Path, str], Draft]:
    """The same, with the classes of a coarser level, by the number that each object has for it."""
    return lambda root, split: parse_xml(root, split, _form(level), TREE)


def shiprsimagenet_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _form(FINEST))


def _form(level: int) -> XmlForm:
    return XmlForm(
        format="shiprsimagenet" if level == FINEST else f"shiprsimagenet_level{level}",
        mark=b"<polygon>",
        bases=("VOC_Format", "."),
        images=("JPEGImages",),
        annotations=("annotations", "Annotations"),
        objects="object",
        size=("size", "width", "height"),
        row=lambda node: _row(node, level),
    )


def _row(node: Node, level: int) -> Row:
    corners = numbers(child(node, "polygon"), _CORNERS)
    name = class_of(node) if level == FINEST else _class_at(node, level)
    return Row(0, 0, 0, corners, name, difficult_of(node))


def _class_at(node: Node, level: int) -> str:
    names, text = LEVELS[level], node.value(f"level_{level}")
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= len(names)):
        remedy = f"write the number of a class of that level, 1 to {len(names)}"
        raise BadLabelError(f"level_{level} is {text[:64]!r}", remedy, "class index")
    return names[int(text) - 1]
