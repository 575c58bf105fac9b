"""The small scenes that the miniatures of all formats show, and how their files are made.

Nothing here imports fledge: corners are worked out on their own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 64


class Thing(NamedTuple):
    """One object: cx, cy, w, h in pixels, angle in radians clockwise on screen, and the number of its class."""

    cx: float
    cy: float
    w: float
    h: float
    angle: float
    label: int
    difficult: bool = False


# Both orders of the sides, both signs of the angle, a box that leaves the image, and images without objects.
SCENES: dict[str, dict[str, list[Thing]]] = {
    "train": {
        "a1": [Thing(30, 24, 24, 10, 0.4, 0), Thing(62, 36, 9, 28, -0.7, 1, True)],
        "a2": [],
        "a3": [Thing(4, 50, 20, 8, 0.25, 1), Thing(48, 32, 30, 12, 2.5, 0), Thing(80, 20, 16, 11, 0.0, 0)],
    },
    "val": {"b1": [Thing(40, 30, 22, 9, 1.2, 1)], "b2": []},
    "test": {"c1": [Thing(50, 20, 18, 8, -0.3, 0)]},
}


def corners_of(thing: Thing) -> list[tuple[float, float]]:
    """Clockwise on screen, from the corner at (-w/2, -h/2) in the object's own frame."""
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    half = [(-thing.w / 2, -thing.h / 2), (thing.w / 2, -thing.h / 2), (thing.w / 2, thing.h / 2)]
    half.append((-thing.w / 2, thing.h / 2))
    return [(thing.cx + u * cos - v * sin, thing.cy + u * sin + v * cos) for u, v in half]


def flat(thing: Thing) -> list[float]:
    return [value for corner in corners_of(thing) for value in corner]


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


Scenes = dict[str, dict[str, list[Thing]]]


def hull_of(thing: Thing) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax of the upright box around an object."""
    x, y = zip(*corners_of(thing), strict=True)
    return min(x), min(y), max(x), max(y)


def upright(scenes: Scenes, whole: bool = False) -> Scenes:
    """The scenes with each object replaced by the upright box around it, its edges rounded if they are to be whole."""

    def around(thing: Thing) -> Thing:
        x1, y1, x2, y2 = (round(v) if whole else v for v in hull_of(thing))
        return thing._replace(cx=(x1 + x2) / 2, cy=(y1 + y2) / 2, w=x2 - x1, h=y2 - y1, angle=0.0)

    return {split: {stem: list(map(around, things)) for stem, things in s.items()} for split, s in scenes.items()}
