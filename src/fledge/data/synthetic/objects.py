"""The five classes as shaded sprites that fill their box exactly: length along the heading, width across it.

Every builder takes (generator, length, width, light): pixels, and the local direction (u, v) the sunlight comes from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fledge.data.synthetic.courts import court
from fledge.data.synthetic.shapes import (
    CARGO,
    GLASS,
    WHITE,
    Colour,
    Light,
    Sprite,
    disc,
    mirrored,
    mix,
    pick,
    rect,
    shade,
    strip,
)
from fledge.data.synthetic.ships import ship

CLASSES: tuple[str, ...] = ("aircraft", "ship", "vehicle", "storage-tank", "court")
AIRCRAFT, SHIP, VEHICLE, TANK, COURT = range(5)

_PLANES: tuple[Colour, ...] = (
    WHITE,
    (222, 222, 218),
    (198, 202, 206),
    (152, 158, 164),
    (112, 116, 112),
    (214, 206, 186),
)
_ACCENTS: tuple[Colour, ...] = (
    (150, 44, 40),
    (36, 66, 128),
    (40, 96, 70),
    (208, 150, 44),
    (70, 70, 76),
    (40, 120, 150),
)
_CARS: tuple[Colour, ...] = (
    WHITE, WHITE, (222, 222, 220), (206, 206, 204), (172, 174, 178), (150, 152, 156), (118, 120, 124), (92, 94, 98),
    (62, 64, 68), (50, 52, 56), (38, 40, 44), (34, 36, 42), (128, 48, 44), (54, 70, 108), (44, 60, 88), (92, 100, 90),
    (178, 168, 146), (176, 154, 76), (84, 62, 52),
)  # fmt: skip


def sample_size(rng: np.random.Generator, label: int) -> tuple[float, float]:
    """A plausible (length, width) in pixels for a class."""
    if label == AIRCRAFT:
        length = float(rng.uniform(36, 58))
        return length, float(np.clip(length * rng.uniform(0.84, 1.1), 34, 60))
    if label == SHIP:
        length = float(36 + 44 * rng.beta(1.2, 1.8))
        return length, float(np.clip(length * rng.uniform(0.2, 0.3), 10, 20))
    if label == VEHICLE:
        return float(rng.uniform(20, 26)), float(rng.uniform(9, 11.6))
    if label == TANK:
        side = float(rng.uniform(18, 40))
        return side, side
    length = float(rng.uniform(44, 64))
    return length, float(np.clip(length * rng.uniform(0.47, 0.54), 22, 32))


def aircraft(rng: np.random.Generator, length: float, width: float, light: Light) -> Sprite:
    """An airliner, propeller plane or jet seen from above."""
    body, accent = pick(rng, _PLANES), pick(rng, _ACCENTS)
    straight = rng.random() < 0.25
    h, r = length / 2, length * float(rng.uniform(0.05, 0.066))
    root = length * float(rng.uniform(0.1, 0.17))
    sweep = length * float(rng.uniform(0.0, 0.05) if straight else rng.uniform(0.2, 0.3))
    chord, tip = length * (0.15 if straight else 0.24), length * float(rng.uniform(0.05, 0.09))
    sprite = Sprite(height=length * 0.1)
    wing_colour = mix(body, (170, 174, 178), 0.35)
    for side in (-1.0, 1.0):
        lit = 1.0 + 0.1 * side * light[1]
        wing = np.array([[root, 0], [root - sweep, 1], [root - sweep - tip, 1], [root - chord, 0]])
        sprite.add(wing * (1.0, side * width / 2), shade(wing_colour, lit), solid=True)
        flap = np.array(
            [[root - chord + 1.4, 0], [root - sweep - tip + 0.6, 1], [root - sweep - tip, 1], [root - chord, 0]]
        )
        sprite.add(flap * (1.0, side * width / 2), shade(wing_colour, lit * 0.84))
        span = width * float(rng.uniform(0.155, 0.19))
        tail = np.array(
            [[-h + 0.16 * length, 0], [-h + 0.05 * length, side * span], [-h, side * span], [-h + 0.04 * length, 0]]
        )
        sprite.add(tail, shade(wing_colour, lit), solid=True)
    _engines(rng, sprite, length, width, root, sweep, accent)
    tube = mirrored(
        [(h, 0.0), (h - 0.03 * length, 0.6 * r), (h - 0.1 * length, r), (-0.18 * length, r), (-h, 0.25 * r)]
    )
    sprite.add(tube, body, solid=True)
    side = -1.0 if light[1] > 0 else 1.0
    dark = np.array(
        [[h - 0.08 * length, 0.3], [h - 0.1 * length, 1], [-0.18 * length, 1], [-h, 0.25], [-0.2 * length, 0.3]]
    )
    sprite.add(dark * (1.0, side * r), shade(body, 0.74))
    sprite.add(rect(h - 0.085 * length, -0.5 * r, h - 0.05 * length, 0.5 * r), GLASS)
    sprite.add(mirrored([(-h + 0.2 * length, 0.15), (-h + 0.02 * length, 0.55), (-h, 0.5)]), accent)
    return sprite


def _engines(
    rng: np.random.Generator, sprite: Sprite, length: float, width: float, root: float, sweep: float, accent: Colour
) -> None:
    colour = accent if rng.random() < 0.4 else (128.0, 130.0, 134.0)
    for share in ((0.32,), (0.32,), (0.27, 0.55))[int(rng.integers(3))]:
        u = root - sweep * share + 0.015 * length
        for side in (-1.0, 1.0):
            v = side * share * width / 2
            sprite.add(disc(u, v, 0.058 * length, 0.026 * length, 12), shade(colour, 0.9))
            sprite.add(
                rect(u + 0.035 * length, v - 0.018 * length, u + 0.056 * length, v + 0.018 * length), (58, 60, 64)
            )


def vehicle(rng: np.random.Generator, length: float, width: float, light: Light) -> Sprite:
    """A car or a truck: bonnet, dark windscreen, roof, rear window; or a cab and a load."""
    h, w = length / 2, width / 2
    sprite = Sprite(height=width * 0.3)
    if length > 23.5 and rng.random() < 0.5:
        return _truck(rng, sprite, length, width)
    colour = pick(rng, _CARS)
    body = mirrored([(h, 0.6 * w), (h - 1.2, 0.92 * w), (h - 3, w), (-h + 2, w), (-h + 0.6, 0.9 * w), (-h, 0.6 * w)])
    sprite.add(body, shade(colour, 0.82), solid=True)
    side = -1.0 if light[1] > 0 else 1.0
    sprite.add(body * (0.94, 0.86) + (0.0, -side * 0.05 * width), colour)
    front, back = length * float(rng.uniform(0.16, 0.24)), -length * float(rng.uniform(0.26, 0.38))
    cabin = mirrored(
        [(front, 0.62 * w), (front - 0.1 * length, 0.86 * w), (back + 0.06 * length, 0.86 * w), (back, 0.66 * w)]
    )
    sprite.add(cabin, GLASS)
    roof = mirrored([(front - 0.13 * length, 0.7 * w), (back + 0.09 * length, 0.7 * w)])
    sprite.add(roof, shade(colour, 1.08))
    sprite.add(roof * (0.9, 0.3) + (0.0, side * 0.46 * w), shade(colour, 0.86))
    return sprite


def _truck(rng: np.random.Generator, sprite: Sprite, length: float, width: float) -> Sprite:
    h, w = length / 2, width / 2
    cab, load = pick(rng, _CARS), pick(rng, (WHITE, (200, 200, 196), (152, 150, 142), *CARGO))
    sprite.height = width * 0.45
    split = h - 0.24 * length
    sprite.add(rect(-h, -w, split - 0.8, w), shade(load, 0.8), solid=True)
    sprite.add(rect(-h + 0.7, -w + 0.7, split - 1.4, w - 0.7), load)
    for u in np.arange(-h + 3, split - 2, 3.2).tolist():
        sprite.add(strip((u, -w + 0.8), (u, w - 0.8), 0.6), shade(load, 0.9))
    sprite.add(mirrored([(h, 0.7 * w), (h - 1, 0.9 * w), (split, 0.92 * w)]), cab, solid=True)
    sprite.add(rect(h - 2.6, -0.72 * w, h - 1.0, 0.72 * w), GLASS)
    return sprite


def storage_tank(rng: np.random.Generator, _length: float, width: float, light: Light) -> Sprite:
    """A round tank: cone roof lit sector by sector, or a floating roof with the wall's shadow inside."""
    r = width / 2
    colour = pick(rng, (WHITE, (214, 212, 204), (186, 186, 182), (168, 152, 132), (140, 146, 142), (150, 104, 84)))
    sprite = Sprite(height=r * float(rng.uniform(0.35, 0.7)))
    sprite.add(disc(0, 0, r, count=40), shade(colour, 0.62), solid=True)
    sprite.add(disc(0, 0, r * 0.96, count=36), shade(colour, 1.06))
    if rng.random() < 0.45:
        _floating_roof(sprite, r * 0.9, colour, light, float(rng.uniform(0.2, 0.6)))
    else:
        _cone_roof(sprite, r * 0.91, colour, light, float(rng.uniform(0.06, 0.2)))
    angle = float(rng.uniform(0, 2 * np.pi))
    c, s = float(np.cos(angle)), float(np.sin(angle))
    sprite.add(strip((0.55 * r * c, 0.55 * r * s), (0.94 * r * c, 0.94 * r * s), 1.2), shade(colour, 0.55))
    for _ in range(int(rng.integers(1, 4))):
        u, v = rng.uniform(-0.45, 0.45, 2).tolist()
        sprite.add(disc(u * r, v * r, max(0.8, 0.07 * r), count=8), shade(colour, 0.5))
    return sprite


def _cone_roof(sprite: Sprite, r: float, colour: Colour, light: Light, slope: float) -> None:
    rim, count = disc(0, 0, r, count=24), 24
    for i in range(count):
        p, q = rim[i], rim[(i + 1) % count]
        facing = float((p + q) @ np.array(light)) / (2 * r)
        sprite.add(np.array([(0.0, 0.0), p, q]), shade(colour, 0.93 + slope * facing))
    sprite.add(disc(0, 0, max(1.0, 0.1 * r), count=8), shade(colour, 0.75))


def _floating_roof(sprite: Sprite, r: float, colour: Colour, light: Light, depth: float) -> None:
    sprite.add(disc(0, 0, r, count=32), shade(colour, 0.42))
    lit = disc(-light[0] * depth * r, -light[1] * depth * r, r, count=32)
    far = np.maximum(np.hypot(lit[:, 0], lit[:, 1]) / r, 1.0)
    sprite.add(lit / far[:, None], shade(colour, 0.86))
    sprite.add(disc(0, 0, r * 0.16, count=12), shade(colour, 0.66))


BUILDERS: tuple[Callable[[np.random.Generator, float, float, Light], Sprite], ...] = (
    aircraft, ship, vehicle, storage_tank, court,
)  # fmt: skip
