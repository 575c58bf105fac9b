"""Layouts on land, one function each: they furnish a zone with ground, paint, objects and clutter."""

from __future__ import annotations

import numpy as np

from fledge.data.synthetic import clutter
from fledge.data.synthetic.ground import ASPHALT, CONCRETE, CROPS, GRASS, SOIL, Material
from fledge.data.synthetic.objects import AIRCRAFT, COURT, TANK, VEHICLE, sample_size
from fledge.data.synthetic.shapes import Colour, Pose, strip
from fledge.data.synthetic.stage import Stage, Zone

YELLOW: Colour = (188, 164, 84)
PAINT: Colour = (196, 196, 188)
LANE_WIDTH = 15.0


def one_of(rng: np.random.Generator, materials: tuple[Material, ...]) -> Material:
    """One material of a group."""
    return materials[int(rng.integers(len(materials)))]


def lane(stage: Stage, zone: Zone, v: float, lanes: int, traffic: float) -> None:
    """A road along a zone at local ``v`` with verges, markings and ``traffic`` vehicles per 100 pixels of each lane."""
    rng, half, side = stage.rng, zone.length / 2, LANE_WIDTH * lanes / 2
    road = Zone(zone.pose.child(0, v), zone.length, 2 * side)
    worn = one_of(rng, ASPHALT)
    stage.ground.paint(road.part(-half, -side - 4, half, side + 4), one_of(rng, (*SOIL, *GRASS)), rough=2.0)
    stage.ground.paint(road.part(-half, -side, half, side), worn)
    tracks = [(i + 0.5) * LANE_WIDTH - side for i in range(lanes)]
    stage.ground.tint([road.part(-half, v - 2.5, half, v + 2.5) for v in tracks], (60, 60, 62), 0.16, blur=1.5)
    _road_marks(stage, road, lanes)
    for i, track in enumerate(tracks):
        for _ in range(int(rng.poisson(traffic * zone.length / 100))):
            turn = (0.0 if i >= lanes / 2 else np.pi) + float(rng.normal(0, 0.03))
            at = road.pose.child(float(rng.uniform(-half, half)), track + float(rng.normal(0, 0.8)), turn)
            stage.place(VEHICLE, at)
    stage.claim(road.part(-half, -side - 2, half, side + 2))


def _road_marks(stage: Stage, road: Zone, lanes: int) -> None:
    half, side = road.length / 2, road.width / 2
    paint: Colour = PAINT if stage.rng.random() < 0.8 else YELLOW
    for edge in (1.4 - side, side - 1.4):
        stage.mark(road.pose.map(strip((-half, edge), (half, edge), 0.7)), paint)
    for at in [i * LANE_WIDTH - side for i in range(1, lanes)]:
        for u in np.arange(-half, half, 16.0).tolist():
            stage.mark(road.pose.map(strip((u, at), (u + 8, at), 0.8)), paint)


def base(stage: Stage, zone: Zone, materials: tuple[Material, ...], rough: float = 3.0) -> None:
    """Cover a zone's ground with one material of a group, its stripes along or across the zone."""
    angle = zone.pose.angle + float(stage.rng.integers(2)) * np.pi / 2
    half, side = zone.length / 2 + 3, zone.width / 2 + 3
    stage.ground.paint(zone.part(-half, -side, half, side), one_of(stage.rng, materials), angle, rough)


def joints(stage: Stage, zone: Zone, pitch: float) -> None:
    """The slab pattern of concrete."""
    h, w = zone.length / 2, zone.width / 2
    lines = [strip((u, -w), (u, w), 0.7) for u in np.arange(-h, h, pitch).tolist()]
    lines += [strip((-h, v), (h, v), 0.7) for v in np.arange(-w, w, pitch).tolist()]
    stage.ground.tint([zone.pose.map(line) for line in lines], (92, 92, 90), 0.3)


def stains(stage: Stage, zone: Zone, count: int) -> None:
    """Oil, repairs and tyre marks."""
    for _ in range(count):
        u, v = zone.random(stage.rng)
        a, b = stage.rng.uniform(2, 14, 2).tolist()
        dark = float(stage.rng.uniform(52, 132))
        stage.ground.tint(
            [zone.part(u - a, v - b, u + a, v + b)], (dark, dark, dark), float(stage.rng.uniform(0.1, 0.35)), blur=2.0
        )


