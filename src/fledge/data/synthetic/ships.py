"""Ships as shaded sprites, bow forward."""

from __future__ import annotations

import numpy as np

from fledge.data.synthetic.shapes import (
    CARGO,
    GLASS,
    WHITE,
    Colour,
    Light,
    Points,
    Sprite,
    disc,
    mirrored,
    pick,
    rect,
    shade,
    strip,
)

_HULLS: tuple[Colour, ...] = ((96, 44, 40), (48, 54, 66), (36, 60, 92), (128, 128, 126), (206, 206, 202), (60, 82, 70))
_DECKS: tuple[Colour, ...] = ((132, 66, 54), (106, 116, 106), (142, 138, 130), (166, 148, 118), (92, 98, 106))


def hull(length: float, width: float, bow: float, stern: float) -> Points:
    """A ship's outline that touches all four sides of its box; ``bow`` is the tapered share of the length."""
    h, w, b = length / 2, width / 2, bow * length
    half = [(h, 0.0), (h - 0.22 * b, 0.36 * w), (h - 0.55 * b, 0.76 * w), (h - b, w), (-h + 0.12 * length, w)]
    return mirrored([*half, (-h, stern * w)])


def ship(rng: np.random.Generator, length: float, width: float, light: Light) -> Sprite:
    """A yacht, a freighter with hatches or boxes, a tanker or a ferry."""
    kind = int(rng.integers(4)) if length > 46 else int(rng.choice([0, 0, 1, 3]))
    colour, deck = (
        pick(rng, (WHITE, (216, 216, 212), (188, 182, 170))),
        pick(rng, ((190, 170, 136), WHITE, (176, 178, 180))),
    )
    if kind:
        colour, deck = pick(rng, _HULLS), pick(rng, _DECKS)
    sprite = Sprite(height=width * 0.22)
    bow, stern = float(rng.uniform(0.2, 0.34)) + 0.1 * (kind == 0), float(rng.uniform(0.6, 0.95))
    sprite.add(hull(length, width, bow, stern), colour, solid=True)
    side = -1.0 if light[1] > 0 else 1.0
    inner = hull(length - 2.6, width - 2.4, bow, stern)
    sprite.add(inner, shade(deck, 0.72))
    sprite.add(inner * (1.0, 0.9) + (0.0, -side * 0.045 * width), deck)
    (_yacht, _freighter, _tanker, _ferry)[kind](rng, sprite, length, width)
    return sprite


def _house(sprite: Sprite, u0: float, u1: float, half: float, colour: Colour) -> None:
    """A deckhouse with a dark window front, raised enough to show its own edge."""
    sprite.add(rect(u0 - 0.8, -half - 0.5, u1 + 0.4, half + 0.8), (52, 54, 58))
    sprite.add(rect(u0, -half, u1, half), colour)
    sprite.add(rect(u1 - 1.6, -half * 0.85, u1 - 0.5, half * 0.85), GLASS)


def _yacht(rng: np.random.Generator, sprite: Sprite, length: float, width: float) -> None:
    u = length * float(rng.uniform(-0.12, 0.05))
    _house(sprite, u - 0.2 * length, u + 0.12 * length, width * 0.27, WHITE)
    sprite.add(rect(u - 0.12 * length, -width * 0.16, u + 0.02 * length, width * 0.16), (196, 198, 200))
    sprite.add(rect(-0.44 * length, -width * 0.25, -0.34 * length, width * 0.25), (120, 100, 76))


def _freighter(rng: np.random.Generator, sprite: Sprite, length: float, width: float) -> None:
    boxes = rng.random() < 0.5
    count = int(rng.integers(3, 6))
    edges = np.linspace(-0.22 * length, 0.28 * length, count + 1)
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if boxes:
            for v in (-0.3, -0.02):
                sprite.add(rect(a + 0.4, v * width, b - 0.4, (v + 0.27) * width), pick(rng, CARGO))
        else:
            sprite.add(rect(a + 0.8, -0.29 * width, b - 0.8, 0.31 * width), (56, 56, 58))
            sprite.add(rect(a + 0.8, -0.3 * width, b - 1.2, 0.27 * width), (150, 142, 130))
    _house(sprite, -0.42 * length, -0.27 * length, width * 0.34, WHITE)


def _tanker(rng: np.random.Generator, sprite: Sprite, length: float, width: float) -> None:
    pipe: Colour = (188, 186, 178)
    sprite.add(strip((-0.24 * length, 0), (0.34 * length, 0), 1.3), pipe)
    for u in np.linspace(-0.14, 0.26, int(rng.integers(2, 5))).tolist():
        sprite.add(strip((u * length, -0.34 * width), (u * length, 0.34 * width), 0.9), pipe)
        sprite.add(disc((u + 0.05) * length, 0.2 * width, 1.3, count=8), (84, 66, 58))
    _house(sprite, -0.42 * length, -0.26 * length, width * 0.36, WHITE)
    sprite.add(disc(-0.45 * length, 0, 1.5, count=8), (70, 60, 56))


def _ferry(rng: np.random.Generator, sprite: Sprite, length: float, width: float) -> None:
    _house(sprite, -0.38 * length, 0.22 * length, width * 0.33, pick(rng, (WHITE, (206, 206, 198), (150, 156, 160))))
    for u in np.linspace(-0.3, 0.1, int(rng.integers(2, 4))).tolist():
        sprite.add(rect(u * length, -0.2 * width, (u + 0.08) * length, 0.2 * width), (140, 144, 148))
