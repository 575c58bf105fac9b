"""Layouts on and beside water: a harbour or marina, and the open sea."""

from __future__ import annotations

import numpy as np

from fledge.data.synthetic import clutter
from fledge.data.synthetic.ground import CONCRETE, SOIL, WATER
from fledge.data.synthetic.objects import SHIP, VEHICLE, sample_size
from fledge.data.synthetic.places import base, joints, one_of, stains
from fledge.data.synthetic.shapes import Colour, Pose, disc, mirrored, strip
from fledge.data.synthetic.stage import Stage, Zone

FOAM: Colour = (206, 216, 218)
QUAY_SHADE: Colour = (18, 26, 32)


def wake(stage: Stage, pose: Pose, length: float, width: float) -> None:
    """Foam behind and beside a moving ship."""
    reach = length * float(stage.rng.uniform(1.0, 2.4))
    stern = -length / 2
    churn = np.array(
        [
            [stern + 4, -0.3 * width],
            [stern + 4, 0.3 * width],
            [stern - reach, 0.55 * width],
            [stern - reach, -0.55 * width],
        ]
    )
    stage.ground.tint([pose.map(churn)], FOAM, 0.35, blur=2.0)
    stage.ground.tint([pose.map(churn * (0.5, 0.45) + (0.5 * stern, 0.0))], FOAM, 0.5, blur=1.5)
    bow = np.array(
        [[length * 0.46, 0], [stern, 0.85 * width], [stern - 0.8 * reach, 1.7 * width], [stern, 0.7 * width]]
    )
    stage.ground.tint([pose.map(bow * (1.0, side)) for side in (-1.0, 1.0)], FOAM, 0.32, blur=1.5)
    ring = mirrored([(length * 0.5 + 1.5, 0), (length * 0.3, 0.5 * width + 2), (0, 0.5 * width + 2.2)])
    stage.ground.tint([pose.map(ring)], FOAM, 0.35, blur=1.2)


def sail(stage: Stage, pose: Pose) -> None:
    """A ship under way, with its wake."""
    placed = stage.place(SHIP, pose, gap=6)
    if placed is not None:
        wake(stage, pose, placed.length, placed.width)


def open_sea(stage: Stage, zone: Zone) -> None:
    """A few ships under way or at anchor, rocks and foam."""
    rng = stage.rng
    base(stage, zone, WATER, rough=0.0)
    for _ in range(int(rng.poisson(zone.length * zone.width / 50000))):
        clutter.islet(stage, zone.pose.child(*zone.random(rng, 20), float(rng.uniform(0, np.pi))))
    for _ in range(int(rng.poisson(zone.length * zone.width / 30000))):
        at = zone.pose.child(*zone.random(rng, 20), float(rng.uniform(0, np.pi)))
        stage.ground.tint(
            [at.map(disc(0, 0, *rng.uniform(2, 14, 2).tolist()))], FOAM, float(rng.uniform(0.1, 0.3)), blur=2.5
        )
    for _ in range(1 + int(rng.poisson(zone.length * zone.width / 26000))):
        pose = zone.pose.child(*zone.random(rng, 30), float(rng.uniform(0, 2 * np.pi)))
        if rng.random() < 0.65:
            sail(stage, pose)
        else:
            stage.place(SHIP, pose, gap=6)


def harbour(stage: Stage, zone: Zone) -> None:
    """A quay with containers, sheds and cars, and piers with ships moored side by side on both sides."""
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, WATER, rough=0.0)
    quay = min(float(rng.uniform(0.2, 0.42)) * zone.width, 100.0)
    edge = -w + quay
    stage.ground.tint([zone.part(-h, edge, h, edge + 5)], QUAY_SHADE, 0.5, blur=1.5)
    land = Zone(zone.pose.child(0, -w + quay / 2), zone.length, quay)
    stage.ground.paint(zone.part(-h, -w, h, edge), one_of(rng, (*CONCRETE, *SOIL[:1])))
    joints(stage, land, 26.0)
    stains(stage, land, int(zone.length * quay / 3000))
    stage.mark(zone.pose.map(strip((-h, edge - 1), (h, edge - 1), 1.6)), (188, 184, 172))
    _quay(stage, zone, edge, quay)
    big = rng.random() < 0.45
    pitch = float(rng.uniform(118, 150) if not big else rng.uniform(70, 96))
    for u in np.arange(-h + 20 + float(rng.uniform(0, 40)), h, pitch).tolist():
        _pier(stage, zone, u, edge, min(float(rng.uniform(0.75, 0.95)) * (w - edge), float(rng.uniform(120, 190))), big)
    for _ in range(int(rng.poisson(zone.length * zone.width / 60000))):
        sail(
            stage,
            zone.pose.child(float(rng.uniform(-h, h)), float(rng.uniform(edge, w)), float(rng.uniform(0, 2 * np.pi))),
        )


