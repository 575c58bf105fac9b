"""OHD-SJTU-S and -L: oriented boxes with a heading, in text.

One object per line: ``x1 y1 … x4 y4 x_head y_head class difficult``, pixels of the whole image. The quadrilateral is
kept as labelled. Its first corner is on the side of the object's head; in the part that comes from DOTA the head point
is the middle of corners 1 and 2. So the order of the corners tells the heading; the head point is checked and not
stored. A reader made for DOTA would take ``x_head`` for the class.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.datasets.dota import difficult_flag
from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import image_files
from fledge.data.datasets.text_labels import BadLabelError, decimals, read_lines
from fledge.errors import DataError

TREE = """\
OHD-SJTU txt:   ROOT/SPLIT/images/NAME.jpg with ROOT/SPLIT/rotation_txt/NAME.txt      trainval, test
                each line: x1 y1 x2 y2 x3 y3 x4 y4 x_head y_head class difficult"""

_LABELS = "rotation_txt"
_FORM = "write x1 y1 x2 y2 x3 y3 x4 y4 x_head y_head class difficult"


def parse_ohd_sjtu(root: Path, split: str) -> Draft:
    """One split of OHD-SJTU; a missing ``difficult`` is 0.

    Raises:
        DataError: the folders are not there, hold no images, or label files have no image.
    """
    folder = root / split
    if split not in ohd_sjtu_splits(root):
        raise DataError(f"no split {split!r}: {root}: make it look like this:\n{TREE}")
    images = image_files(folder / "images")
    if not images:
        raise DataError(f"no images: {folder / 'images'}: put the split's images there")
    draft = Draft(root, split, "ohd_sjtu", images)
    read_lines(draft, folder / _LABELS, _parse_line)
    return draft


def ohd_sjtu_splits(root: Path) -> tuple[str, ...]:
    """The sub-folders with images and ``rotation_txt``."""
    found = (path.parent for path in root.glob(f"*/{_LABELS}"))
    return tuple(sorted(folder.name for folder in found if (folder / "images").is_dir()))


def _parse_line(text: str) -> Row:
    fields = text.split()
    if len(fields) not in (11, 12):
        hint = " (9 or 10 are DOTA's form: call the folder labelTxt)" if len(fields) in (9, 10) else ""
        raise BadLabelError(f"{len(fields)} fields instead of 11 or 12{hint}", _FORM, "fields")
    numbers = decimals(fields[:10], "coordinate", _FORM)
    return Row(0, 0, 0, numbers[:8], fields[10], difficult_flag(fields[11] if len(fields) == 12 else ""))
