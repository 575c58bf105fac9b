"""Text of one detection a line, read a file at a time; where a file is not as it should be, a line at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from fledge.data.datasets.text_labels import BadLabelError, decimal
from fledge.data.labels import LabelProblem
from fledge.evaluation.results.listing import Floats, Integers, Source

_BOM = b"\xef\xbb\xbf"


class Table(NamedTuple):
    """The lines of a file that are not blank: first field (n), numbers (n, fields - 1), and line numbers (n,)."""

    first: list[str]
    numbers: Floats
    lines: Integers


class Layout(NamedTuple):
    """What a line holds.

    Attributes:
        form: shown to users, such as ``image score x1 y1``.
        fields: how many there are.
        score: which of them is the score, counted after the first field.
        sound: whether numbers (n, fields - 1) are as they should be.
        check: the same for one line's first field and numbers; raises BadLabelError.
        hint: what is said of a line with another number of fields, from that number.
    """

    form: str
    fields: int
    score: int
    sound: Callable[[Sequence[str], Floats], bool]
    check: Callable[[str, Sequence[float]], None]
    hint: Callable[[int], str] = lambda _: ""


def read_table(source: Source, layout: Layout, problems: list[LabelProblem]) -> Table:
    """The detections of one file; lines that cannot be read are added to ``problems``."""
    return _all_at_once(source.data, layout) or _line_by_line(source, layout, problems)


def check_score(score: float, form: str) -> None:
    """Refuse a score outside 0…1.

    Raises:
        BadLabelError: it is outside.
    """
    if not 0 <= score <= 1:
        raise BadLabelError(f"the score {score:g} is not in 0…1", form, "score")


def _all_at_once(data: bytes, layout: Layout) -> Table | None:
    """The whole file, or None if anything in it needs a closer look."""
    if b"\0" in data:
        return None
    rows = [line.split() for line in data.removeprefix(_BOM).split(b"\n")]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    lines = np.flatnonzero(counts)
    if (counts[lines] != layout.fields).any():
        return None
    tokens = list(chain.from_iterable(rows))
    first = tokens[:: layout.fields]
    del tokens[:: layout.fields]
    try:
        numbers = np.fromiter(map(float, tokens), np.float64, len(tokens)).reshape(len(lines), layout.fields - 1)
        names = [name.decode() for name in first]
    except ValueError:
        return None
    if b"_" in b"".join(tokens) or not layout.sound(names, numbers):
        return None  # Python, unlike everyone else, reads 1_0 as 10
    return Table(names, numbers, lines + 1)


def _line_by_line(source: Source, layout: Layout, problems: list[LabelProblem]) -> Table:
    first, numbers, lines = [], [], []
    for number, raw in enumerate(source.data.removeprefix(_BOM).split(b"\n"), start=1):
        try:
            fields = _fields(raw)
            if not fields:
                continue
            if len(fields) != layout.fields:
                what = f"{len(fields)} fields instead of {layout.fields}"
                raise BadLabelError(what, layout.hint(len(fields)) or layout.form, "fields")
            values = [decimal(field, _what(k, layout), layout.form) for k, field in enumerate(fields[1:])]
            check_score(values[layout.score], layout.form)
            layout.check(fields[0], values)
        except BadLabelError as bad:
            problems.append(LabelProblem(f"{source.where}:{number}", bad.what, bad.remedy, bad.kind))
            continue
        first.append(fields[0])
        numbers.append(values)
        lines.append(number)
    table = np.array(numbers, dtype=np.float64).reshape(-1, layout.fields - 1)
    return Table(first, table, np.array(lines, dtype=np.int64))


def _what(column: int, layout: Layout) -> str:
    return "score" if column == layout.score else "coordinate"


def _fields(raw: bytes) -> list[str]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLabelError("not UTF-8 text", "save the file as UTF-8", "encoding") from error
    if "\0" in text:
        raise BadLabelError("contains a NUL byte", "restore the file from an intact copy", "encoding")
    return text.split()
