"""What is not a class: buildings, trees, containers, pools, islets and other things a detector may mistake for one."""

from __future__ import annotations

import numpy as np

from fledge.data.synthetic.objects import COURT, TANK, VEHICLE
from fledge.data.synthetic.shapes import Colour, Pose, Sprite, circle, disc, mix, pick, rect, shade, strip
from fledge.data.synthetic.stage import Placed, Stage, Zone

_ROOFS: tuple[Colour, ...] = (
    (146, 88, 70), (162, 108, 84), (120, 76, 66), (116, 114, 112), (152, 150, 144), (190, 188, 180), (96, 104, 112),
    (176, 164, 142), (84, 82, 84), (104, 124, 136),
)  # fmt: skip
_BOXES: tuple[Colour, ...] = (
    (150, 62, 48),
    (52, 84, 122),
    (78, 110, 86),
    (188, 186, 178),
    (182, 128, 62),
    (108, 110, 112),
)
_LEAVES: tuple[Colour, ...] = ((52, 68, 42), (64, 80, 46), (44, 58, 40), (80, 88, 52), (92, 92, 58))


def tree(stage: Stage, x: float, y: float, radius: float) -> None:
    """A crown of overlapping leaf clumps, lit from the sun's side; it hides what is under it."""
    if not stage.near(x, y, 2 * radius + 8):
        return
    rng, base = stage.rng, pick(stage.rng, _LEAVES, 5)
    lit = np.array(stage.sun) * (-0.2 * radius)
    turn = rng.uniform(0, 2 * np.pi) + np.arange(5) * 1.2566
    far, size = rng.uniform(0.35, 0.6, (5, 1)) * radius, rng.uniform(0.45, 0.66, (5, 1, 1)) * radius
    spots = (far * np.stack([np.cos(turn), np.sin(turn)], axis=1))[:, None]
    clumps, tops = spots + size * circle(12), 0.8 * spots + lit + 0.5 * size * circle(8)
    sprite = Sprite(height=radius * 1.3, outlines=[circle(12) * radius])
    sprite.parts = [(clump, shade(base, 0.82)) for clump in clumps]
    sprite.add(circle(12) * (0.6 * radius), base)
    sprite.parts += [(top, shade(base, 1.22)) for top in tops]
    sprite.add(circle(8) * (0.24 * radius) + 2 * lit, shade(base, 1.4))
    stage.scenery(Pose(x, y, 0.0), sprite, tall=True)
    stage.hide(Pose(x, y, 0.0).map(circle(12) * radius))


def trees(stage: Stage, zone: Zone, density: float) -> None:
    """Single trees, groves and bushes where nothing stands; ``density`` is trees per 10,000 square pixels."""
    rng = stage.rng
    for _ in range(int(rng.poisson(density * zone.length * zone.width / 1e4 / 2.5))):
        u, v = zone.random(rng, 6)
        for _ in range(int(rng.integers(1, 5))):
            spot = zone.pose.child(u + float(rng.normal(0, 9)), v + float(rng.normal(0, 9)))
            radius = float(rng.uniform(4, 10))
            if stage.near(spot.x, spot.y, 12) and stage.free(spot.quad(1.2 * radius, 1.2 * radius)):
                tree(stage, spot.x, spot.y, radius)


def shading_trees(stage: Stage, objects: list[Placed], chance: float) -> None:
    """Let trees rooted beside some of the objects grow over them; a few end up hidden for the most part."""
    rng = stage.rng
    for placed in objects:
        if rng.random() < chance and placed.label in (VEHICLE, TANK, COURT):
            sides = (-1.0, 1.0) if rng.random() < 0.4 else (float(rng.choice([-1.0, 1.0])),)
            for side in sides:
                reach, radius = placed.width / 2 + float(rng.uniform(1, 3)), float(rng.uniform(7, 12))
                spot = placed.pose.child(float(rng.uniform(-0.25, 0.25)) * placed.length, side * reach)
                if stage.free(spot.quad(1, 1)):
                    tree(stage, spot.x, spot.y, radius)