def apron(stage: Stage, zone: Zone) -> None:
    """Airport stands: concrete slabs, yellow taxi lines, a terminal, parked and taxiing aircraft, service cars."""
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, GRASS)
    depth = w - float(rng.uniform(0, 0.25)) * w
    slab = Zone(zone.pose.child(0, w - depth), zone.length, 2 * depth)
    stage.ground.paint(slab.part(-h, -depth, h, depth), one_of(rng, CONCRETE if rng.random() < 0.7 else ASPHALT))
    joints(stage, slab, float(rng.uniform(18, 30)))
    stains(stage, slab, int(zone.length * zone.width / 5000))
    pitch, first = float(rng.uniform(66, 80)), float(rng.uniform(-12, 12))
    for v in np.arange(-depth + 40, depth - 20, 104).tolist():
        facing = float(rng.choice([-1.0, -1.0, 1.0])) * np.pi / 2
        taxi = min(v + 54, depth - 5)
        stage.mark(slab.pose.map(strip((-h, taxi), (h, taxi), 1.3)), YELLOW)
        for u in np.arange(-h + 34 + first, h - 24, pitch).tolist():
            _stand(stage, slab, u, v, taxi, facing)
        _under_way(stage, slab, AIRCRAFT, taxi, 0.33)
        _under_way(stage, slab, VEHICLE, v - 36 + float(rng.normal(0, 3)), 0.8)
    for u in np.arange(-h + 50, h - 30, 120).tolist():
        clutter.building(stage, slab.pose.child(u, -depth - 4), float(rng.uniform(70, 112)), float(rng.uniform(18, 30)))
    clutter.trees(stage, Zone(zone.pose.child(0, -w + (w - depth)), zone.length, 2 * (w - depth) + 1), 6)


def _under_way(stage: Stage, zone: Zone, label: int, v: float, density: float) -> None:
    """Objects that move along a zone at local ``v`` either way, ``density`` for each 100 pixels."""
    rng, half = stage.rng, zone.length / 2
    for _ in range(int(rng.poisson(density * zone.length / 100))):
        stage.place(label, zone.pose.child(float(rng.uniform(-half, half)), v, np.pi * float(rng.integers(2))))


def _stand(stage: Stage, slab: Zone, u: float, v: float, taxi: float, facing: float) -> None:
    rng = stage.rng
    stage.mark(slab.pose.map(strip((u, v - 20), (u, taxi), 1.0)), YELLOW)
    stage.mark(slab.pose.map(strip((u - 5, v - 20), (u + 5, v - 20), 1.2)), PAINT)
    if rng.random() < 0.82:
        turn = facing + float(rng.normal(0, 0.05) if rng.random() < 0.8 else rng.normal(0, 0.5))
        stage.place(AIRCRAFT, slab.pose.child(u + float(rng.normal(0, 1.5)), v + float(rng.normal(0, 3)), turn), gap=2)
    for side in (-1.0, 1.0):
        if rng.random() < 0.35:
            turn = float(rng.choice([0, np.pi / 2, np.pi])) + float(rng.normal(0, 0.3))
            stage.place(
                VEHICLE, slab.pose.child(u + side * float(rng.uniform(20, 34)), v + float(rng.uniform(-24, 24)), turn)
            )


def car_park(stage: Stage, zone: Zone) -> None:
    """Rows of bays with their lines, mostly taken, driving aisles, tree islands and a hall."""
    first = len(stage.objects)
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, ASPHALT, rough=0.0)
    stains(stage, zone, int(zone.length * zone.width / 2500))
    hall = float(rng.uniform(36, 80))
    clutter.building(stage, zone.pose.child(0, -w + hall / 2), zone.length * float(rng.uniform(0.5, 0.9)), hall)
    pitch, taken = float(rng.uniform(12.5, 15)), float(rng.uniform(0.3, 0.75))
    for v in np.arange(-w + hall + 34, w - 24, 82).tolist():
        for u in np.arange(-h + 8, h - 6, pitch).tolist():
            _bays(stage, zone, u, v, pitch, taken)
        _under_way(stage, zone, VEHICLE, v + 41, 0.6)
        for u in np.arange(-h + 20, h, float(rng.uniform(60, 120))).tolist():
            at = zone.pose.child(u, v)
            if rng.random() < 0.5:
                clutter.tree(stage, at.x, at.y, float(rng.uniform(5, 9)))
    clutter.shading_trees(stage, stage.objects[first:], 0.06)


def _bays(stage: Stage, zone: Zone, u: float, v: float, pitch: float, taken: float) -> None:
    """Two bays back to back at local (u, v) and the line between them and the next pair."""
    rng, line, at = stage.rng, u - pitch / 2, zone.pose.child(u, v)
    if not stage.near(at.x, at.y, 30):
        return
    stage.mark(zone.pose.map(strip((line, v - 27), (line, v + 27), 0.8)), PAINT)
    for side in (-1.0, 1.0):
        if rng.random() < taken:
            turn = float(rng.choice([-1.0, 1.0])) * np.pi / 2 + float(rng.normal(0, 0.04))
            stage.place(
                VEHICLE,
                zone.pose.child(u + float(rng.normal(0, 0.4)), v + side * 14 + float(rng.normal(0, 0.8)), turn),
                gap=0.3,
            )


