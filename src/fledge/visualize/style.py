"""The look of every page and chart: ``page.css``, ``chart.css`` and ``page.js`` of this folder, and their colours."""

from __future__ import annotations

from importlib.resources import files

from fledge.visualize.palette import TONE_COLOURS, TONES

_GROUND: dict[str, tuple[str, str]] = {
    # name: (light, dark)
    "ground": ("#fcfcfa", "#14171b"),
    "card": ("#ffffff", "#1b1f25"),
    "ink": ("#1b1f24", "#e6e8ea"),
    "soft": ("#59616c", "#a1a9b4"),
    "rule": ("#dfe1e0", "#343a42"),
    "wash": ("#f2f3f0", "#20252b"),
    "best": ("#e3eef6", "#17364c"),
    "warn": ("#b45f06", "#e9a34d"),
}


def own_file(name: str) -> str:
    """A file of this folder as text."""
    return files("fledge.visualize").joinpath(name).read_text(encoding="utf-8")


def _variables(dark: bool) -> str:
    pairs = [*_GROUND.items(), *TONE_COLOURS.items()]
    return "".join(f"--{name}:{pair[dark]};" for name, pair in pairs)


_COLOURS = (
    f":root{{color-scheme:light dark;{_variables(dark=False)}}}\n"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(dark=True)}}}}}\n"
)
_TONE_CLASSES = "".join(f".t-{tone}{{--tone:var(--{tone})}}\n" for tone in TONES)


def page_style() -> str:
    """The style sheet of a page, charts included."""
    return _COLOURS + _TONE_CLASSES + own_file("chart.css") + own_file("page.css")


def page_script() -> str:
    """The script of a page; nothing on the page needs it."""
    return own_file("page.js")


def standalone(chart: str) -> str:
    """A chart as the text of an ``.svg`` file that carries its own style, light or dark, for use outside a page."""
    style = _COLOURS + _TONE_CLASSES + own_file("chart.css") + "svg{background:var(--card)}"
    return chart.replace("<title>", f"<style>{style}</style><title>", 1)
