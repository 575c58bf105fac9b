"""A benchmark as a table, a chart of average precision against latency, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from fledge.visualize.charts import Series, line_chart
from fledge.visualize.markup import Markup
from fledge.visualize.page import Page
from fledge.visualize.palette import TONES
from fledge.visualize.table import Column

HEADINGS = (
    "model", "runtime", "precision", "px", "threads", "median ms", "p95 ms", "CPU ms", "peak MB", "file MB",
    "M parameters", "GFLOPs", "AP50", "AP50:95",
)  # fmt: skip

Record = Mapping[str, Any]

# The columns of the page: heading, format and key.
_WHICH = {"px": ("d", "size"), "threads": ("d", "threads")}
_TABLES = {
    "Average precision, and time of one image": _WHICH
    | {"AP50": (".1f", "ap50"), "AP50:95": (".1f", "ap50_95")}
    | {"median ms": (".1f", "median_ms"), "p95 ms": (".1f", "p95_ms"), "CPU ms": (".1f", "cpu_ms")},
    "Memory, size and arithmetic": _WHICH
    | {"peak MB": (".0f", "peak_bytes"), "file MB": (".2f", "file_bytes")}
    | {"M parameters": (".2f", "parameters"), "GFLOPs": (".2f", "flops")},
}
_UNITS = {"peak_bytes": 1e-6, "file_bytes": 1e-6, "parameters": 1e-6, "flops": 1e-9, "ap50": 100, "ap50_95": 100}


def cells(row: Record) -> list[str]:
    """One row as text, in the order of ``HEADINGS``."""
    ap = [row["ap50"], row["ap50_95"]]
    return [
        str(row["model"]),
        str(row["runtime"]),
        str(row["precision"]),
        str(row["size"]),
        str(row["threads"]),
        *(f"{row[key]:.1f}" for key in ("median_ms", "p95_ms", "cpu_ms")),
        f"{row['peak_bytes'] / 1e6:.0f}",
        f"{row['file_bytes'] / 1e6:.2f}",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['flops'] / 1e9:.2f}",
        *("–" if value is None else f"{100 * value:.1f}" for value in ap),
    ]


def markdown(rows: Sequence[Record]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADINGS, ["---"] * 5 + ["---:"] * (len(HEADINGS) - 5), *map(cells, rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def trade_off(rows: Sequence[Record]) -> Markup | None:
    """AP50 against median latency, one mark a row, a colour for each runtime and precision; None without AP."""
    kinds = list(dict.fromkeys((row["runtime"], row["precision"]) for row in rows if row["ap50"] is not None))
    if not kinds:
        return None
    series = []
    for k, kind in enumerate(kinds):
        own = sorted(
            (r["median_ms"], 100 * r["ap50"])
            for r in rows
            if (r["runtime"], r["precision"]) == kind and r["ap50"] is not None
        )
        series.append(Series(" ".join(kind), [x for x, _ in own], [y for _, y in own], TONES[k % len(TONES)]))
    return line_chart(series, "median ms an image", "AP50", "Average precision against latency")


def benchmark_page(rows: Sequence[Record], facts: Mapping[str, str]) -> Page:
    """The tables and the chart under a title, with ``facts`` (versions, command, machine) at the foot."""
    page = Page("Benchmark", "time from the bytes of one image to its boxes")
    if (chart := trade_off(rows)) is not None:
        page.figure(chart, "Left and up is better. Average precision is that of whole images, whatever the size timed.")
    names = _short_names([str(row["model"]) for row in rows])
    # Two tables, for in one the average precision would be beyond the border of a screen.
    for caption, columns in _TABLES.items():
        heads = [Column(name, spec) for name, (spec, _) in columns.items()]
        table = [[*_which(row, names), *(_value(row, key) for _, key in columns.values())] for row in rows]
        page.table([Column("model"), Column("runtime"), *heads], table, caption=caption)
    page.paragraph(
        "Peak memory is that of a whole process, its libraries included. Times on a busy machine are too long; CPU ms, "
        "the processor time of the process, is disturbed less."
    )
    page.footer(facts)
    return page


def _which(row: Record, names: Mapping[str, str]) -> tuple[str, str]:
    return names[str(row["model"])], f"{row['runtime']} {row['precision']}"


def _value(row: Record, key: str) -> float | None:
    value: float | None = row[key]
    return None if value is None else value * _UNITS.get(key, 1)


def _short_names(models: Sequence[str]) -> dict[str, str]:
    """Each model by the last part of its path, if that tells all of them apart."""
    short = {model: PurePath(model).name or model for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in models}