def road(stage: Stage, zone: Zone) -> None:
    """A street as ``street`` furnishes it, perhaps with a crossing one."""
    base(stage, zone, GRASS)
    if stage.rng.random() < 0.4:
        at = zone.pose.child(float(stage.rng.uniform(-0.25, 0.25)) * zone.length, 0, np.pi / 2)
        lane(stage, Zone(at, zone.width, zone.length), 0.0, 2, 0.6)
    street(stage, zone)


def street(stage: Stage, zone: Zone) -> None:
    """A through road with traffic between houses, gardens, pools and trees."""
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    first, lanes = len(stage.objects), int(rng.choice([2, 2, 4]))
    at_v = float(rng.uniform(-0.3, 0.3)) * w
    lane(stage, zone, at_v, lanes, float(rng.uniform(0.6, 1.5)))
    for side in (-1.0, 1.0):
        for u in np.arange(-h + 20, h, 52).tolist():
            v = at_v + side * (LANE_WIDTH / 2 * lanes + 30 + float(rng.uniform(0, 8)))
            _house_lot(stage, zone, u, v, side)
    for _ in range(int(zone.length * zone.width / 12000)):
        clutter.building(
            stage, zone.pose.child(*zone.random(rng), float(rng.normal(0, 0.2))), *rng.uniform(18, 46, 2).tolist()
        )
    if rng.random() < 0.3:
        clutter.coloured_patch(stage, zone.pose.child(*zone.random(rng, 40), float(rng.uniform(0, np.pi))))
    clutter.trees(stage, zone, 11)
    clutter.shading_trees(stage, stage.objects[first:], 0.3)


def _house_lot(stage: Stage, zone: Zone, u: float, v: float, side: float) -> None:
    rng = stage.rng
    clutter.building(stage, zone.pose.child(u, v, float(rng.normal(0, 0.06))), *rng.uniform(20, 36, 2).tolist())
    drive = zone.part(u + 18, v - 18, u + 31, v + 8)
    if rng.random() < 0.45 and stage.free(drive):
        stage.ground.paint(drive, one_of(rng, CONCRETE))
        stage.place(VEHICLE, zone.pose.child(u + 24.5, v - side * 2, side * np.pi / 2 + float(rng.normal(0, 0.06))))
    if rng.random() < 0.3:
        clutter.pool(stage, zone.pose.child(u + float(rng.normal(0, 8)), v + side * 36, float(rng.uniform(0, np.pi))))


def tank_farm(stage: Stage, zone: Zone) -> None:
    """Storage tanks on gravel behind bunds, pipes between them, sheds and a few service cars."""
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, (*SOIL, *CONCRETE), rough=2.0)
    pitch, size = float(rng.uniform(50, 62)), float(rng.uniform(22, 38))
    berms = [strip((-h, v + 2), (h, v + 2), 3.2) for v in np.arange(-w, w, pitch).tolist()]
    berms += [strip((u, -w), (u, w), 2.6) for u in np.arange(-h, h, pitch).tolist()]
    stage.ground.tint([zone.pose.map(berm) for berm in berms], (106, 100, 87), 0.65, blur=0.8)
    for v in np.arange(-w + pitch / 2, w, pitch).tolist():
        stage.mark(zone.pose.map(strip((-h, v + pitch / 2 - 5), (h, v + pitch / 2 - 5), 1.2)), (172, 170, 162))
        for u in np.arange(-h + pitch / 2, h, pitch).tolist():
            _bund(stage, zone, u, v, pitch, size)
    for _ in range(int(rng.poisson(zone.length * zone.width / 26000))):
        u, v = zone.random(rng, 10)
        stage.place(VEHICLE, zone.pose.child(u, v, float(rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.1))))
    clutter.trees(stage, zone, 2.5)


def _bund(stage: Stage, zone: Zone, u: float, v: float, pitch: float, size: float) -> None:
    rng, chance = stage.rng, float(stage.rng.random())
    at = zone.pose.child(u + float(rng.normal(0, 1.5)), v + float(rng.normal(0, 1.5)))
    if chance < 0.72:
        side = float(np.clip(size * rng.uniform(0.8, 1.15), 18, 40))
        stage.ground.tint([at.quad(side + 8, side + 8)], (96, 90, 80), 0.35, blur=3.0)
        # A round object has no heading: its box is the upright square, the one angle a detector can agree on.
        stage.place(TANK, Pose(at.x, at.y, -np.pi / 2), (side, side))
        stage.mark(zone.pose.map(strip((u, v + side / 2 + 1), (u, v + pitch / 2 - 5), 1.0)), (176, 174, 166))
    elif chance < 0.8:
        clutter.round_bed(stage, at)
    elif chance < 0.9:
        clutter.building(stage, at, *rng.uniform(14, 34, 2).tolist())


