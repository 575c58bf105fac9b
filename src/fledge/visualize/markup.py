"""Text and numbers made safe for HTML and SVG. Every string that reaches a page passes through here."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from typing import NewType

Markup = NewType("Markup", str)
"""HTML or SVG that fledge itself made from escaped parts."""

# Control characters are errors in HTML; direction overrides let a class name rearrange the text around it.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*(.+?)\*\*")

MISSING = "n/a"
MINUS = "\u2212"


def escape(text: str) -> str:
    """``text`` for HTML content or a double-quoted attribute; characters that have no place there become U+FFFD."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")  # file names may carry lone surrogates
    return html.escape(_UNWANTED.sub("\ufffd", encodable.replace("\r\n", "\n")), quote=True)


def inline(text: str) -> Markup:
    """Escaped ``text`` in which ``**bold**`` and `` `code` `` are marked up, and nothing else."""
    parts = _CODE.split(text)
    plain = [_BOLD.sub(r"<strong>\1</strong>", escape(part)) for part in parts[::2]]
    code = [f"<code>{escape(part)}</code>" for part in parts[1::2]]
    return Markup("".join(a + b for a, b in zip(plain, [*code, ""], strict=True)))


def number(value: float | None, spec: str = ".1f") -> str:
    """``value`` in the given format with a true minus sign; None, NaN and infinities read ``n/a``."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = format(value, spec)
    if text.startswith("-") and not re.search("[1-9]", text):
        text = text[1:]  # no negative zero
    return text.replace("-", MINUS)


def text_width(text: str, size: float) -> float:
    """A careful estimate of the width of ``text`` in a sans-serif face of ``size`` pixels."""
    return size * sum(_advance(character) for character in text)


def shorten(text: str, size: float, room: float) -> str:
    """``text``, cut in the middle with an ellipsis, if it is wider than ``room`` pixels: both ends tell names apart."""
    if text_width(text, size) <= room:
        return text
    for keep in range(len(text) - 1, 1, -1):
        cut = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(cut, size) <= room:
            return cut
    return "…"


def _advance(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if unicodedata.combining(character):
        return 0.0
    if character in "ijl.,:;|!' ()[]ft":
        return 0.36
    # Digits and signs as in DejaVu Sans, the widest of the usual faces.
    if character in "mwMW@%−+<>=≤≥±×":
        return 0.84
    return 0.64 if character.isupper() or character.isdigit() else 0.58
