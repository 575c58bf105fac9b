"""Polygons in an object's own frame (u forward, v to its right, pixels) and what a drawn thing consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import cos, hypot, sin

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Colour = tuple[float, float, float]
Light = tuple[float, float]
GLASS: Colour = (38, 44, 52)
WHITE: Colour = (232, 232, 228)
CARGO: tuple[Colour, ...] = (
    (152, 60, 44),
    (48, 82, 124),
    (76, 112, 84),
    (196, 196, 190),
    (186, 128, 56),
    (112, 114, 118),
)


@dataclass(frozen=True)
class Pose:
    """A place and a heading: image pixels (pixel i covers [i, i+1)), radians, positive turns +x towards +y."""

    x: float
    y: float
    angle: float

    def map(self, points: Points) -> Points:
        """Local points (N, 2) as image points (N, 2)."""
        c, s = cos(self.angle), sin(self.angle)
        mapped: Points = points.dot(np.array(((c, s), (-s, c)))) + np.array((self.x, self.y))
        return mapped

    def child(self, u: float, v: float, angle: float = 0.0) -> Pose:
        """The pose that lies at local (u, v) and is turned by ``angle`` from this one."""
        c, s = cos(self.angle), sin(self.angle)
        return Pose(self.x + u * c - v * s, self.y + u * s + v * c, self.angle + angle)

    def unmap(self, x: float, y: float) -> tuple[float, float]:
        """The local (u, v) of a direction (x, y) of the image."""
        c, s = cos(self.angle), sin(self.angle)
        return x * c + y * s, y * c - x * s

    def quad(self, length: float, width: float) -> Points:
        """Corners (4, 2) clockwise from the front-left one of a ``length`` by ``width`` box around this pose."""
        c, s = cos(self.angle) / 2, sin(self.angle) / 2
        fx, fy, rx, ry = length * c, length * s, -width * s, width * c
        x, y = self.x, self.y
        return np.array(
            (
                (x + fx - rx, y + fy - ry),
                (x + fx + rx, y + fy + ry),
                (x - fx + rx, y - fy + ry),
                (x - fx - rx, y - fy - ry),
            )
        )


@dataclass
class Sprite:
    """A drawable thing: coloured polygons in drawing order, the outlines that cast its shadow, and its height.

    Attributes:
        parts: (polygon (N, 2) in local pixels, RGB colour 0…255) pairs.
        outlines: convex polygons (N, 2) in local pixels.
        height: pixels above the ground; 0 casts no shadow.
    """

    height: float
    parts: list[tuple[Points, Colour]] = field(default_factory=list)
    outlines: list[Points] = field(default_factory=list)

    def add(self, polygon: Points, colour: Colour, solid: bool = False) -> None:
        """Put a polygon on top; ``solid`` makes it cast a shadow too."""
        self.parts.append((polygon, colour))
        if solid:
            self.outlines.append(polygon)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made brighter (factor > 1) or darker, kept in 0…255."""
    r, g, b = colour
    return min(255.0, r * factor), min(255.0, g * factor), min(255.0, b * factor)


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour at ``t`` of the way from ``a`` to ``b``."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


def pick(rng: np.random.Generator, palette: tuple[Colour, ...], jitter: float = 8.0) -> Colour:
    """One colour of a palette, each channel moved by up to ``jitter`` levels."""
    r, g, b = palette[int(rng.integers(len(palette)))]
    d = rng.uniform(-jitter, jitter, 3).tolist()
    return tuple(float(min(255.0, max(0.0, c + e))) for c, e in zip((r, g, b), d, strict=True))  # type: ignore[return-value]


def rect(u0: float, v0: float, u1: float, v1: float) -> Points:
    """An axis-parallel rectangle in the local frame."""
    return np.array([[u1, v0], [u1, v1], [u0, v1], [u0, v0]])


def disc(u: float, v: float, ru: float, rv: float | None = None, count: int = 20) -> Points:
    """An ellipse as a polygon whose extreme points lie exactly on the axes (``count`` divisible by 4)."""
    ring: Points = circle(count) * np.array((ru, ru if rv is None else rv)) + np.array((u, v))
    return ring


@lru_cache(maxsize=16)
def circle(count: int) -> Points:
    """The unit circle as ``count`` points; shared, not to be changed."""
    t = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(t), np.sin(t)], axis=1)


def strip(a: tuple[float, float], b: tuple[float, float], width: float) -> Points:
    """A straight line from ``a`` to ``b`` as a thin rectangle."""
    (x0, y0), (x1, y1) = a, b
    k = width / 2 / max(hypot(x1 - x0, y1 - y0), 1e-9)
    n, m = (y0 - y1) * k, (x1 - x0) * k
    return np.array([[x0 + n, y0 + m], [x1 + n, y1 + m], [x1 - n, y1 - m], [x0 - n, y0 - m]])


def frame(u0: float, v0: float, u1: float, v1: float, width: float) -> list[Points]:
    """The four painted lines along the inside of a rectangle."""
    w = width
    return [rect(u0, v0, u1, v0 + w), rect(u0, v1 - w, u1, v1), rect(u0, v0, u0 + w, v1), rect(u1 - w, v0, u1, v1)]


def mirrored(half: list[tuple[float, float]]) -> Points:
    """A polygon symmetric about the u axis from the points of its right half, front to back."""
    right = np.array(half)
    return np.concatenate([right, (right * (1.0, -1.0))[::-1]])