def sports(stage: Stage, zone: Zone) -> None:
    """Courts in rows on a lawn, a club house, a pool, parked cars and trees."""
    first = len(stage.objects)
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, GRASS)
    across = rng.random() < 0.5
    along, beside = float(rng.uniform(70, 83)), float(rng.uniform(36, 45))
    step_u, step_v, turn = (beside, along, np.pi / 2) if across else (along, beside, 0.0)
    size = sample_size(rng, COURT)
    for v in np.arange(-w + step_v / 2, w - 10, step_v).tolist():
        for u in np.arange(-h + step_u / 2, h, step_u).tolist():
            _plot(stage, zone.pose.child(u, v, turn + np.pi * float(rng.integers(2))), size)
    clutter.trees(stage, zone, 7)
    clutter.shading_trees(stage, stage.objects[first:], 0.2)


def _plot(stage: Stage, at: Pose, size: tuple[float, float]) -> None:
    """One plot of a sports ground: a court on its apron, a building, a look-alike, a few parked cars, or lawn."""
    rng, chance = stage.rng, float(stage.rng.random())
    if chance < 0.4:
        stage.ground.tint([at.quad(size[0] + 9, size[1] + 9)], (158, 152, 138), float(rng.uniform(0, 0.8)))
        stage.place(COURT, at, size if rng.random() < 0.6 else None)
    elif chance < 0.52:
        clutter.building(stage, at, *rng.uniform(18, 50, 2).tolist())
    elif chance < 0.6:
        clutter.coloured_patch(stage, at)
    elif chance < 0.68:
        clutter.pool(stage, at)
    elif chance < 0.76:
        stage.ground.paint(at.quad(62, 30), one_of(rng, ASPHALT))
        for u in (-20.0, -6.0, 8.0, 22.0):
            stage.place(VEHICLE, at.child(u, float(rng.normal(0, 2)), np.pi / 2 + float(rng.normal(0, 0.05))))


def countryside(stage: Stage, zone: Zone) -> None:
    """Fields with furrows, hedges and tracks, a farm, and now and then any of the classes."""
    first = len(stage.objects)
    rng, h, w = stage.rng, zone.length / 2, zone.width / 2
    base(stage, zone, (*CROPS, *GRASS))
    cuts = np.sort(rng.uniform(-w, w, 3)).tolist()
    for a, b in zip([-w, *cuts], [*cuts, w], strict=True):
        split = float(rng.uniform(-h, h))
        for u0, u1 in ((-h, split), (split, h)):
            angle = zone.pose.angle + float(rng.choice([0, np.pi / 2]))
            stage.ground.paint(zone.part(u0, a, u1, b), one_of(rng, (*CROPS, *SOIL, *GRASS)), angle, 1.5)
    track = zone.pose.child(0, float(rng.uniform(-0.6, 0.6)) * w, float(rng.normal(0, 0.15)))
    stage.ground.tint([track.quad(3 * h, 9)], (170, 156, 128), 0.75, blur=1.0)
    for _ in range(int(rng.poisson(zone.length * zone.width / 20000))):
        clutter.building(
            stage, zone.pose.child(*zone.random(rng, 20), float(rng.normal(0, 0.3))), *rng.uniform(20, 52, 2).tolist()
        )
    for _ in range(int(rng.poisson(zone.length * zone.width / 26000))):
        (clutter.round_bed, clutter.coloured_patch, clutter.pool)[int(rng.integers(3))](
            stage, zone.pose.child(*zone.random(rng, 20))
        )
    for _ in range(int(rng.poisson(zone.length * zone.width / 18000))):
        label = int(rng.choice([VEHICLE, AIRCRAFT, TANK, COURT], p=[0.5, 0.22, 0.14, 0.14]))
        at = zone.pose.child(*zone.random(rng, 20), float(rng.uniform(0, 2 * np.pi)))
        stage.place(label, Pose(at.x, at.y, -np.pi / 2) if label == TANK else at)
    for _ in range(int(rng.poisson(1.2))):
        stage.place(VEHICLE, track.child(float(rng.uniform(-h, h)), 0, float(rng.choice([0, np.pi]))))
    clutter.trees(stage, zone, 7)
    clutter.shading_trees(stage, stage.objects[first:], 0.3)
