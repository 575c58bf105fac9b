"""What the readers of text labels share: one file per image, one object per line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fledge.data.datasets.draft import Draft, Row, first_few
from fledge.data.labels import FARTHEST, THINNEST
from fledge.errors import DataError

_ONE = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER, _NUMBERS = re.compile(_ONE, re.ASCII), re.compile(f"{_ONE}(?: {_ONE})*", re.ASCII)


class BadLabelError(Exception):
    """One object that cannot be read: what is wrong, what to do, and the kind it is counted under."""

    def __init__(self, what: str, remedy: str, kind: str) -> None:
        super().__init__(what)
        self.what, self.remedy, self.kind = what, remedy, kind


def read_lines(draft: Draft, folder: Path, parse: Callable[[str], Row | None]) -> None:
    """Read ``folder/STEM.txt`` for every image of a draft; lines that cannot be read become faults.

    Args:
        draft: with its images; gets the files, rows, faults and names of unlabelled images.
        folder: of the label files.
        parse: one line, stripped and not empty, to a row whose image, file and place are still to be filled in, or None
            for a line that is no object; raises BadLabelError.

    Raises:
        DataError: a label file has no image, or cannot be opened.
    """
    labels = {path.stem: path for path in sorted(folder.glob("*.txt")) if not path.name.startswith(".")}
    labels.pop("classes", None)  # annotation tools leave their list of class names here
    orphans = sorted(labels.keys() - {path.stem for path in draft.images})
    if orphans:
        raise DataError(
            f"{len(orphans)} label files have no image: {folder}: {first_few(orphans)}: "
            "add the images or remove the label files"
        )
    draft.unlabelled = ([path.name for path in draft.images if path.stem not in labels], folder)
    for image, path in enumerate(draft.images):
        if path.stem in labels:
            read_lines_of(draft, image, labels[path.stem], parse)


def upright(x1: float, y1: float, x2: float, y2: float) -> tuple[float, ...]:
    """The four corners of a horizontal box, clockwise from its top left.

    Raises:
        BadLabelError: the second corner is not right of and below the first.
    """
    if x2 - x1 < THINNEST or y2 - y1 < THINNEST:
        what = f"the box from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) has no area"
        raise BadLabelError(what, "write the top left corner before the bottom right one, or remove it", "no area")
    return (x1, y1, x2, y1, x2, y2, x1, y2)


def decimal(text: str, what: str, form: str) -> float:
    """A decimal number written with a point, finite and within a million.

    Args:
        text: as written.
        what: what it is, for the message.
        form: how to write it.

    Raises:
        BadLabelError: it is none.
    """
    if not _NUMBER.fullmatch(text):
        if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise BadLabelError(f"{what} {text} is not finite", form, "number")
        hint = "write decimals with a point" if "," in text else form
        raise BadLabelError(f"{text[:64]!r} is not a number", hint, "number")
    value = float(text)
    if not math.isfinite(value) or abs(value) > FARTHEST:
        raise BadLabelError(f"{what} {text[:64]} is beyond ±{FARTHEST:.0f}", form, "number")
    return value


def decimals(words: Sequence[str], what: str, form: str) -> tuple[float, ...]:
    """Several numbers as ``decimal`` reads them, all matched at once: files have millions.

    Args:
        words: as written, without white space in them.
        what: what they are, for the message.
        form: how to write them.

    Raises:
        BadLabelError: one is no number, or too large.
    """
    if _NUMBERS.fullmatch(" ".join(words)):
        values = tuple(map(float, words))
        if max(values) <= FARTHEST and min(values) >= -FARTHEST:
            return values
    return tuple(decimal(word, what, form) for word in words)


def read_lines_of(draft: Draft, image: int, path: Path, parse: Callable[[str], Row | None]) -> None:
    """Read the label file of one image; see ``read_lines``.

    Raises:
        DataError: it cannot be opened.
    """
    draft.files.append(path)
    for number, raw in _raw_lines(path):
        try:
            text = _text(raw)
            row = parse(text) if text else None
        except BadLabelError as bad:
            draft.fault(f"{path}:{number}", bad.what, bad.remedy, bad.kind)
            continue
        if row is not None:
            draft.rows.append(row._replace(image=image, file=len(draft.files) - 1, place=number))


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
    return enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadLabelError("not UTF-8 text", "save the file as UTF-8", "encoding") from error
    if "\0" in text:
        raise BadLabelError("contains a NUL byte", "restore the file from an intact copy", "encoding")
    return text
