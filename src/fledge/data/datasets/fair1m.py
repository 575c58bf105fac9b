"""FAIR1M-1.0 and -2.0: oriented boxes in XML of their own (arXiv 2103.05569).

An object has its class in ``possibleresult/name`` and its corners as the text ``x,y`` of ``points/point``; there are
five, and the last repeats the first. Nothing is difficult. File numbers begin anew in each part of a split, so an image
of ``part1`` is called ``part1_123``.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import image_files
from fledge.data.datasets.text_labels import BadLabelError, decimal
from fledge.data.datasets.xml_labels import XmlForm, child, class_of, existing, read_labels
from fledge.data.datasets.xml_tree import Node
from fledge.errors import DataError

TREE = """\
FAIR1M XML:     ROOT/SPLIT/[PART/]images/123.tif with ROOT/SPLIT/[PART/]labelXml/123.xml
                train (its parts part1, part2), validation
                <object> with <possibleresult><name> and <points> of five <point>x,y</point>"""

_LABELS = ("labelXml", "labelXmls")
_POINTS = "write four corners, and the first again, as <point>x,y</point>"


def parse_fair1m(root: Path, split: str) -> Draft:
    """One split of FAIR1M, all its parts together.

    Raises:
        DataError: the split is not there, or has no images.
    """
    draft = Draft(root, split, "fair1m")
    for part in _parts(root / split):
        before = len(draft.images)
        read_labels(draft, image_files(part / "images"), existing(part, (".",), _LABELS), _FORM)
        prefix = "" if part == root / split else f"{part.name}_"
        draft.ids += [f"{prefix}{path.stem}" for path in draft.images[before:]]
    if not draft.images:
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    return draft


def fair1m_splits(root: Path) -> tuple[str, ...]:
    """The sub-folders with images and ``labelXml``, directly or in parts."""
    folders = [folder for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    return tuple(sorted(folder.name for folder in folders if _parts(folder)))


def _parts(split: Path) -> list[Path]:
    """The split's folder or those in it that hold images and labels."""
    inner = sorted(path for path in split.iterdir() if path.is_dir()) if split.is_dir() else []
    return [part for part in (split, *inner) if (part / "images").is_dir() and existing(part, (".",), _LABELS)]


def _row(node: Node) -> Row:
    points = [_point(point) for point in child(node, "points").children if point.tag == "point"]
    if len(points) == 5 and points[0] == points[-1]:
        del points[-1]
    if len(points) != 4:
        raise BadLabelError(f"{len(points)} corners instead of 4", _POINTS, "fields")
    return Row(0, 0, 0, tuple(value for point in points for value in point), class_of(child(node, "possibleresult")))


def _point(node: Node) -> tuple[float, float]:
    parts = node.text.split(",")
    if len(parts) != 2:
        raise BadLabelError(f"point is {node.text.strip()[:64]!r}", _POINTS, "fields")
    x, y = (decimal(part.strip(), "coordinate", _POINTS) for part in parts)
    return x, y


_FORM = XmlForm(
    format="fair1m",
    mark=b"<point>",
    bases=(".",),
    images=("images",),
    annotations=_LABELS,
    objects="object",
    size=("size", "width", "height"),
    row=_row,
)
