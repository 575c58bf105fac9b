"""Line, bar and paired charts as inline SVG: no script, no font, no file beside the page; the page sets the colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from fledge.visualize.axes import (
    SMALL,
    TEXT,
    WIDTH,
    Axis,
    envelope,
    legend,
    line,
    linear_axis,
    log_axis,
    text,
)
from fledge.visualize.markup import MISSING, Markup, escape, number, text_width
from fledge.visualize.palette import Tone

Point = tuple[float, float]

_TOP = 26.0  # below the title
_PLOT = 210.0
_BAR, _GAP = 11.0, 11.0
_MARKED = 12  # series with at most this many points get a mark on each


@dataclass(frozen=True)
class Series:
    """A named curve: ``x`` and ``y`` of the same length; a value that is not finite is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: Tone


@dataclass(frozen=True)
class BarSeries:
    """A named value per group (of bars) or per seed (of paired dots), in their order.

    Attributes:
        name: shown in the legend.
        values: one per group; NaN where there is none.
        tone: role, which decides the colour.
        errors: half-widths of the error bars, one per group, or None.
    """

    name: str
    values: Sequence[float]
    tone: Tone
    errors: Sequence[float] | None = None


def line_chart(series: Sequence[Series], x_label: str, y_label: str, title: str, *, log_y: bool = False) -> Markup:
    """Curves over a common x axis. On a logarithmic y axis, values that are not positive are gaps."""
    marks, height = legend([(s.name, s.tone) for s in series], _TOP, "line")
    top = _TOP + height + 22
    bottom = top + _PLOT
    xs = [x for s in series for x in s.x]
    ys = [y for s in series for y in s.y]
    y_axis = log_axis(ys, bottom, top) if log_y else linear_axis(ys, bottom, top)
    left = 10 + max((text_width(label, SMALL) for label in y_axis.labels()), default=0.0)
    x_axis = linear_axis(xs, left, WIDTH - 14, snap=False)
    body: list[str] = [
        marks,
        text(0, top - 14, y_label, kind="small"),
        *_y_grid(y_axis, left),
        *_x_ticks(x_axis, bottom),
    ]
    body.append(text((left + WIDTH) / 2, bottom + 34, x_label, kind="small", anchor="middle"))
    body += [_curve(s, x_axis, y_axis) for s in series]
    if not any(True for s in series for _ in _runs(s, log_y)):
        body.append(text((left + WIDTH) / 2, (top + bottom) / 2, "no data", kind="small", anchor="middle"))
    return envelope(title, "; ".join(_describe(s) for s in series), bottom + 42, body)


def bar_chart(
    groups: Sequence[str], series: Sequence[BarSeries], label: str, title: str, *, spec: str = ".1f"
) -> Markup:
    """Horizontal grouped bars from zero, each with its value; a missing value reads n/a.

    Horizontal, so that long class names and twenty classes stay legible; the chart grows with the groups.
    ``label`` names the value axis and ``spec`` is the format of the values.
    """
    marks, height = legend([(s.name, s.tone) for s in series], _TOP, "bar")
    top = _TOP + height
    pitch = len(series) * _BAR + _GAP
    bottom = top + max(1, len(groups)) * pitch
    names = min(130.0, max((text_width(name, TEXT) for name in groups), default=0.0))
    ends = [v + sign * e for s in series for v, e in zip(s.values, _errors(s), strict=True) for sign in (-1, 1)]
    widest = max((text_width(number(v, spec), SMALL) for s in series for v in s.values), default=0.0)
    below = any(v < 0 for s in series for v in s.values)
    if not below:
        ends = [max(0.0, v) for v in ends]  # an error bar that passes zero draws no negative half of the axis
    start, stop = names + 10 + (widest + 6 if below else 0), WIDTH - widest - 8
    axis = linear_axis([0.0, *ends], start, stop, count=4)
    body: list[str] = [
        marks,
        *_x_ticks(axis, bottom),
        *(line(axis(t), top, axis(t), bottom, "grid") for t in axis.ticks),
    ]
    for row, name in enumerate(groups):
        y = top + row * pitch + _GAP / 2
        body.append(text(names, y + (pitch - _GAP) / 2 + 4, name, anchor="end", room=names))
        body += [_bar(s, row, name, axis, y + i * _BAR, spec) for i, s in enumerate(series)]
    body.append(line(axis(0), top, axis(0), bottom, "axis"))
    body.append(text((start + stop) / 2, bottom + 34, label, kind="small", anchor="middle"))
    pairs = [(s.name, zip(groups, s.values, strict=True)) for s in series]
    described = "; ".join(f"{name}: " + ", ".join(f"{g} {number(v, spec)}" for g, v in pair) for name, pair in pairs)
    return envelope(title, described, bottom + 42, body)


