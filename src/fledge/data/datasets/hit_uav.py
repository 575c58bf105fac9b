"""HIT-UAV: thermal drone images with oriented boxes in json (Suo et al., Scientific Data 10, 227, 2023).

``bbox`` is [cx, cy, w, h, angle]: pixels, radians from 0 to pi, image axes, w not always the long side. ``DontCare``
is no class: its boxes become ignored objects. The published split is random over video frames and leaks between its
parts; splits by the ``date`` of the images do not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.datasets.folders import image_sizes, unique_stems
from fledge.data.labels import (
    FARTHEST,
    THINNEST,
    DetectionDataset,
    LabelProblem,
    class_index,
    class_key,
    offsets_of,
    outside,
    refuse,
    single_boxes,
)
from fledge.errors import DataError
from fledge.geometry.boxes import corners

TREE = """\
HIT-UAV json:   ROOT/SPLIT.json with ROOT/images/NAME.jpg
                or ROOT/[rotate_json/]annotations/SPLIT.json with ROOT/[rotate_json/]SPLIT/NAME.jpg
                "bbox": [cx, cy, w, h, angle in radians]"""

CLASSES = ("Person", "Car", "Bicycle", "OtherVehicle")
_DONT_CARE = class_key("DontCare")
_IGNORED = -1
_BBOX = "write [cx, cy, w, h, angle] in pixels and radians"


class _Object(NamedTuple):
    number: int
    image: int
    label: int
    difficult: bool
    box: tuple[float, ...]


@dataclass
class _Reader:
    """One json file on its way to arrays; whatever is wrong is collected in ``problems``."""

    path: Path
    problems: list[LabelProblem] = field(default_factory=list)

    def problem(self, place: str, what: str, remedy: str) -> None:
        self.problems.append(LabelProblem(f"{self.path}: {place}", what, remedy))


def read_hit_uav(root: Path, split: str, classes: Sequence[str] | None = None) -> DetectionDataset:
    """Index one split of HIT-UAV or of a dataset written in its json form.

    Args:
        root: the folder with ``SPLIT.json`` and ``images/``, or the published one with ``rotate_json/``.
        split: the json file's stem.
        classes: the class names in label order; by default Person, Car, Bicycle, OtherVehicle.

    Raises:
        DataError: files are missing, the json is damaged, a stated image size is not the file's, or entries are bad
            (all are named).
    """
    json_path, image_folder = _locate(root, split)
    content = _load(json_path)
    names = CLASSES if classes is None else tuple(classes)
    reader = _Reader(json_path)
    labels_by_category = _categories(reader, content["categories"], names)
    rows = _images(reader, content["images"])
    refuse(reader.problems, str(json_path))

    order = {key: index for index, key in enumerate(rows)}
    paths = [image_folder / str(entry["filename"]) for entry in rows.values()]
    ids = unique_stems(paths) if paths else ()
    sizes, unreadable = image_sizes(paths)
    reader.problems += unreadable
    _compare_sizes(reader, rows, paths, sizes)
    objects = _objects(reader, content["annotations"], order, labels_by_category)
    objects.sort(key=lambda item: item.image)
    owner = np.array([item.image for item in objects], dtype=np.int64)
    stated = torch.tensor([item.box for item in objects], dtype=torch.float64).reshape(-1, 5)
    quads = corners(stated).numpy()
    for row in np.flatnonzero(outside(quads, sizes[owner])):
        height, width = sizes[owner[row]]
        what = f"the box lies outside {paths[owner[row]].name} of {width}x{height} pixels"
        reader.problem(f"annotation id {objects[row].number}", what, "remove or correct it")
    refuse(reader.problems, str(json_path))

    labels = np.array([item.label for item in objects], dtype=np.int64)
    return DetectionDataset(
        root=root,
        split=split,
        format="hit_uav",
        classes=names,
        paths=tuple(paths),
        ids=ids,
        sizes=sizes,
        quads=quads.astype(np.float32),
        boxes=single_boxes(stated).numpy(),
        labels=np.maximum(labels, 0),
        difficult=np.array([item.difficult for item in objects], dtype=np.bool_),
        ignore=labels == _IGNORED,
        offsets=offsets_of(np.bincount(owner, minlength=len(paths))),
    )


def hit_uav_splits(root: Path) -> tuple[str, ...]:
    """The splits found: json files whose images have a ``filename`` (COCO's own files say ``file_name``)."""
    found = [*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob("rotate_json/annotations/*.json")]
    return tuple(sorted({path.stem for path in found if _looks_right(path)}))


def _looks_right(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"filename"' in file.read(4096)
    except OSError:
        return False


def _locate(root: Path, split: str) -> tuple[Path, Path]:
    """The json file and the folder of its images."""
    for base in (root, root / "rotate_json"):
        for json_path, folder in (
            (base / f"{split}.json", base / "images"),
            (base / "annotations" / f"{split}.json", base / split),
        ):
            if json_path.is_file() and folder.is_dir():
                return json_path, folder
    raise DataError(f"no HIT-UAV split {split!r}: {root}: make it look like this:\n{TREE}")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
    except json.JSONDecodeError as error:
        raise DataError(f"not json: {path}:{error.lineno}: {error.msg}: restore it from an intact copy") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not json: {path}: not UTF-8 text, or nested without end: restore an intact copy") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"not HIT-UAV: {path}: it has no list {key!r}: use the files of rotate_json (those of normal_json have "
                f"horizontal boxes)\n{TREE}"
            )
    return {str(key): value for key, value in content.items()}


def _categories(reader: _Reader, entries: list[Any], classes: tuple[str, ...]) -> dict[int, int]:
    """From category id to label; DontCare maps to a mark of its own."""
    lookup = {**class_index(classes), _DONT_CARE: _IGNORED}
    labels: dict[int, int] = {}
    for position, entry in enumerate(entries):
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not _is_id(number) or not isinstance(name, str) or number in labels:
            reader.problem(f"category {position}", "no unique id and name", 'write {"id": 0, "name": "Person"}')
        elif class_key(name) not in lookup:
            what = f"unknown class {name!r}"
            reader.problem(f"category id {number}", what, f"correct it or add it to the classes {', '.join(classes)}")
        else:
            labels[number] = lookup[class_key(name)]
    return labels


def _images(reader: _Reader, entries: list[Any]) -> dict[int, dict[str, Any]]:
    """The image entries by id, in the order of the file."""
    rows: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not _is_id(number) or number in rows:
            reader.problem(f"image {position}", "no unique id", "give each image an integer id of its own")
        # A name that is a path could reach outside the dataset.
        elif not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
            reader.problem(f"image id {number}", f"filename is {name!r}", "write the plain name of a file")
        else:
            rows[number] = entry
    return rows


def _compare_sizes(
    reader: _Reader, rows: dict[int, dict[str, Any]], paths: list[Path], sizes: NDArray[np.int32]
) -> None:
    unread = np.iinfo(np.int32).max
    for (number, entry), path, (height, width) in zip(rows.items(), paths, sizes.tolist(), strict=True):
        stated = entry.get("width"), entry.get("height")
        if height != unread and stated != (width, height):
            what = f"it states {stated[0]}x{stated[1]} pixels, {path} has {width}x{height}"
            reader.problem(f"image id {number}", what, "restore the image that was labelled")


def _objects(
    reader: _Reader, entries: list[Any], order: dict[int, int], labels_by_category: dict[int, int]
) -> list[_Object]:
    objects = []
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        place = f"annotation id {number}" if _is_id(number) else f"annotation {position}"
        if not isinstance(entry, dict):
            reader.problem(place, "not an object", 'write {"image_id": …, "category_id": …, "bbox": …}')
            continue
        image, category, difficult = entry.get("image_id"), entry.get("category_id"), entry.get("difficult", False)
        fault = _box_fault(entry.get("bbox"))
        if not _is_id(image) or image not in order:
            reader.problem(place, f"unknown image_id {image!r}", "refer to an entry of images")
        elif not _is_id(category) or category not in labels_by_category:
            reader.problem(place, f"unknown category_id {category!r}", "refer to an entry of categories")
        elif not isinstance(difficult, bool):
            reader.problem(place, f"difficult is {difficult!r}", "write true or false")
        elif fault:
            reader.problem(place, fault, _BBOX)
        else:
            shown = number if _is_id(number) else position
            objects.append(_Object(shown, order[image], labels_by_category[category], difficult, tuple(entry["bbox"])))
    return objects


def _box_fault(bbox: object) -> str:
    """What is wrong with a bbox, or nothing."""
    if not isinstance(bbox, list) or len(bbox) != 5:
        return f"bbox has {len(bbox) if isinstance(bbox, list) else 'no'} numbers instead of 5"
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in bbox):
        return f"bbox {bbox} holds something that is not a number"
    if not all(math.isfinite(value) and abs(value) <= FARTHEST for value in bbox):
        return f"bbox {bbox} is not finite, or beyond ±{FARTHEST:.0f}"
    if min(bbox[2], bbox[3]) < THINNEST:
        return f"bbox {bbox} has no area"
    if not -math.tau <= bbox[4] <= math.tau:
        return f"angle {bbox[4]} is more than a full turn, so not in radians"
    return ""


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
