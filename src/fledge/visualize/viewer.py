"""Boxes over a picture that pans and zooms: what a page needs for it (``viewer.html``, run by ``viewer.js``).

The script takes a scene as JSON, in pixels of the scene:

    width, height   of the scene
    classes         of each class ``name`` and ``colour``
    boxes           N times cx, cy, w, h, angle, one after another (le90)
    sizes           N times length and breadth, in metres if the scene has coordinates, else in pixels
    bearings        N bearings of the longer side in degrees from north, or null
    scores, labels  N each
    metres_per_pixel, north, transform, crs
                    as ``fledge.visualize.map_page.ground`` gives them, if the scene has a place in the world
    start           score from which boxes are shown at first; none: all
    picture         set by the page's own script: an image or bitmap of the whole scene at any size, or null
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fledge.visualize.markup import Markup
from fledge.visualize.palette import class_colour, hex_colour
from fledge.visualize.style import own_file, page_style


def viewer_markup() -> Markup:
    """The element that ``makeViewer`` runs."""
    return Markup(own_file("viewer.html"))


def viewer_style() -> str:
    """The style sheet of a page with a viewer."""
    return page_style() + own_file("viewer.css")


def viewer_script(own: str) -> str:
    """The script of a page with a viewer, followed by what is the page's own."""
    return own_file("viewer.js") + own


def class_rows(classes: Sequence[str]) -> list[dict[str, str]]:
    """Name and colour of each class, as the script takes them."""
    return [{"name": name, "colour": hex_colour(class_colour(i))} for i, name in enumerate(classes)]


def embedded(value: Any, name: str) -> Markup:
    """``value`` as JSON in an element with the id ``name``: data, whatever strings are in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')
