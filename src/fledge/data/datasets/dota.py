"""DOTA txt labels (DOTA-v1.0, v1.5, v2.0 and the many datasets written in their form).

One object per line: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``, pixels of the whole image, clockwise. Source: the
label format at https://captain-whu.github.io/DOTA/dataset.html; header lines and a missing ``difficult`` as in the
authors' DOTA_devkit (dota_utils.py), except that nothing else is skipped: every other line must be an object.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from fledge.data.datasets.draft import Draft, Row, first_few
from fledge.data.datasets.folders import image_files
from fledge.data.datasets.text_labels import BadLabelError, decimals, read_lines
from fledge.errors import DataError

TREE = """\
DOTA txt:       ROOT/SPLIT/images/NAME.png          (or images/images/)
                ROOT/SPLIT/labelTxt/NAME.txt        (or labelTxt-v1.0/, labelTxt-v1.5/, labelTxt-v2.0/, annfiles/)
                each line: x1 y1 x2 y2 x3 y3 x4 y4 class difficult"""

LABEL_FOLDERS = ("labelTxt", "annfiles", "labelTxt-v2.0", "labelTxt-v1.5", "labelTxt-v1.0")
_HEADER = re.compile(r"(imagesource|gsd)\s*:", re.IGNORECASE)
_FORM = "write x1 y1 x2 y2 x3 y3 x4 y4 class difficult"
_DIFFICULT = {"0": False, "1": True, "2": True, "": None}
# What `fledge tile` and `fledge convert` write into these files of a split, or of the root, to say what 2 means.
MANIFESTS = ("tiles.json", "converted.json")
IGNORED_AS_2 = {"difficult_2": "ignored"}


def parse_dota(root: Path, split: str) -> Draft:
    """One split of a dataset in DOTA form; ``split=""`` reads a folder that is itself the split.

    An empty label file, or one with header lines only, is a valid image without objects. A missing ``difficult`` is 0;
    2 (an object cut by the tiling tools) counts as difficult, or as ignored where a manifest of fledge's own tools says
    so. Quads whose sides cross are put in order.

    Raises:
        DataError: the folders are not there, hold no images, or label files have no image.
    """
    folder = root / split
    if not _is_split(folder):
        raise DataError(f"no DOTA split: {folder}: make it look like this:\n{TREE}")
    images = image_files(folder / "images") or image_files(folder / "images" / "images")
    if not images:
        raise DataError(f"no images: {folder / 'images'}: put the split's images there")
    draft = Draft(root, split, "dota", images)
    ignored = "2" if any(_calls_2_ignored(base / name) for base in (folder, root) for name in MANIFESTS) else None
    read_lines(draft, _label_folder(folder), lambda text: _parse_line(text, ignored))
    return draft


def parse_dota_hbb(root: Path, split: str) -> Draft:
    """The same with horizontal boxes: from the least to the greatest corner coordinates, as DOTA's Task 2 defines them.

    The official files of horizontal boxes (``labelTxt`` of the ``hbb`` archives) write such boxes as four corners too
    and read the same.

    Raises:
        DataError: as for ``parse_dota``.
    """
    draft = parse_dota(root, split)
    draft.format = "dota_hbb"
    draft.rows = [row._replace(shape=_hull(row.shape)) for row in draft.rows]
    return draft


def dota_splits(root: Path) -> tuple[str, ...]:
    """The sub-folders of ``root`` that hold images and labels; ("",) when ``root`` itself does."""
    if _is_split(root):
        return ("",)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return tuple(folder.name for folder in folders if folder.is_dir() and _is_split(folder))


def difficult_flag(text: str) -> bool | None:
    """The field ``difficult`` of a line; None where it is missing.

    Raises:
        BadLabelError: it is not 0, 1 or 2.
    """
    if text not in _DIFFICULT:
        raise BadLabelError(f"difficult is {text!r}", "write 0 or 1 (2 for objects cut by tiling)", "difficult")
    return _DIFFICULT[text]


def _hull(corners: tuple[float, ...]) -> tuple[float, ...]:
    x, y = corners[::2], corners[1::2]
    return (min(x), min(y), max(x), min(y), max(x), max(y), min(x), max(y))


def _is_split(folder: Path) -> bool:
    return (folder / "images").is_dir() and any((folder / name).is_dir() for name in LABEL_FOLDERS)


def _label_folder(folder: Path) -> Path:
    """The one folder of label files; official archives unpack into one folder more."""
    found = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(found) > 1 and found[0].name != "labelTxt":
        names = ", ".join(path.name for path in found)
        raise DataError(f"several label folders: {folder}: {names}: rename the one to use to labelTxt")
    chosen = found[0]
    inner = sorted(path for path in chosen.iterdir() if path.is_dir())
    if any(chosen.glob("*.txt")) or not inner:
        return chosen
    named = [path for path in inner if path.name == "labelTxt"]
    if len(inner) > 1 and not named:
        raise DataError(f"several label folders: {chosen}: {first_few([p.name for p in inner])}: keep one")
    return (named or inner)[0]


def _calls_2_ignored(manifest: Path) -> bool:
    if not manifest.is_file():
        return False
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"unreadable manifest: {manifest}: {error}: restore it from an intact copy") from error
    return isinstance(content, dict) and content.items() >= IGNORED_AS_2.items()


def _parse_line(text: str, ignored: str | None) -> Row | None:
    """One object, to be ignored if its difficult field is ``ignored``; None for header lines."""
    if _HEADER.match(text):
        return None
    fields = text.split()
    if len(fields) not in (9, 10):
        hint = " (11 or 12 are OHD-SJTU's form: call the folder rotation_txt)" if len(fields) in (11, 12) else ""
        raise BadLabelError(f"{len(fields)} fields instead of 9 or 10{hint}", _FORM, "fields")
    corners = decimals(fields[:8], "coordinate", _FORM)
    difficult = fields[9] if len(fields) == 10 else ""
    flag = difficult_flag(difficult)
    if difficult == ignored:
        return Row(0, 0, 0, corners, fields[8], ignore=True)
    return Row(0, 0, 0, corners, fields[8], flag)