def building(stage: Stage, pose: Pose, length: float, width: float) -> bool:
    """A flat, gabled or hipped roof with its shadow; False where something already stands."""
    if not stage.near(pose.x, pose.y, length) or not stage.free(pose.quad(length + 4, width + 4)):
        return False
    stage.claim(pose.quad(length + 3, width + 3))
    rng, colour = stage.rng, pick(stage.rng, _ROOFS)
    light, h, w = stage.light(pose), length / 2, width / 2
    sprite = Sprite(height=float(rng.uniform(6, 14)))
    sprite.add(rect(-h, -w, h, w), shade(colour, 0.8), solid=True)
    kind = int(rng.integers(3)) if width < 44 else 0
    if kind == 0:
        _flat_roof(rng, sprite, h, w, colour)
    else:
        ridge = h if kind == 1 else max(h - w, 1.0)
        for side in (-1.0, 1.0):
            slope = np.array([[h, side * w], [ridge, 0], [-ridge, 0], [-h, side * w]])
            sprite.add(slope, shade(colour, 1.0 + 0.22 * side * light[1]))
            if kind == 2:
                end = np.array([[side * h, -w], [side * ridge, 0], [side * h, w]])
                sprite.add(end, shade(colour, 1.0 + 0.22 * side * light[0]))
        sprite.add(strip((-ridge, 0), (ridge, 0), 0.8), shade(colour, 1.2))
    stage.scenery(pose, sprite, tall=True)
    return True


def _flat_roof(rng: np.random.Generator, sprite: Sprite, h: float, w: float, colour: Colour) -> None:
    sprite.add(rect(-h + 1.2, -w + 1.2, h - 1.2, w - 1.2), colour)
    if rng.random() < 0.35:
        for u in np.arange(-h + 5, h - 3, float(rng.uniform(4, 8))).tolist():
            sprite.add(strip((u, -w + 1.5), (u, w - 1.5), 0.8), shade(colour, 0.88))
    for _ in range(int(h * w / 110) + 1):
        u, v = float(rng.uniform(-h + 4, max(h - 7, -h + 5))), float(rng.uniform(-w + 3, max(w - 6, -w + 4)))
        a, b = rng.uniform(1.6, 4.0, 2).tolist()
        sprite.add(rect(u + 0.8, v + 0.8, u + a + 1.2, v + b + 1.2), shade(colour, 0.6))
        sprite.add(rect(u, v, u + a, v + b), mix(colour, (206, 206, 202), 0.6))


def container(stage: Stage, pose: Pose, length: float, width: float) -> None:
    """A ribbed box of a truck's size, without windscreen or cab."""
    if not stage.near(pose.x, pose.y, length) or not stage.free(pose.quad(length, width)):
        return
    stage.claim(pose.quad(length, width))
    colour, h, w = pick(stage.rng, _BOXES), length / 2, width / 2
    sprite = Sprite(height=4.0)
    sprite.add(rect(-h, -w, h, w), shade(colour, 0.8), solid=True)
    sprite.add(rect(-h + 0.6, -w + 0.6, h - 0.6, w - 0.6), colour)
    for u in np.arange(-h + 2, h - 1, 2.4).tolist():
        sprite.add(strip((u, -w + 0.6), (u, w - 0.6), 0.7), shade(colour, 0.86))
    stage.scenery(pose, sprite)


def container_yard(stage: Stage, pose: Pose, rows: int, columns: int) -> None:
    """A block of containers, some missing."""
    for i in range(rows):
        for j in range(columns):
            if stage.rng.random() < 0.75:
                container(stage, pose.child((i - rows / 2 + 0.5) * 23, (j - columns / 2 + 0.5) * 9.5), 21.5, 8.5)


