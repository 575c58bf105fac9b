"""A forest plot: differences with their intervals, a row each, around zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fledge.visualize.axes import SMALL, TEXT, WIDTH, envelope, line, linear_axis, text
from fledge.visualize.markup import Markup, escape, number, text_width
from fledge.visualize.palette import Tone

_ROW = 26.0
_TOP = 26.0  # below the title


@dataclass(frozen=True)
class Effect:
    """A difference and its interval.

    Attributes:
        name: of what.
        mean: the difference.
        low, high: ends of its interval.
        tone: colour role.
    """

    name: str
    mean: float
    low: float
    high: float
    tone: Tone = "distilled"


def forest_chart(effects: Sequence[Effect], label: str, title: str, *, spec: str = "+.1f") -> Markup:
    """Differences as dots on their intervals; ``label`` names the axis, ``spec`` is the format of the numbers."""
    names = min(150.0, 4.0 + max((text_width(e.name, TEXT) for e in effects), default=0.0))  # the estimate may be short
    widest = max((text_width(number(e.mean, spec), SMALL) for e in effects), default=0.0)
    ends = [v for e in effects for v in (e.low, e.high, e.mean)]
    bottom = _TOP + max(1, len(effects)) * _ROW
    start, stop = names + 14, WIDTH - widest - 12
    axis = linear_axis([0.0, *ends], start, stop, count=4)
    body: list[str] = [line(axis(t), _TOP, axis(t), bottom, "grid") for t in axis.ticks]
    ticks = zip(axis.ticks, axis.labels(), strict=True)
    body += [text(axis(t), bottom + 16, words, kind="small", anchor="middle") for t, words in ticks]
    body.append(line(axis(0), _TOP, axis(0), bottom, "axis"))
    for row, effect in enumerate(effects):
        y = _TOP + (row + 0.5) * _ROW
        body.append(text(names, y + 4, effect.name, anchor="end", room=names))
        if math.isfinite(effect.mean):
            body += _effect(effect, axis(effect.low), axis(effect.mean), axis(effect.high), y, spec)
    body.append(text((start + stop) / 2, bottom + 34, label, kind="small", anchor="middle"))
    described = "; ".join(
        f"{e.name}: {number(e.mean, spec)}, {number(e.low, spec)} to {number(e.high, spec)}" for e in effects
    )
    return envelope(title, described, bottom + 42, body)


def _effect(effect: Effect, low: float, mean: float, high: float, y: float, spec: str) -> list[str]:
    words = f"{effect.name}: {number(effect.mean, spec)} ({number(effect.low, spec)} to {number(effect.high, spec)})"
    return [
        f'<g class="t-{effect.tone}">',
        line(low, y, high, y, "mean"),
        line(low, y - 4, low, y + 4, "mean"),
        line(high, y - 4, high, y + 4, "mean"),
        f'<circle class="dot" cx="{mean:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(words)}</title></circle>',
        text(WIDTH, y + 4, number(effect.mean, spec), kind="small value", anchor="end"),
        "</g>",
    ]
