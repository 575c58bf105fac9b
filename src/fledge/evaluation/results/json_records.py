"""Result records in json: COCO's, with or without oriented boxes, and the ``predictions.json`` of Ultralytics.

A record has ``image_id``, ``category_id``, ``score`` and a shape, in this order of preference: ``poly`` (8 numbers,
Ultralytics), a ``segmentation`` of four corners, ``rbox`` or a ``bbox`` of five numbers (cx, cy, w, h, and the angle of
w in radians, clockwise on screen), a ``bbox`` of four (x, y, w, h). Sources: https://cocodataset.org/#format-results;
Ultralytics' OBB validator (``save_json=True``), whose ``category_id`` counts from 0 in older versions, from 1 in newer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch

from fledge.data.datasets.json_labels import finite_numbers, is_id, rotated_box
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.labels import CLASS_NAME, LabelProblem
from fledge.errors import DataError
from fledge.evaluation.results.listing import Collector, Floats, Listing, Source, corners_of_hulls, place_of, sound
from fledge.evaluation.results.text_table import check_score
from fledge.geometry.boxes import corners

Record = dict[str, Any]
_FORM = 'write {"image_id": …, "category_id": …, "score": …, "bbox": […]}'


@dataclass(frozen=True)
class Ids:
    """What the numbers in result files mean.

    Attributes:
        images: from an id of the ground truth's own json to the image's name.
        stems: the names of all images; a number can be a name without its leading zeros.
        categories: from an id to a class name, if the ground truth has such ids.
        names: the class names in the order of the detector, if it is known.
    """

    images: Mapping[int | str, str] = field(default_factory=dict)
    stems: tuple[str, ...] = ()
    categories: Mapping[int | str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def read_records(source: Source, ids: Ids) -> Listing:
    """The detections of one json file.

    Raises:
        DataError: no json, no list of records, a bad record, or numbers whose meaning cannot be known.
    """
    records = _load(source)
    ours = bool(records) and isinstance(records[0], dict) and not {"poly", "rbox"}.isdisjoint(records[0])
    into = Collector("Ultralytics predictions json" if ours else "COCO results json", records=True)
    good = _usable(records, source, into.problems)
    rows = [record for _, record in good]
    place = np.array([number for number, _ in good], dtype=np.int64)
    try:
        names = _class_names(rows, ids, ours)
    except BadLabelError as bad:
        raise DataError(f"{bad.what}: {source.where}: {bad.remedy}") from bad
    quads, into.horizontal = _quads(rows)
    images = _image_names(rows, ids, ours)
    score = np.array([row["score"] for row in rows], dtype=np.float64)
    label = np.fromiter((into.label(name) for name in names), np.int64, len(names))
    into.add(source.where, into.image_codes(images), label, score, quads, place)
    return into.listing(source.where)


def _load(source: Source) -> list[Any]:
    try:
        content = json.loads(source.data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"not json: {source.where}:{error.lineno}: {error.msg}: restore it from an intact copy"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not json: {source.where}: not UTF-8 text, or nested without end: write it again") from error
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if not isinstance(content, list):
        raise DataError(f"no list of detections: {source.where}: [{_FORM.removeprefix('write ')}, …]")
    return content


def _usable(records: list[Any], source: Source, problems: list[LabelProblem]) -> list[tuple[int, Record]]:
    """The records that can be used and their numbers from 1; all at once if possible."""
    if _all_sound(records):
        return list(enumerate(records, start=1))
    good = []
    for number, record in enumerate(records, start=1):
        try:
            _check(record)
        except BadLabelError as bad:
            problems.append(LabelProblem(place_of(source.where, number, True), bad.what, bad.remedy, bad.kind))
        else:
            good.append((number, record))
    return good


def _all_sound(records: list[Any]) -> bool:
    """Whether every record is good, as far as can be told quickly; False means to look closer."""
    try:
        if any(type(r["image_id"]) not in (int, str) or type(r["category_id"]) is not int for r in records):
            return False
        shapes = [_plain_shape(r) for r in records]
        if {type(r["score"]) for r in records} - {float, int} or {*map(type, chain(*shapes))} - {float, int}:
            return False
        score = np.array([r["score"] for r in records], dtype=np.float64)
        numbers = np.fromiter(chain.from_iterable(shapes), np.float64)
        names = {r.get("category_name") for r in records} | {r.get("file_name") for r in records}
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError):
        return False
    return sound(score, numbers) and all(name is None or (isinstance(name, str) and name != "") for name in names)


def _plain_shape(record: Record) -> list[float]:
    """The numbers of a record's shape.

    Raises:
        TypeError: it needs a closer look.
    """
    kind, numbers = _shape(record)
    if len(numbers) != {"quad": 8, "hull": 4}.get(kind) or (kind == "hull" and min(numbers[2:]) < 0):
        raise TypeError
    return numbers  # type: ignore[no-any-return]


def _check(record: object) -> None:
    """Refuse a record that is not as it should be.

    Raises:
        BadLabelError: it is not.
    """
    if not isinstance(record, dict):
        raise BadLabelError("not an object", _FORM, "fields")
    if not is_id(record.get("image_id")) or not is_id(record.get("category_id")):
        raise BadLabelError("no image_id or no category_id", _FORM, "id")
    for key in ("category_name", "file_name"):
        if record.get(key) is not None and (not isinstance(record[key], str) or not record[key]):
            raise BadLabelError(f"{key} is {str(record[key])[:64]!r}", "write a name or leave it out", "id")
    score = record.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool):
        raise BadLabelError("no score", f"{_FORM}; labels are no detections", "score")
    check_score(score, _FORM)
    _check_shape(*_shape(record))


def _shape(record: Record) -> tuple[str, Any]:
    """What is to be a ``quad`` of 8 numbers, a ``box`` of 5 or a ``hull`` of 4, unchecked."""
    if record.get("poly"):
        return "quad", record["poly"]
    polygon = record.get("segmentation")
    if isinstance(polygon, list) and polygon:
        return "quad", polygon[0] if len(polygon) == 1 else polygon
    if record.get("rbox"):
        return "box", record["rbox"]
    bbox = record.get("bbox")
    return "box" if isinstance(bbox, list) and len(bbox) == 5 else "hull", bbox


def _check_shape(kind: str, values: Any) -> None:
    if kind == "box":
        rotated_box(values)
        return
    numbers = finite_numbers(values, "the shape", _FORM)
    if len(numbers) != (8 if kind == "quad" else 4):
        raise BadLabelError(f"a {kind} of {len(numbers)} numbers", f"{_FORM}, or a polygon of 4 corners", "fields")
    if kind == "hull" and min(numbers[2:]) < 0:
        raise BadLabelError(f"bbox {values} has a negative side", "write [x, y, w, h] in pixels", "no area")


def _quads(rows: Sequence[Record]) -> tuple[Floats, bool]:
    """Corners (N, 4, 2), and whether all shapes are horizontal boxes."""
    shapes = [_shape(row) for row in rows]
    kinds = np.array([kind for kind, _ in shapes], dtype="U4")
    quads = np.zeros((len(rows), 4, 2))
    for kind, convert in _CONVERSIONS.items():
        mine = np.flatnonzero(kinds == kind)
        if len(mine):
            quads[mine] = convert(np.array([shapes[i][1] for i in mine]))
    return quads, bool(len(rows) and (kinds == "hull").all())


def _from_boxes(boxes: Floats) -> Floats:
    quads: Floats = corners(torch.from_numpy(boxes)).numpy()
    return quads


_CONVERSIONS: dict[str, Callable[[Floats], Floats]] = {
    "quad": lambda numbers: numbers.reshape(-1, 4, 2),
    "box": _from_boxes,
    "hull": lambda numbers: corners_of_hulls(numbers[:, :2], numbers[:, :2] + numbers[:, 2:]),
}


def _image_names(rows: Sequence[Record], ids: Ids, ultralytics: bool) -> list[str]:
    """The image name of each record: by file name, by the ground truth's ids, or the stem itself."""
    numbered = Counter(int(stem) for stem in ids.stems if stem.isdecimal())
    by_number = {int(stem): stem for stem in ids.stems if stem.isdecimal() and numbered[int(stem)] == 1}
    known: dict[int | str, str] = {} if ultralytics else dict(ids.images)

    def name_of(row: Record) -> str:
        key = row["image_id"]
        if row.get("file_name"):
            return PurePosixPath(row["file_name"].replace("\\", "/")).stem
        if key in known:
            return known[key]
        return key if isinstance(key, str) else by_number.get(key, str(key))

    return [name_of(row) for row in rows]


