"""YOLO labels: oriented boxes as four corners, and the plain horizontal boxes of YOLO.

One object per line, ``class x1 y1 x2 y2 x3 y3 x4 y4`` or ``class cx cy w h``: the class an index into ``names`` of
``data.yaml``, the rest fractions of the image's width and height. Source: https://docs.ultralytics.com/datasets/obb/
(fractions of the whole image; corners in order around the box).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from fledge.data.datasets.draft import Draft, Row
from fledge.data.datasets.folders import image_files
from fledge.data.datasets.text_labels import BadLabelError, decimals, read_lines
from fledge.errors import DataError

TREE = """\
YOLO(-OBB) txt: ROOT/data.yaml with "names: [plane, ship]"
                ROOT/images/SPLIT/NAME.jpg with ROOT/labels/SPLIT/NAME.txt
                or ROOT/SPLIT/images/NAME.jpg with ROOT/SPLIT/labels/NAME.txt
                each line: class x1 y1 x2 y2 x3 y3 x4 y4   or: class cx cy w h   (fractions of width and height)"""

SPLIT_KEYS = ("train", "val", "test")
_FORM = "write class x1 y1 x2 y2 x3 y3 x4 y4, or class cx cy w h, as fractions of the image"
_INDEX = re.compile(r"\d{1,6}(\.0*)?", re.ASCII)
# A large object cut by the border reaches beyond 0…1; pixels written by mistake reach far beyond.
_LOWEST, _HIGHEST = -1.0, 2.0
_MOST_BYTES = 200_000


def parse_yolo(root: Path, split: str) -> Draft:
    """One split of a dataset in YOLO form, oriented or horizontal, or both.

    Raises:
        DataError: ``data.yaml`` is missing or wrong, the folders are not there, hold no images, or label files have no
            image.
    """
    folders = _folders(root)
    if split not in folders:
        raise DataError(f"no YOLO split {split!r}: {root}: make it look like this:\n{TREE}")
    names = class_names(root)
    pictures, labels = folders[split]
    images = image_files(pictures)
    if not images:
        raise DataError(f"no images: {pictures}: put the split's images there")
    draft = Draft(root, split, "yolo_obb", images, normalised=True, listed=names)
    read_lines(draft, labels, lambda text: _parse_line(text, names))
    draft.counts["horizontal boxes (class cx cy w h)"] = sum(len(row.shape) == 5 for row in draft.rows)
    return draft


def yolo_splits(root: Path) -> tuple[str, ...]:
    """The splits found as folders or named by ``data.yaml``."""
    return tuple(sorted(_folders(root)))


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """From split to its folders of images and labels; keys of data.yaml add to those found by their usual places."""
    if not root.is_dir():
        return {}
    pairs = {p.name: (p, root / "labels" / p.name) for p in sorted(root.glob("images/*")) if p.is_dir()}
    pairs |= {p.parent.name: (p, p.parent / "labels") for p in sorted(root.glob("*/images"))}
    found = {name: pair for name, pair in pairs.items() if all(map(Path.is_dir, pair))}
    taken = {pictures for pictures, _ in found.values()}
    content = _settings(root) if _settings_file(root) else {}
    for key in SPLIT_KEYS:
        pair = _stated_folders(root, content, key)
        if pair and key not in found and pair[0] not in taken:
            found[key] = pair
    return found


def _stated_folders(root: Path, content: Mapping[str, Any], key: str) -> tuple[Path, Path] | None:
    """The folders that data.yaml names for a split, if both are there and inside the dataset.

    Exports begin these paths with ``../`` or with a path that was right on another machine: what leads out of the
    dataset is dropped, and never followed.
    """
    if not isinstance(content.get(key), str):
        return None
    pictures = _inside(_inside(root, content.get("path", "")), content[key])
    parts = list(pictures.relative_to(root).parts)
    if "images" not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index("images")
    labels = root.joinpath(*parts[:last], "labels", *parts[last + 1 :])
    return (pictures, labels) if pictures.is_dir() and labels.is_dir() else None


def _inside(folder: Path, stated: object) -> Path:
    """A sub-folder of ``folder`` by a relative path without its leading ``..``, else ``folder`` itself."""
    if not isinstance(stated, str) or "\0" in stated:
        return folder
    parts = [part for part in re.split(r"[/\\]", stated) if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts.pop(0)
    inner = folder.joinpath(*parts)
    return inner if ".." not in parts and not stated.startswith(("/", "\\")) and inner.is_dir() else folder


def _settings_file(root: Path) -> Path | None:
    named = [root / "data.yaml", root / "data.yml", root / "dataset.yaml"]
    others = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    found = [path for path in named if path.is_file()] or (others if len(others) == 1 else [])
    return found[0] if found else None


def _settings(root: Path) -> dict[str, Any]:
    """The mapping in data.yaml.

    Raises:
        DataError: there is none, or it is no mapping in YAML.
    """
    path = _settings_file(root)
    if path is None:
        raise DataError(f'no data.yaml: {root}: write one with the class names, "names: [plane, ship]"')
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"data.yaml too large: {path}: more than {_MOST_BYTES} bytes: keep only the class names")
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read: {path}: {error.strerror}: check its permissions") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DataError(f'not YAML: {place}: write "names: [plane, ship]"') from error
    if not isinstance(content, dict):
        raise DataError(f'no settings: {path}: write "names: [plane, ship]"')
    return content


def class_names(root: Path) -> tuple[str, ...]:
    """The class names of data.yaml in the order of their indices.

    Raises:
        DataError: they are missing, or their indices are not 0, 1, 2, ….
    """
    content = _settings(root)
    path, names = _settings_file(root), content.get("names")
    if isinstance(names, dict):
        if not all(isinstance(key, int) for key in names) or sorted(names) != list(range(len(names))):
            raise DataError(f"class indices have gaps: {path}: number the names 0, 1, 2, …")
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not names or not all(isinstance(name, str | int) for name in names):
        raise DataError(f'no class names: {path}: write "names: [plane, ship]"')
    if content.get("nc", len(names)) != len(names):
        raise DataError(f"nc is {content['nc']} but there are {len(names)} names: {path}: correct one of them")
    return tuple(str(name) for name in names)


def _parse_line(text: str, names: tuple[str, ...]) -> Row:
    fields = text.split()
    if len(fields) not in (5, 9):
        polygon = "; polygons of other than four corners are not read" if len(fields) % 2 and len(fields) > 5 else ""
        raise BadLabelError(f"{len(fields)} fields instead of 9 or 5", _FORM + polygon, "fields")
    if not _INDEX.fullmatch(fields[0]):
        raise BadLabelError(
            f"class index is {fields[0][:64]!r}", "write the index of a name in data.yaml", "class index"
        )
    index = int(float(fields[0]))
    if index >= len(names):
        what = f"class index {index} is out of range"
        raise BadLabelError(what, f"data.yaml has {len(names)} names, 0 to {len(names) - 1}", "class index")
    numbers = decimals(fields[1:], "coordinate", _FORM)
    if min(numbers) < _LOWEST or max(numbers) > _HIGHEST:
        worst = max(numbers, key=abs)
        raise BadLabelError(f"coordinate {worst:g} is no fraction of the image", _FORM, "number")
    return Row(0, 0, 0, (*numbers, 0.0) if len(fields) == 5 else numbers, names[index])
