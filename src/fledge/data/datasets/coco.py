"""COCO json, with oriented boxes where it has them.

An annotation's box is, in this order: its ``segmentation`` of four corners; the smallest rectangle around a
``segmentation`` of any other number of corners; a ``bbox`` of five numbers, [cx, cy, w, h, angle]; a ``bbox`` of four,
[x, y, w, h] from the top left corner. Five numbers are as in PaddleDetection up to 2.4: centre, angle in radians,
clockwise on screen (https://github.com/PaddlePaddle/PaddleDetection/issues/7326). An angle beyond a full turn is
refused: Detectron2 writes degrees, counter-clockwise, in the same place.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fledge.data.datasets.draft import Draft
from fledge.data.datasets.json_labels import Dialect, JsonLabels, finite_numbers, load_json, mentions, rotated_box
from fledge.data.datasets.polygons import AROUND, smallest_rectangle
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.labels import THINNEST, class_key
from fledge.errors import DataError

TREE = """\
COCO json:      ROOT/annotations/[instances_]SPLIT.json or ROOT/[instances_]SPLIT.json
                with ROOT/SPLIT/NAME.jpg, ROOT/images/SPLIT/NAME.jpg or ROOT/images/NAME.jpg
                or ROOT/SPLIT/_annotations.coco.json with ROOT/SPLIT/NAME.jpg
                "segmentation": [[x1, y1, x2, y2, x3, y3, x4, y4]], or "bbox": [cx, cy, w, h, angle in radians]"""

_BESIDE = "_annotations.coco.json"
# ShipRSImageNet has its COCO files here, and their images in VOC_Format/JPEGImages.
_SHIPS = "COCO_Format/"
_SHAPE = 'write "segmentation": [[x1, y1, x2, y2, x3, y3, x4, y4]] in pixels'
# The labels of COCO's other tasks, and image lists without labels, lie in the same folder.
_OTHER_TASKS = re.compile(r"(captions|person_keypoints|panoptic|stuff|image_info)_")
_HORIZONTAL = "horizontal boxes (bbox of four numbers, no polygon)"


def parse_coco(root: Path, split: str) -> Draft:
    """One split of a dataset in COCO form.

    Objects with ``iscrowd`` or ``ignore`` set become ignored ones. ``difficult`` (true or false) is kept.

    Raises:
        DataError: files are missing or the json is damaged.
    """
    path = split_files(root).get(split)
    if path is None:
        raise DataError(f"no COCO split {split!r}: {root}: make it look like this:\n{TREE}")
    content = load_json(path, "COCO", f"make it look like this:\n{TREE}")
    draft = Draft(root, split, "coco", files=[path])
    counts: Counter[str] = draft.counts
    dialect = Dialect(
        file_key="file_name",
        file_fault=_file_fault,
        file_remedy="write a path inside the dataset, with forward slashes",
        shape=lambda entry: _shape(entry, counts),
        ignored=lambda entry, _: bool(entry.get("iscrowd")) or bool(entry.get("ignore")),
    )
    reader = JsonLabels(draft, content, dialect)
    reader.read(lambda names: _image_folder(root, split, path, names))
    draft.listed = _listed(reader, content["categories"])
    return draft


def coco_splits(root: Path) -> tuple[str, ...]:
    """The splits found: json files whose images have a ``file_name``; ("",) for a folder that is itself a split."""
    return tuple(sorted(split_files(root)))


def split_files(root: Path) -> dict[str, Path]:
    """From split to its json file."""
    if (root / _BESIDE).is_file():
        return {"": root / _BESIDE}
    found = {path.parent.name: path for path in sorted(root.glob(f"*/{_BESIDE}"))}
    for path in sorted(chain.from_iterable(root.glob(f"{folder}*.json") for folder in ("", "annotations/", _SHIPS))):
        if not _OTHER_TASKS.match(path.name):
            found.setdefault(path.stem.removeprefix("instances_"), path)
    return {split: path for split, path in found.items() if mentions(path, b'"file_name"')}


def _image_folder(root: Path, split: str, path: Path, names: list[str]) -> Path:
    """The first of the usual folders that holds the first image."""
    inside = (split, f"images/{split}", "images", f"{split}/images", "VOC_Format/JPEGImages", "")
    usual = [root / name for name in inside]
    folders = [path.parent] if path.name == _BESIDE else usual
    for folder in folders:
        if not names or (folder / names[0]).is_file():
            return folder
    tried = ", ".join(map(str, folders))
    raise DataError(f"no image {names[0]}: {path}: looked in {tried}: put the split's images into one of these")


def _file_fault(name: object) -> str:
    if not isinstance(name, str) or not name or set(name) & set("\\\0") or ":" in name.split("/")[0]:
        return f"is {name!r}"
    path = PurePosixPath(name)
    return f"is {name!r}" if path.is_absolute() or ".." in path.parts or not path.name else ""


def _listed(reader: JsonLabels, entries: list[Any]) -> tuple[str, ...]:
    """The categories in the order of their ids.

    Some exports have one more, named like the project, that only stands over the others: it is left out.
    """
    above = {class_key(str(entry.get("supercategory"))) for entry in entries if isinstance(entry, dict)}
    used = {row.name for row in reader.draft.rows}
    numbers = sorted(reader.names, key=lambda number: (isinstance(number, str), number))
    names = dict.fromkeys(reader.names[number] for number in numbers)
    return tuple(name for name in names if name in used or class_key(name) not in above)


def _shape(entry: dict[str, Any], counts: Counter[str]) -> tuple[float, ...]:
    polygon = entry.get("segmentation")
    if isinstance(polygon, list) and polygon:
        return _around(polygon, counts)
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        return rotated_box(bbox)
    x, y, w, h = finite_numbers(bbox, "bbox", "write [x, y, w, h] in pixels")
    if min(w, h) < THINNEST:
        raise BadLabelError(f"bbox {bbox} has no area", "write [x, y, w, h] in pixels, or remove it", "no area")
    counts[_HORIZONTAL] += 1
    return (x + w / 2, y + h / 2, w, h, 0.0)


def _around(polygon: list[Any], counts: Counter[str]) -> tuple[float, ...]:
    """Corners or box of a segmentation: one list of numbers, or a list of such lists."""
    parts = polygon if all(isinstance(part, list) for part in polygon) else [polygon]
    numbers = [value for part in parts for value in finite_numbers(part, "segmentation", _SHAPE)]
    if len(numbers) % 2 or len(numbers) < 6:
        raise BadLabelError(f"segmentation has {len(numbers)} numbers", _SHAPE, "fields")
    if len(parts) == 1 and len(numbers) > 8 and numbers[:2] == numbers[-2:]:
        del numbers[-2:]  # a closed ring
    if len(numbers) == 8:
        return tuple(numbers)
    counts[AROUND] += 1
    return smallest_rectangle(np.array(numbers).reshape(-1, 2))
