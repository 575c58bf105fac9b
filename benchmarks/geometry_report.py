"""What ``benchmarks/geometry.py`` measured, as tables, a page and a plot."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS = "fledge"
COLOURS = ("#1f6fb4", "#e07b1a", "#2f9e5b", "#8a5cc2", "#c23b4b", "#7a6a58", "#3fa7b5", "#666666")


def speed_table(result: dict[str, Any]) -> str:
    """Medians in ms, and in brackets how many times as long as fledge takes."""
    names = columns(result)
    lines = ["| ms (times fledge) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in result["rows"]:
        cells = [_speed(row, name) for name in names]
        lines.append(f"| {row['work']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def errors_table(result: dict[str, Any]) -> str:
    """Largest errors, and in brackets the share of pairs that are clearly wrong."""
    names = [name for name in columns(result) if any(name in found for found in result["errors"].values())]
    lines = ["| largest error (wrong pairs) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, found in result["errors"].items():
        lines.append(f"| {title} | " + " | ".join(_error(found.get(name)) for name in names) + " |")
    return "\n".join(lines)


def columns(result: dict[str, Any]) -> list[str]:
    """Every implementation that did some work, in the order of the first appearances."""
    seen = [name for row in result["rows"] for name in row["median_ms"]]
    return list(dict.fromkeys([*seen, *(name for found in result["errors"].values() for name in found)]))


def _speed(row: dict[str, Any], name: str) -> str:
    median = row["median_ms"].get(name)
    if median is None:
        return ""
    ratio = "" if name == OURS else f" ({_short(median / row['median_ms'][OURS])} ×)"
    kept = f", keeps {row['kept'][name]:,}" if name in row["kept"] else ""
    return f"{_short(median)}{ratio}{kept}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def _error(found: dict[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['largest']:.1g}" + (f" ({100 * found['wrong']:.2g} %)" if found["wrong"] else "")


def page(result: dict[str, Any]) -> str:
    """The page ``docs/results/geometry_speed.md``."""
    about = result["machine"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "torch", "numba", "numpy"))
    rounds = max(len(found) for row in result["rows"] for found in row["rounds_ms"].values())
    return f"""# Speed and exactness of the geometry

```sh
python -m benchmarks.geometry --out docs/results
```

{about["processor"]}, {about["threads"]} thread, {versions}; {about["date"]}.

Float32, boxes of 8 to 72 by 6 to 30 px; medians of up to {rounds} rounds after a warm-up, all libraries in turn in one
process, so that the ratios hold where the milliseconds do not. Inputs are converted to each library's form before the
clock starts. What takes longer than seconds has fewer rounds; an empty cell means that the library has no such function
or would take minutes. Every round and the versions are in [geometry_speed.json](geometry_speed.json).

![How many times as long as fledge each library takes](../images/geometry_speed.svg)

{speed_table(result)}

The boxes lie in 1,024 px, 10,000 × 10,000 of them in 8,192 px. Overlapping pairs are found by `rotated_iou_pairs`, and
by shapely with a tree and vectorised intersections. OpenCV's matrix is a Python loop over
`rotatedRectangleIntersection`. torchvision has no rotated RoIAlign: the boxes are laid flat for it. Suppressions are at
an IoU of 0.3; a library that keeps another number of boxes has other overlaps.

## Errors

IoU in float32 against a clipper in float64 that is part of the tests, {result["pairs"]:,} pairs a set: the largest
error and, where there are any, the share of pairs that are off by more than 0.001. Shapely computes in float64.

{errors_table(result)}
"""


def plot(result: dict[str, Any]) -> bytes:
    """Bars of the ratios on a logarithmic scale, as SVG."""
    names = [name for name in columns(result) if name != OURS]
    found = [row for row in result["rows"] if len(row["median_ms"]) > 1]
    places, ticks, top = [], [], 0.0
    for row in found:
        here = [name for name in names if name in row["median_ms"]]
        places.append([(top + i, name) for i, name in enumerate(here)])
        ticks.append(top + (len(here) - 1) / 2)
        top += len(here) + 0.8
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.2 * top), layout="constrained")
    for row, spots in zip(found, places, strict=True):
        for y, name in spots:
            ratio = row["median_ms"][name] / row["median_ms"][OURS]
            colour = COLOURS[names.index(name) % len(COLOURS)]
            axes.barh(y, ratio - 1, 0.85, left=1, color=colour, label=name)
            side = 1 if ratio >= 1 else -1
            axes.annotate(
                f"{_short(ratio)} ×",
                (ratio, y),
                (3 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=8,
            )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.15)
    axes.set_yticks(ticks, [row["work"] for row in found], fontsize=9)
    axes.set_ylim(top - 0.5, -0.9)
    axes.set_xlabel("times as long as fledge (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()
