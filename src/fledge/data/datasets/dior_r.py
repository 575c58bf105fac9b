"""DIOR-R: the 20 classes of DIOR with oriented boxes in XML (Cheng et al., IEEE TGRS 60, 2022).

An object's ``robndbox`` has its four corners under eight tags, named in the object's own frame and not by their place
on screen; they are read by name. Images are 800 x 800; 00001 to 11725 are for training and validation, the rest for the
test. Papers train on ``trainval``, the splits ``train`` and ``val`` together.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
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

TREE = """\
DIOR-R XML:     ROOT/ImageSets/Main/SPLIT.txt       one image name a line: train, val, test
                ROOT/JPEGImages-trainval/NAME.jpg and ROOT/JPEGImages-test/NAME.jpg   (or JPEGImages/)
                ROOT/Annotations/Oriented Bounding Boxes/NAME.xml                     (or Annotations/)
                <object> with <name> and <robndbox> of <x_left_top> … <y_left_bottom>"""

_CORNERS = tuple(
    f"{axis}_{corner}" for corner in ("left_top", "right_top", "right_bottom", "left_bottom") for axis in "xy"
)


def parse_dior_r(root: Path, split: str) -> Draft:
    """One split of DIOR-R or of a dataset written in its form.

    Raises:
        DataError: the list of the split is missing or empty, or two image files share a name.
    """
    return parse_xml(root, split, _FORM, TREE)


def dior_r_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    return xml_splits(root, _FORM)


def _row(node: Node) -> Row:
    corners = numbers(child(node, "robndbox"), _CORNERS)
    return Row(0, 0, 0, corners, class_of(node), difficult_of(node))


_FORM = XmlForm(
    format="dior_r",
    mark=b"<x_left_top>",
    bases=(".",),
    images=("JPEGImages-trainval", "JPEGImages-test", "JPEGImages"),
    annotations=("Annotations/Oriented Bounding Boxes", "Annotations"),
    objects="object",
    size=("size", "width", "height"),
    row=_row,
)