def paired_chart(
    seeds: Sequence[str], series: Sequence[BarSeries], y_label: str, title: str, *, spec: str = ".1f"
) -> Markup:
    """One column of dots per series, one dot per seed, the dots of a seed joined; a bar marks each column's mean.

    ``values`` of every series are in the order of ``seeds``.
    """
    top, bottom = _TOP + 24, _TOP + 24 + _PLOT
    y_axis = linear_axis([v for s in series for v in s.values], bottom, top)
    left = 10 + max((text_width(label, SMALL) for label in y_axis.labels()), default=0.0)
    count = max(1, len(series))
    beside = 25 + max(text_width("-100.0", SMALL), 1)  # the mean's label, right of the last column
    pitch = min((WIDTH - left) / count, (WIDTH - left - beside) / (count - 0.5))
    centres = [left + (i + 0.5) * pitch for i in range(len(series))]
    body: list[str] = [text(0, top - 14, y_label, kind="small"), *_y_grid(y_axis, left)]
    for row in range(len(seeds)):
        dots = [(x, s.values[row]) for x, s in zip(centres, series, strict=True)]
        for joined, run in groupby(dots, key=lambda dot: math.isfinite(dot[1])):
            if joined:
                body.append(f'<path class="pair" d="{_path([(x, y_axis(v)) for x, v in run])}"/>')
    for x, s in zip(centres, series, strict=True):
        body += _column(s, seeds, x, y_axis, spec)
        body.append(text(x, bottom + 18, s.name, anchor="middle", room=pitch - 6))
    described = "; ".join(f"{s.name}: " + ", ".join(number(v, spec) for v in s.values) for s in series)
    return envelope(title, described, bottom + 30, body)


def _column(series: BarSeries, seeds: Sequence[str], x: float, axis: Axis, spec: str) -> list[str]:
    known = [(seed, v) for seed, v in zip(seeds, series.values, strict=True) if math.isfinite(v)]
    parts = [
        f'<circle class="dot" cx="{x:.1f}" cy="{axis(v):.1f}" r="4">'
        f"<title>{escape(f'{series.name}, {seed}: ')}{number(v, spec)}</title></circle>"
        for seed, v in known
    ]
    if known:
        mean = axis(fmean(v for _, v in known))
        parts.append(line(x - 20, mean, x + 20, mean, "mean"))
        parts.append(text(x + 25, mean + 4, number(fmean(v for _, v in known), spec), kind="small value"))
    else:
        parts.append(text(x, axis.start - 8, MISSING, kind="small", anchor="middle"))
    return [f'<g class="t-{series.tone}">', *parts, "</g>"]


def _bar(series: BarSeries, row: int, group: str, axis: Axis, y: float, spec: str) -> Markup:
    value, error = series.values[row], _errors(series)[row]
    zero = axis(0)
    if not math.isfinite(value):
        return text(zero + 5, y + _BAR - 1.5, MISSING, kind="small")
    end, half = axis(value), abs(axis(error) - zero)
    shown = number(value, spec) + (f" ± {number(error, spec)}" if error else "")
    parts = [
        f'<g class="t-{series.tone}"><title>{escape(f"{group}, {series.name}: {shown}")}</title>'
        f'<rect class="bar" x="{min(zero, end):.1f}" y="{y:.1f}" width="{abs(end - zero):.1f}" height="{_BAR - 1:g}"/>'
    ]
    if half:
        parts.append(line(max(end - half, axis.start), y + (_BAR - 1) / 2, end + half, y + (_BAR - 1) / 2, "error"))
    sign = -1 if value < 0 else 1
    anchor = "end" if value < 0 else "start"
    parts.append(text(end + sign * (half + 4), y + _BAR - 1.5, number(value, spec), kind="small value", anchor=anchor))
    return Markup("".join(parts) + "</g>")


def _errors(series: BarSeries) -> list[float]:
    """Half-widths, zero where there is none."""
    errors = series.errors if series.errors is not None else [0.0] * len(series.values)
    return [e if math.isfinite(e) else 0.0 for e in errors]


def _y_grid(axis: Axis, left: float) -> Iterator[Markup]:
    for tick, label in zip(axis.ticks, axis.labels(), strict=True):
        yield line(left, axis(tick), WIDTH, axis(tick), "grid")
        yield text(left - 6, axis(tick) + 4, label, kind="small", anchor="end")


def _x_ticks(axis: Axis, bottom: float) -> Iterator[Markup]:
    for tick, label in zip(axis.ticks, axis.labels(), strict=True):
        yield line(axis(tick), bottom, axis(tick), bottom + 4, "axis")
        yield text(axis(tick), bottom + 17, label, kind="small", anchor="middle")


def _curve(series: Series, x_axis: Axis, y_axis: Axis) -> str:
    runs = [[(x_axis(x), y_axis(y)) for x, y in run] for run in _runs(series, y_axis.log)]
    kind = "line dense" if sum(map(len, runs)) > WIDTH / 2 else "line"
    parts = [f'<path class="{kind}" d="{_path(_thin(run))}"/>' for run in runs if len(run) > 1]
    marked = sum(map(len, runs)) <= _MARKED
    dots = [point for run in runs if marked or len(run) == 1 for point in run]
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
    return f'<g class="t-{series.tone}"><title>{escape(_describe(series))}</title>{"".join(parts)}</g>'


def _runs(series: Series, log: bool) -> Iterator[list[Point]]:
    """The stretches of a series without gaps."""
    points = zip(series.x, series.y, strict=True)
    for shown, run in groupby(
        points, key=lambda p: math.isfinite(p[0]) and math.isfinite(p[1]) and (p[1] > 0 or not log)
    ):
        if shown:
            yield list(run)


def _thin(points: list[Point]) -> list[Point]:
    """At most four points a pixel column (first, lowest, highest, last), so that long runs stay small files."""
    thinned: list[Point] = []
    for _, group in groupby(points, key=lambda p: round(p[0])):
        column = list(group)
        by_height = sorted(range(len(column)), key=lambda i: column[i][1])
        thinned += [column[i] for i in sorted({0, by_height[0], by_height[-1], len(column) - 1})]
    return thinned


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _describe(series: Series) -> str:
    known = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(y)]
    if not known:
        return f"{series.name}: no data"
    return f"{series.name}: {number(known[-1][1], '.4g')} at {number(known[-1][0], 'g')}"
