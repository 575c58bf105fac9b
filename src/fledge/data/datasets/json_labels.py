"""What the readers of json labels share: lists of images, categories and annotations that refer to each other by id."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from fledge.data.datasets.draft import Draft, Row, StatedSize
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.labels import FARTHEST, THINNEST, LabelProblem
from fledge.errors import DataError

_BBOX = "write [cx, cy, w, h, angle] in pixels and radians"


class Dialect(NamedTuple):
    """How one kind of json file says it.

    Attributes:
        file_key: the name of an image entry's file.
        file_fault: what is wrong with a file name, or "".
        file_remedy: what to do about it.
        shape: the corners or box of an annotation (see ``Row.shape``); raises BadLabelError.
        ignored: whether an annotation of a category of that name is no object to be found.
    """

    file_key: str
    file_fault: Callable[[object], str]
    file_remedy: str
    shape: Callable[[dict[str, Any]], tuple[float, ...]]
    ignored: Callable[[dict[str, Any], str], bool]


@dataclass
class JsonLabels:
    """One json file on its way into a draft."""

    draft: Draft
    content: dict[str, Any]
    dialect: Dialect
    order: dict[int | str, int] = field(default_factory=dict)
    names: dict[int | str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.draft.files[0]

    def read(self, folder_of: Callable[[list[str]], Path]) -> None:
        """Fill the draft: images, stated sizes, rows and faults.

        Args:
            folder_of: from the images' file names to the folder they are in.
        """
        self._read_categories()
        files = self._read_images()
        folder = folder_of(files)
        self.draft.images += [folder / name for name in files]
        if self.draft.damage:
            return  # every annotation that refers to a damaged entry would be called bad as well
        for position, entry in enumerate(self.content["annotations"]):
            number = entry.get("id") if isinstance(entry, dict) else None
            place = f"annotation id {number}" if is_id(number) else f"annotation {position}"
            try:
                self.draft.rows.append(self._row(place, entry))
            except BadLabelError as bad:
                self.draft.fault(f"{self.path}: {place}", bad.what, bad.remedy, bad.kind)

    def _damage(self, place: str, what: str, remedy: str) -> None:
        self.draft.damage.append(LabelProblem(f"{self.path}: {place}", what, remedy, place.split()[0]))

    def _read_categories(self) -> None:
        for position, entry in enumerate(self.content["categories"]):
            number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
            if not is_id(number) or not isinstance(name, str) or number in self.names:
                self._damage(f"category {position}", "no unique id and name", 'write {"id": 0, "name": "Person"}')
            else:
                self.names[number] = name

    def _read_images(self) -> list[str]:
        """The file names of the images, in the order of the file."""
        files: list[str] = []
        key = self.dialect.file_key
        for position, entry in enumerate(self.content["images"]):
            number, name = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
            if not is_id(number) or number in self.order:
                self._damage(f"image {position}", "no unique id", "give each image an id of its own")
            elif fault := self.dialect.file_fault(name):
                self._damage(f"image id {number}", f"{key} {fault}", self.dialect.file_remedy)
            else:
                size = entry.get("width"), entry.get("height")
                if size != (None, None):
                    self.draft.stated[len(files)] = StatedSize(f"{self.path}: image id {number}", *size)
                self.order[number] = len(files)
                files.append(str(name))
        return files

    def _row(self, place: str, entry: object) -> Row:
        if not isinstance(entry, dict):
            raise BadLabelError("not an object", 'write {"image_id": …, "category_id": …, "bbox": …}', "fields")
        image, category, difficult = entry.get("image_id"), entry.get("category_id"), entry.get("difficult", False)
        if not is_id(image) or image not in self.order:
            raise BadLabelError(f"unknown image_id {image!r}", "refer to an entry of images", "id")
        if not is_id(category) or category not in self.names:
            raise BadLabelError(f"unknown category_id {category!r}", "refer to an entry of categories", "id")
        if difficult not in (False, True):  # also 0 and 1
            raise BadLabelError(f"difficult is {difficult!r}", "write true or false", "difficult")
        name = self.names[category]
        shape, ignored = self.dialect.shape(entry), self.dialect.ignored(entry, name)
        return Row(self.order[image], 0, place, shape, name, bool(difficult), ignored)


def read_json(path: Path) -> Any:
    """What a json file holds.

    Raises:
        DataError: it cannot be read or is no json; the message has the line where there is one.
    """
    try:
        data = path.read_bytes()
        return json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
    except json.JSONDecodeError as error:
        raise DataError(f"not json: {path}:{error.lineno}: {error.msg}: restore it from an intact copy") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"not json: {path}:{line}: not UTF-8 text: restore it from an intact copy") from error
    except (ValueError, RecursionError) as error:
        what = "a number of thousands of digits, or nested without end"
        raise DataError(f"not json: {path}: {what}: restore it from an intact copy") from error


def load_json(path: Path, kind: str, remedy: str) -> dict[str, Any]:
    """A json file that holds lists of images, annotations and categories.

    Raises:
        DataError: it cannot be read, is no json, or lacks a list (the message names ``kind`` and ends in ``remedy``).
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"not {kind}: {path}: it has no list {key!r}: {remedy}")
    return {str(key): value for key, value in content.items()}


def mentions(path: Path, words: bytes) -> bool:
    """Whether a file holds these bytes; a file that is empty or cannot be read does not."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(words) >= 0
    except (OSError, ValueError):
        return False


def is_id(value: object) -> TypeGuard[int | str]:
    """Whether a value can be an id: an integer or a text."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def finite_numbers(values: object, what: str, remedy: str) -> tuple[float, ...]:
    """A list of finite numbers within a million.

    Raises:
        BadLabelError: it is none; the message begins with ``what``.
    """
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        raise BadLabelError(f"{what} {_short(values)} holds something that is not a number", remedy, "number")
    if not all(abs(value) <= FARTHEST for value in values):  # NaN compares false
        raise BadLabelError(f"{what} {_short(values)} is not finite, or beyond ±{FARTHEST:.0f}", remedy, "number")
    return tuple(float(value) for value in values)


def rotated_box(bbox: object) -> tuple[float, ...]:
    """A ``bbox`` of five numbers: cx, cy, w, h, and the angle of w in radians, clockwise on screen.

    Raises:
        BadLabelError: it is none, has no area, or its angle is beyond a full turn and so not in radians.
    """
    if not isinstance(bbox, list) or len(bbox) != 5:
        count = len(bbox) if isinstance(bbox, list) else "no"
        raise BadLabelError(f"bbox has {count} numbers instead of 5", _BBOX, "fields")
    box = finite_numbers(bbox, "bbox", _BBOX)
    if min(box[2], box[3]) < THINNEST:
        raise BadLabelError(f"bbox {bbox} has no area", _BBOX, "no area")
    if not -math.tau <= box[4] <= math.tau:
        raise BadLabelError(f"angle {bbox[4]} is more than a full turn, so not in radians", _BBOX, "angle")
    return box


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