def pool(stage: Stage, pose: Pose) -> None:
    """A swimming pool, round or court-shaped, with a pale edge."""
    rng = stage.rng
    a = float(rng.uniform(7, 20))
    b = a * float(rng.uniform(0.5, 1.0))
    if not stage.near(pose.x, pose.y, 30) or not stage.free(pose.quad(2 * a + 6, 2 * b + 6)):
        return
    stage.claim(pose.quad(2 * a + 4, 2 * b + 4))
    water = pick(rng, ((92, 150, 168), (70, 128, 152), (112, 166, 172)))
    sprite = Sprite(height=0.0)
    for grow, colour in ((2.2, (196, 190, 178)), (0.6, shade(water, 0.8)), (-0.6, water)):
        ru, rv = a + grow, b + grow
        sprite.add(disc(0, 0, ru, rv, 28) if b > 0.8 * a else rect(-ru, -rv, ru, rv), colour)
    stage.scenery(pose, sprite)


def round_bed(stage: Stage, pose: Pose) -> None:
    """A roundabout, a round lawn or a circular basin: a tank's outline without its height."""
    rng, r = stage.rng, float(stage.rng.uniform(8, 20))
    if not stage.near(pose.x, pose.y, 30) or not stage.free(pose.quad(2 * r, 2 * r)):
        return
    stage.claim(pose.quad(2 * r, 2 * r))
    kerb, inner = (
        pick(rng, ((168, 162, 150), (130, 128, 122))),
        pick(rng, ((92, 104, 66), (146, 126, 98), (74, 100, 106))),
    )
    sprite = Sprite(height=0.0)
    sprite.add(disc(0, 0, r, count=32), kerb)
    sprite.add(disc(0, 0, r * 0.86, count=32), inner)
    sprite.add(disc(0.2 * r, 0.1 * r, r * 0.4, r * 0.5, 16), shade(inner, 0.88))
    stage.scenery(pose, sprite)


def coloured_patch(stage: Stage, pose: Pose) -> None:
    """A court-sized tarpaulin, playground or empty painted surface without lines."""
    rng = stage.rng
    length, width = float(rng.uniform(30, 58)), float(rng.uniform(16, 30))
    if not stage.near(pose.x, pose.y, 40) or not stage.free(pose.quad(length, width)):
        return
    stage.claim(pose.quad(length, width))
    colour = pick(rng, ((70, 104, 88), (92, 112, 132), (142, 96, 74), (150, 142, 122)))
    sprite = Sprite(height=0.0)
    sprite.add(rect(-length / 2, -width / 2, length / 2, width / 2), colour)
    for _ in range(int(rng.integers(1, 4))):
        u, v = rng.uniform(-0.35, 0.35, 2).tolist()
        a, b = rng.uniform(0.06, 0.2, 2).tolist()
        sprite.add(
            rect((u - a) * length, (v - b) * width, (u + a) * length, (v + b) * width),
            shade(colour, float(rng.uniform(0.8, 1.2))),
        )
    stage.scenery(pose, sprite)


def islet(stage: Stage, pose: Pose) -> None:
    """Rocks awash or a buoyed raft: long and pale in the water like a ship, but ragged."""
    rng, size = stage.rng, float(stage.rng.uniform(6, 22))
    if not stage.near(pose.x, pose.y, 30) or not stage.free(pose.quad(2 * size, 2 * size)):
        return
    stage.claim(pose.quad(2 * size, size))
    t = np.arange(14) * (2 * np.pi / 14)
    r = rng.uniform(0.6, 1.1, 14) * size
    ring = np.stack([r * np.cos(t), 0.45 * r * np.sin(t)], axis=1)
    rock = pick(rng, ((110, 104, 92), (88, 86, 82), (134, 124, 104)))
    sprite = Sprite(height=1.5)
    sprite.add(ring * 1.18, (152, 164, 164))
    sprite.add(ring, shade(rock, 0.8), solid=True)
    sprite.add(ring * 0.7 - np.array(stage.light(pose)) * -0.08 * size, rock)
    stage.scenery(pose, sprite)
