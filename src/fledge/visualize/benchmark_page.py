"""A benchmark as a table, a chart of average precision against latency, and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The table and the chart under a title, with ``facts`` (versions, command, machine) at the foot."""
    page = Page("Benchmark", "time from the bytes of one image to its boxes")
    if (chart := trade_off(rows)) is not None:
        page.figure(chart, "Left and up is better.")
    page.table([Column(name) for name in HEADINGS], [cells(row) for row in rows])
    page.paragraph(
        "Peak memory is that of a whole process, its libraries included. Times on a busy machine are too long; CPU ms, "
        "the processor time of the process, is disturbed less."
    )
    page.footer(facts)
    return page
