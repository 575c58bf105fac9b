"""RSDD-SAR: ships in SAR images with oriented boxes in XML.

The tags are those of roLabelImg, but mean something else: ``h`` is the long side and ``angle`` (radians) belongs to it.
Reading ``w`` and ``h`` as they stand would turn every box by 90 degrees, so they are exchanged here. A list of images
is text, or the COCO json of MMRotate's copy, of which only the names of the images are read.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import images_by_stem, list_names
from fledge.data.datasets.hit_uav_xml import angle_in_radians
from fledge.data.datasets.json_labels import load_json
from fledge.data.datasets.xml_labels import (
    XmlForm,
    child,
    class_of,
    difficult_of,
    existing,
    has_mark,
    numbers,
    parse_xml,
    read_labels,
    xml_splits,
)
from fledge.data.datasets.xml_tree import Node
from fledge.data.labels import LabelProblem
from fledge.errors import DataError

TREE = """\
RSDD-SAR XML:   ROOT/ImageSets/SPLIT.json           COCO json, for the names of the images (or SPLIT.txt)
                ROOT/JPEGImages/NAME.jpg with ROOT/Annotations/NAME.xml
                <object> with <name> and <robndbox> of <cx> <cy> <h> <w> <angle>: the angle is that of <h>"""


def parse_rsdd(root: Path, split: str) -> Draft:
    """One split of RSDD-SAR.

    Raises:
        DataError: the list of the split is missing, empty or damaged, or two image files share a name.
    """
    path = root / "ImageSets" / f"{split}.json"
    if not path.is_file():
        return parse_xml(root, split, _FORM, TREE)
    draft = Draft(root, split, "rsdd")
    images = images_by_stem(existing(root, (".",), _FORM.images))
    chosen: dict[str, Path] = {}
    for position, entry in enumerate(load_json(path, "a list of images", f"make it look like this:\n{TREE}")["images"]):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        stem = Path(name).stem if isinstance(name, str) else ""
        if stem in chosen or stem not in images:
            what = f"{str(name)[:64]!r} {'is listed twice' if stem in chosen else 'has no image file'}"
            draft.damage.append(LabelProblem(f"{path}: image {position}", what, "correct the list", "list"))
        else:
            chosen[stem] = images[stem]
    if not chosen and not draft.damage:
        raise DataError(f"no images: {path}: the list is empty: name the split's images")
    read_labels(draft, list(chosen.values()), existing(root, (".",), _FORM.annotations), _FORM)
    return draft


def rsdd_splits(root: Path) -> tuple[str, ...]:
    """The names of the lists."""
    if not has_mark(existing(root, (".",), _FORM.annotations), _FORM.mark):
        return ()
    return list_names([*xml_splits(root, _FORM), *(path.stem for path in root.glob("ImageSets/*.json"))])


def _row(node: Node) -> Row:
    cx, cy, h, w, angle = numbers(child(node, "robndbox"), ("cx", "cy", "h", "w", "angle"))
    return Row(0, 0, 0, (cx, cy, h, w, angle_in_radians(angle)), class_of(node), difficult_of(node))


_FORM = XmlForm(
    format="rsdd",
    mark=b"<polarization>",
    bases=(".",),
    images=("JPEGImages", "JPEGValidation"),
    annotations=("Annotations",),
    objects="object",
    size=("size", "width", "height"),
    row=_row,
)
