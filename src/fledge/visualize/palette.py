"""Colours that stay apart for colour-blind readers: one set for classes on imagery, one for the series of charts."""

from __future__ import annotations

from typing import Literal, get_args

RGB = tuple[int, int, int]

Tone = Literal["teacher", "student", "distilled", "extra1", "extra2", "extra3"]
"""The role of a series; a role has the same colour and line style on every page."""

TONES: tuple[Tone, ...] = get_args(Tone)

# (on light ground, on dark ground): Okabe & Ito's hues (2008), each shifted until it has 3:1 contrast with its ground.
TONE_COLOURS: dict[Tone, tuple[str, str]] = {
    "teacher": ("#69707d", "#a3abb8"),
    "student": ("#c75000", "#f0954a"),
    "distilled": ("#0067a8", "#5bb4ec"),
    "extra1": ("#00825f", "#2fc79a"),
    "extra2": ("#a2467f", "#dd8fbf"),
    "extra3": ("#8a6a00", "#e0bf3c"),
}

# Okabe & Ito, lightened where a thin outline would drown in vegetation, water or asphalt.
_CLASS_COLOURS: tuple[str, ...] = (
    "#ffb000", "#56c4ff", "#ff5c33", "#2ee6a6", "#f28fd0", "#fff04d", "#8f9bff", "#ffffff", "#b8e04a", "#ff9d8a",
)  # fmt: skip


def class_colour(label: int) -> RGB:
    """The colour of class ``label`` (0…K-1) as 8-bit RGB; ten colours, then darker rounds of the same ten."""
    turn, index = divmod(label, len(_CLASS_COLOURS))
    shade = (1.0, 0.72, 0.52)[turn % 3]
    red, green, blue = (round(int(_CLASS_COLOURS[index][i : i + 2], 16) * shade) for i in (1, 3, 5))
    return red, green, blue


def hex_colour(colour: RGB) -> str:
    """``(255, 176, 0)`` as ``#ffb000``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def ink_on(colour: RGB) -> RGB:
    """Black or white, whichever has the higher contrast on ``colour`` (WCAG 2.2 relative luminance)."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 0.05 * 1.05 else (255, 255, 255)