def _class_names(rows: Sequence[Record], ids: Ids, ultralytics: bool) -> list[str]:
    """The class name of each record.

    Raises:
        BadLabelError: the numbers have no names, or could be meant in two ways.
    """
    if rows and all("category_name" in row for row in rows):
        meaning = {row["category_name"]: row["category_name"] for row in rows}
        names = [meaning[row["category_name"]] for row in rows]
    else:
        meaning = _meaning({row["category_id"] for row in rows}, ids, ultralytics)
        names = [meaning[row["category_id"]] for row in rows]
    for name in {*names}:
        if not CLASS_NAME.fullmatch(name):
            raise BadLabelError(f"{name[:64]!r} is not a class name", "use up to 64 letters, digits and -_.+&()", "")
    return names


def _meaning(used: set[int | str], ids: Ids, ultralytics: bool) -> dict[int | str, str]:
    """From the category ids in use to class names."""
    if ids.categories and not ultralytics:
        return _all_known(used, dict(ids.categories))
    count = len(ids.names)
    if not used:
        return {}
    if not count:
        raise BadLabelError(
            f"category_id {min(used, key=str)} has no name",
            "tools number classes differently: put the detector's data.yaml (names: [plane, ship]) beside the file",
            "id",
        )
    first = 0 if 0 in used else 1 if count in used or not ultralytics else None
    if first is None:
        raise BadLabelError(
            "category ids may count from 0 or from 1",
            "neither the first nor the last class occurs: use the Task1 files that Ultralytics writes beside it",
            "id",
        )
    return _all_known(used, {k + first: name for k, name in enumerate(ids.names)})


def _all_known(used: set[int | str], meaning: dict[int | str, str]) -> dict[int | str, str]:
    unknown = sorted(used - meaning.keys(), key=str)
    if unknown:
        listed = ", ".join(f"{k} {name}" for k, name in list(meaning.items())[:5])
        raise BadLabelError(f"unknown category_id {unknown[0]!r}", f"the ids are {listed}, …", "id")
    return meaning
