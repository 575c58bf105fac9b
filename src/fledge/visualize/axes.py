"""The parts that charts share: scales with round ticks, the frame, the legend, the SVG envelope."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fledge.visualize.markup import MINUS, Markup, escape, number, shorten, text_width
from fledge.visualize.palette import Tone

WIDTH = 400.0  # user units; scaled to its column, so that text stays legible from phone to desktop
TEXT = 12.0
SMALL = 11.0
_LEGEND_ROW = 18.0


@dataclass(frozen=True)
class Axis:
    """A straight map from values to pixels, with its ticks.

    Attributes:
        low, high: the values at the two ends, low < high; positive if ``log``.
        start, stop: the pixels at the two ends.
        ticks: values to mark.
        log: whether the map is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def labels(self) -> list[str]:
        """One text per tick, all with the same number of decimals."""
        if self.log:
            return [_log_label(tick) for tick in self.ticks]
        top = max((abs(tick) for tick in self.ticks), default=0.0)
        step = min((b - a for a, b in pairwise(self.ticks)), default=1.0)
        if top and (top >= 1e6 or step < 1e-4):
            return [number(tick, ".3g") for tick in self.ticks]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
        return [number(tick, f",.{decimals}f").replace(",", "\u202f") for tick in self.ticks]


def linear_axis(values: Iterable[float], start: float, stop: float, *, count: int = 5, snap: bool = True) -> Axis:
    """An axis over the finite ``values`` with about ``count`` ticks at 1, 2 or 5 times a power of ten.

    ``snap`` widens the ends to ticks; without it the ends are the data's own.
    """
    finite = [v for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    step = _round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if snap:
        low, high = first * step, last * step
    ticks = tuple(i * step for i in range(first, last + 1) if low - step * 1e-6 <= i * step <= high + step * 1e-6)
    return Axis(low, high, start, stop, ticks)


def log_axis(values: Iterable[float], start: float, stop: float) -> Axis:
    """A logarithmic axis over the finite positive ``values``, with ticks at 1, 2, 5 or at whole decades."""
    usable = [v for v in values if math.isfinite(v) and v > 0]
    low, high = (min(usable), max(usable)) if usable else (0.1, 1.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    stride = max(1, math.ceil((last - first) / 6))
    grid = [m * 10.0**e for e in range(first, last + 1, stride) for m in steps]
    low = max((v for v in grid if v <= low * (1 + 1e-9)), default=low)
    high = min((v for v in grid if v >= high * (1 - 1e-9)), default=high)
    if low == high:
        low, high = low / 2, high * 2
    ticks = tuple(v for v in grid if low * (1 - 1e-9) <= v <= high * (1 + 1e-9))
    return Axis(low, high, start, stop, ticks, log=True)


def legend(entries: Sequence[tuple[str, Tone]], top: float, swatch: str) -> tuple[Markup, float]:
    """Rows of named marks below ``top``, wrapped at the chart's width, and their height.

    ``swatch`` is ``line``, ``bar`` or ``dot``.
    """
    parts, x, y = [], 0.0, top
    for name, tone in entries:
        label = shorten(name, TEXT, WIDTH - 40)
        width = 26 + text_width(label, TEXT) + 14
        if x and x + width > WIDTH:
            x, y = 0.0, y + _LEGEND_ROW
        parts.append(
            f'<g class="t-{tone}" transform="translate({x:.1f} {y:.1f})">{_SWATCHES[swatch]}'
            f'<text x="26" y="13">{_titled(name, label)}</text></g>'
        )
        x += width
    return Markup("".join(parts)), (y - top + _LEGEND_ROW + 6 if entries else 0.0)


_SWATCHES = {
    "line": '<path class="line" d="M0 9H20"/>',
    "bar": '<rect class="bar" x="4" y="3" width="13" height="11" rx="2"/>',
    "dot": '<circle class="dot" cx="11" cy="9" r="4.5"/>',
}


def text(x: float, y: float, content: str, *, kind: str = "", anchor: str = "start", room: float = WIDTH) -> Markup:
    """A text element, shortened to ``room`` with the whole text as its tooltip; ``kind`` is a CSS class."""
    label = shorten(content, SMALL if "small" in kind else TEXT, room)
    style = f' class="{kind}"' if kind else ""
    return Markup(f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_titled(content, label)}</text>')


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line of CSS class ``kind``."""
    return Markup(f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>')


def envelope(title: str, description: str, height: float, body: Iterable[str]) -> Markup:
    """The whole ``<svg>``: accessible name and description, then the visible title and the body."""
    return Markup(
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH:.0f} {height:.0f}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
        f"{text(0, 14, title, kind='title', room=WIDTH * 0.92)}{''.join(body)}</svg>"
    )


def _titled(whole: str, shown: str) -> str:
    tooltip = "" if whole == shown else f"<title>{escape(whole)}</title>"
    return tooltip + escape(shown)


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1, 2, 5) if m * power >= raw * (1 - 1e-9)), 10 * power)


def _log_label(value: float) -> str:
    exponent = round(math.log10(value), 9)
    if -3 <= exponent <= 4:
        return f"{value:g}"
    digits = str(math.floor(exponent)).replace("-", MINUS).translate(str.maketrans("0123456789−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    mantissa = round(value / 10.0 ** math.floor(exponent))
    return ("" if mantissa == 1 else f"{mantissa}·") + "10" + digits
