"""Tennis and basketball courts as flat sprites."""

from __future__ import annotations

import numpy as np

from fledge.data.synthetic.shapes import Colour, Light, Sprite, disc, frame, mix, rect, shade, strip

_COURTS: tuple[tuple[Colour, Colour], ...] = (
    ((58, 104, 78), (52, 88, 132)), ((62, 108, 74), (142, 84, 66)), ((150, 90, 66), (164, 102, 74)),
    ((52, 92, 128), (60, 106, 150)), ((70, 112, 84), (86, 128, 98)), ((126, 124, 118), (146, 142, 134)),
    ((148, 76, 60), (70, 116, 86)), ((112, 84, 110), (62, 92, 124)),
)  # fmt: skip


def court(rng: np.random.Generator, length: float, width: float, _light: Light) -> Sprite:
    """A tennis or basketball court: surround, playing field, white lines, net."""
    outer, inner = _COURTS[int(rng.integers(len(_COURTS)))]
    fade = float(rng.uniform(0, 0.3))
    outer, inner = mix(outer, (140, 136, 126), fade), mix(inner, (146, 140, 130), fade)
    chalk = mix((224, 224, 216), inner, float(rng.uniform(0, 0.4)))
    h, w = length / 2, width / 2
    sprite = Sprite(height=0.0)
    sprite.add(rect(-h, -w, h, w), outer)
    (_tennis if rng.random() < 0.6 else _basketball)(sprite, length * 0.39, width * 0.37, inner, chalk)
    return sprite


def _tennis(sprite: Sprite, h: float, w: float, inner: Colour, chalk: Colour) -> None:
    sprite.add(rect(-h, -w, h, w), inner)
    lines = frame(-h, -w, h, w, 0.8) + [strip((-h, s * 0.75 * w), (h, s * 0.75 * w), 0.7) for s in (-1, 1)]
    lines += [strip((s * 0.53 * h, -0.75 * w), (s * 0.53 * h, 0.75 * w), 0.7) for s in (-1, 1)]
    for line in [*lines, strip((-0.53 * h, 0), (0.53 * h, 0), 0.7)]:
        sprite.add(line, chalk)
    sprite.add(strip((-0.7, -1.1 * w), (-0.7, 1.1 * w), 1.0), shade(inner, 0.6))
    sprite.add(strip((0, -1.1 * w), (0, 1.1 * w), 0.8), (206, 208, 204))


def _basketball(sprite: Sprite, h: float, w: float, inner: Colour, chalk: Colour) -> None:
    h, w = h * 1.12, w * 1.12
    sprite.add(rect(-h, -w, h, w), inner)
    key = shade(inner, 0.8)
    for s in (-1.0, 1.0):
        arc = disc(s * h, 0, 0.46 * h, 0.86 * w)
        arc[:, 0] = np.clip(arc[:, 0], -h, h)
        small = disc(s * h, 0, 0.46 * h - 0.8, 0.86 * w - 0.8)
        small[:, 0] = np.clip(small[:, 0], -h, h)
        sprite.add(arc, chalk)
        sprite.add(small, inner)
        sprite.add(rect(min(s * h, s * 0.62 * h), -0.3 * w, max(s * h, s * 0.62 * h), 0.3 * w), chalk)
        sprite.add(rect(min(s * h, s * 0.65 * h), -0.24 * w, max(s * h, s * 0.65 * h), 0.24 * w), key)
    sprite.add(disc(0, 0, 0.24 * w + 0.7), chalk)
    sprite.add(disc(0, 0, 0.24 * w), key)
    for line in [*frame(-h, -w, h, w, 0.8), strip((0, -w), (0, w), 0.8)]:
        sprite.add(line, chalk)
