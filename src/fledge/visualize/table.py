"""Tables of results: right-aligned figures, the best of each column marked, spreads beside means."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from fledge.visualize.markup import MISSING, Markup, escape, inline, number
from fledge.visualize.palette import Tone


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its spread (standard deviation, or half an interval: the caption says which)."""

    mean: float
    spread: float


Value = str | float | int | Spread | None
"""A table cell; None and numbers that are not finite read ``n/a``."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: the heading.
        spec: format of its numbers, such as ``.1f``.
        best: whether the highest or the lowest number is marked, if any.
    """

    name: str
    spec: str = ".1f"
    best: Literal["high", "low"] | None = None


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Value]],
    *,
    caption: str = "",
    tones: Sequence[Tone | None] | None = None,
    compare: Collection[int] | None = None,
) -> Markup:
    """An HTML table; the first column names the rows.

    Args:
        columns: headings, formats and what is best.
        rows: one value per column; a column whose values are all text is set left.
        caption: below the table, with the inline marks of ``markup.inline``.
        tones: the role of each row, shown as a small square in its colour.
        compare: the rows among which the best is marked (such as the students, without their teacher); all by default.
            Values that read the same are marked alike; a lone value is not marked.
    """
    by_column = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    left = [bool(cells) and all(isinstance(v, str) for v in cells) for cells in by_column]
    best = [_best(column, cells, compare) for column, cells in zip(columns, by_column, strict=True)]
    head = "".join(f'<th scope="col"{_left(side)}>{inline(c.name)}</th>' for c, side in zip(columns, left, strict=True))
    body = []
    for i, row in enumerate(rows):
        tone = tones[i] if tones else None
        mark = f' class="toned t-{tone}"' if tone else ""
        cells = [f'<th scope="row"{mark}>{_shown(columns[0], row[0])}</th>']
        for j in range(1, len(columns)):
            kind = ' class="best"' if i in best[j] else _left(left[j])
            cells.append(f"<td{kind}>{_shown(columns[j], row[j])}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    # Outside the table, so that it does not scroll away with a wide one.
    note = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
    name = escape(caption or "table")
    return Markup(
        f'<figure class="table"><div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}</figure>"
    )


def _best(column: Column, cells: Sequence[Value], compare: Collection[int] | None) -> set[int]:
    """The rows to mark in a column."""
    if column.best is None:
        return set()
    numbers = {i: _number(v) for i, v in enumerate(cells) if compare is None or i in compare}
    known = {i: v for i, v in numbers.items() if v is not None}
    if len(known) < 2:
        return set()
    winner = number((max if column.best == "high" else min)(known.values()), column.spec)
    return {i for i, v in known.items() if number(v, column.spec) == winner}


def _number(value: Value) -> float | None:
    if isinstance(value, Spread):
        value = value.mean
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shown(column: Column, value: Value) -> Markup:
    if isinstance(value, str):
        return inline(value)
    if _number(value) is None:
        return Markup(f'<span class="missing">{MISSING}</span>')
    if isinstance(value, Spread):
        spread = number(value.spread, column.spec)
        return Markup(f'{number(value.mean, column.spec)} <span class="spread">± {spread}</span>')
    return Markup(number(value, column.spec))


def _left(left: bool) -> str:
    return ' class="left"' if left else ""
