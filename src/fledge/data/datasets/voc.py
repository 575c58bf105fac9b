"""Horizontal boxes in Pascal VOC XML: DIOR, HRRSD, SAR-AIRcraft-1.0, and datasets of one's own.

``bndbox`` holds ``xmin``, ``ymin``, ``xmax`` and ``ymax``, taken as they are: edges of the box in pixels. (VOC's own
development kit counts pixels from 1 and includes both ends; the datasets here do not say, and their readers elsewhere
do not shift either.) A ``name`` is looked for in ``object`` only: HRRSD has another one below ``owner``.

The three datasets differ in their folders alone, so they share this file; the label is the same.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.text_labels import upright
from fledge.data.datasets.xml_labels import XmlForm, child, class_of, difficult_of, numbers, parse_xml, xml_splits
from fledge.data.datasets.xml_tree import Node

TREE = """\
Pascal VOC XML: ROOT/ImageSets/Main/SPLIT.txt       one image name a line
                ROOT/JPEGImages/NAME.jpg with ROOT/Annotations/NAME.xml
                <object> with <name> and <bndbox> of <xmin> <ymin> <xmax> <ymax>"""
DIOR_TREE = """\
DIOR XML:       ROOT/ImageSets/Main/SPLIT.txt       one image name a line: train, val, test
                ROOT/JPEGImages-trainval/NAME.jpg and ROOT/JPEGImages-test/NAME.jpg   (or JPEGImages/)
                ROOT/Annotations/Horizontal Bounding Boxes/NAME.xml
                <object> with <name> and <bndbox> of <xmin> <ymin> <xmax> <ymax>"""
HRRSD_TREE = """\
HRRSD XML:      ROOT/OPT2017/ImageSets/Main/SPLIT.txt   one image name a line: train, val, test
                ROOT/OPT2017/JPEGImages/NAME.jpg with ROOT/OPT2017/Annotations/NAME.xml
                <object> with <name> and <bndbox> of <xmin> <ymin> <xmax> <ymax>"""

# DIOR has the first two; copies of it may have all labels in one folder.
_IMAGES = ("JPEGImages-trainval", "JPEGImages-test", "JPEGImages")
EDGES = ("xmin", "ymin", "xmax", "ymax")


def parse_voc(root: Path, split: str) -> Draft:
    """One split of a dataset in Pascal VOC's folders.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _VOC, TREE)


def voc_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _VOC)


def parse_dior(root: Path, split: str) -> Draft:
    """One split of DIOR with its horizontal boxes.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _DIOR, DIOR_TREE)


def dior_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _DIOR)


def parse_hrrsd(root: Path, split: str) -> Draft:
    """One split of HRRSD.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _HRRSD, HRRSD_TREE)


def hrrsd_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _HRRSD)


def horizontal_box(node: Node) -> Row:
    """An object with a ``bndbox``.

    Raises:
        BadLabelError: it lacks a name or an edge, or its box has no area.
    """
    edges = numbers(child(node, "bndbox"), EDGES)
    return Row(0, 0, 0, upright(*edges), class_of(node), difficult_of(node))


def _form(key: str, base: str, images: tuple[str, ...], annotations: str) -> XmlForm:
    size = ("size", "width", "height")
    return XmlForm(key, b"<xmin>", (base,), images, (annotations,), "object", size, horizontal_box)


_VOC = _form("voc", ".", _IMAGES, "Annotations")
_HRRSD = _form("hrrsd", "OPT2017", ("JPEGImages",), "Annotations")
_DIOR = _form(
    "dior",
    ".",
    _IMAGES,
    "Annotations/Horizontal Bounding Boxes",
)