def _quay(stage: Stage, zone: Zone, edge: float, quay: float) -> None:
    rng, h = stage.rng, zone.length / 2
    for u in np.arange(-h + 40, h, 90).tolist():
        v = edge - quay * 0.62
        if rng.random() < 0.5:
            clutter.building(
                stage, zone.pose.child(u, v), float(rng.uniform(46, 80)), float(min(rng.uniform(20, 36), quay * 0.6))
            )
        else:
            clutter.container_yard(stage, zone.pose.child(u, v), 3, max(1, int(quay * 0.55 / 9.5)))
    for _ in range(int(rng.poisson(zone.length / 60))):
        turn = float(rng.choice([0, np.pi])) + float(rng.normal(0, 0.05))
        stage.place(VEHICLE, zone.pose.child(float(rng.uniform(-h, h)), edge - 10 + float(rng.normal(0, 2)), turn))


def _pier(stage: Stage, zone: Zone, u: float, edge: float, reach: float, big: bool) -> None:
    """A pier from the quay; big ships lie alongside it, small ones nose-in, side by side."""
    rng, half = stage.rng, 5.0 if big else 3.0
    stage.ground.tint([zone.part(u - half + 2, edge, u + half + 4, edge + reach)], QUAY_SHADE, 0.5, blur=1.5)
    stage.ground.paint(zone.part(u - half, edge - 1, u + half, edge + reach), one_of(rng, (*CONCRETE, *SOIL)))
    for v in np.arange(edge + 6, edge + reach, 9).tolist():
        stage.mark(zone.pose.map(strip((u - half, v), (u + half, v), 0.6)), (112, 104, 92))
    stage.claim(zone.part(u - half, edge, u + half, edge + reach))
    for side in (-1.0, 1.0):
        (_alongside if big else _nose_in)(stage, zone, (u + side * half, edge + 3, edge + reach), side)


def _nose_in(stage: Stage, zone: Zone, berth: tuple[float, float, float], side: float) -> None:
    rng, (u, v, end) = stage.rng, berth
    taken = float(rng.uniform(0.5, 0.95))
    while v < end:
        length = float(rng.uniform(36, 50))
        width = float(np.clip(length * rng.uniform(0.24, 0.3), 10, 14))
        v += width / 2 + float(rng.uniform(1.2, 3.5))
        if rng.random() < taken and v + width / 2 < end:
            turn = (np.pi if side > 0 else 0.0) + np.pi * float(rng.random() < 0.4) + float(rng.normal(0, 0.04))
            stage.place(SHIP, zone.pose.child(u + side * (length / 2 + 2), v, turn), (length, width), gap=0.3)
        elif rng.random() < 0.5:
            stage.ground.tint([zone.pose.map(strip((u, v), (u + side * 24, v), 1.6))], (168, 162, 148), 0.8)
        v += width / 2


def _alongside(stage: Stage, zone: Zone, berth: tuple[float, float, float], side: float) -> None:
    rng, (u, v, end) = stage.rng, berth
    while v < end - 30:
        length, width = sample_size(rng, SHIP)
        length = max(length, 54.0)
        width = float(np.clip(width, length * 0.2, length * 0.3))
        abreast = int(rng.choice([0, 1, 1, 2]))
        for i in range(abreast):
            turn = np.pi / 2 + np.pi * float(rng.integers(2)) + float(rng.normal(0, 0.02))
            at = zone.pose.child(u + side * (width * (i + 0.5) + 2.5 + 2.5 * i), v + length / 2, turn)
            stage.place(SHIP, at, (length, width), gap=0.3)
        v += length + float(rng.uniform(5, 16))
