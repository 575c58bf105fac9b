"""SSDD, ships in SAR images, as officially released in Pascal VOC XML: with oriented boxes (RBox) or horizontal ones.

RBox files hold under ``rotated_bndbox`` the four corners as ``x1`` … ``y4``, which are read, and the same box as
``rotated_bbox_cx`` … ``rotated_bbox_theta`` (degrees), which is not. BBox files hold ``bndbox``. The folders of
annotations say what is in a split; ``test_inshore`` and ``test_offshore`` are parts of ``test``. MMRotate's copy (COCO
json) is read by the form ``coco``.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import images_by_stem
from fledge.data.datasets.voc import horizontal_box
from fledge.data.datasets.xml_labels import (
    XmlForm,
    child,
    class_of,
    difficult_of,
    existing,
    has_mark,
    numbers,
    read_labels,
)
from fledge.data.datasets.xml_tree import Node
from fledge.data.labels import LabelProblem
from fledge.errors import DataError

TREE = """\
SSDD XML:       ROOT/[RBox_SSDD/][voc_style/]Annotations_SPLIT/000001.xml   train, test, test_inshore, test_offshore
                with JPEGImages_SPLIT/000001.jpg beside it (or JPEGImages/)
                <object> with <name> and <rotated_bndbox> of <x1> <y1> … <x4> <y4>, or with <bndbox>"""

_BASES = (".", "voc_style", "RBox_SSDD/voc_style", "BBox_SSDD/voc_style")
_PREFIX = "Annotations_"
_CORNERS = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")


def parse_ssdd(root: Path, split: str) -> Draft:
    """One split of SSDD.

    Raises:
        DataError: the split is not there, or two image files share a name.
    """
    labels = _folders(root).get(split)
    if labels is None:
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    draft = Draft(root, split, "ssdd")
    own = existing(labels.parent, (".",), (f"JPEGImages_{split}",))
    images = images_by_stem(own or existing(labels.parent, (".",), ("JPEGImages",)))
    labelled = {path.stem: path for path in sorted(labels.glob("*.xml"))}
    for stem in sorted(labelled.keys() - images.keys()):
        draft.damage.append(LabelProblem(str(labelled[stem]), "it has no image", f"add {stem}.jpg", "list"))
    chosen = images if own else {stem: path for stem, path in images.items() if stem in labelled}
    read_labels(draft, [chosen[stem] for stem in sorted(chosen)], [labels], _FORM)
    return draft


def ssdd_splits(root: Path) -> tuple[str, ...]:
    """The splits with a folder of annotations."""
    return tuple(sorted(_folders(root)))


def _folders(root: Path) -> dict[str, Path]:
    """From split to its folder of annotations; the first of the usual places that has any counts."""
    for base in _BASES:
        found = [path for path in sorted((root / base).glob(f"{_PREFIX}*")) if path.is_dir()]
        if has_mark(found, b"<rotated_bndbox>") or has_mark(found, b"<bndbox>"):
            return {path.name.removeprefix(_PREFIX): path for path in found}
    return {}


def _row(node: Node) -> Row:
    if node.find("rotated_bndbox") is None:
        return horizontal_box(node)
    corners = numbers(child(node, "rotated_bndbox"), _CORNERS)
    return Row(0, 0, 0, corners, class_of(node), difficult_of(node))


_FORM = XmlForm(
    format="ssdd",
    mark=b"bndbox>",
    bases=_BASES,
    images=("JPEGImages",),
    annotations=(_PREFIX,),
    objects="object",
    size=("size", "width", "height"),
    row=_row,
)
