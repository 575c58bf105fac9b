"""Deterministic synthetic aerial scenes with oriented labels: tiles to train on and one large scene to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fledge.data.synthetic import places, waters
from fledge.data.synthetic.ground import GRASS
from fledge.data.synthetic.shapes import Pose
from fledge.data.synthetic.stage import Stage, Zone
from fledge.errors import UsageError

MIN_SIDE = 64
LARGE_SIDE = 400
EMPTY_SHARE = 0.05
CLOUDINESS = 0.08
LAYOUTS: dict[str, Callable[[Stage, Zone], None]] = {
    "apron": places.apron,
    "harbour": waters.harbour,
    "car-park": places.car_park,
    "road": places.road,
    "tank-farm": places.tank_farm,
    "sports": places.sports,
    "open-sea": waters.open_sea,
    "countryside": places.countryside,
}
_WEIGHTS = (0.25, 0.16, 0.05, 0.1, 0.14, 0.15, 0.07, 0.08)


@dataclass(frozen=True)
class Scene:
    """A rendered image with its labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        quads: (N, 4, 2) float32, pixels of the image (pixel i covers [i, i+1)), clockwise from the object's own
            front-left corner; the tight oriented box of the body without shadow and wake. A quad's centre and at
            least 70 % of its area lie inside the image, corners may lie outside.
        labels: (N,) int64, index into ``CLASSES``.
        difficult: (N,) bool, more than 60 % of the body is hidden by a tree or a cloud (beyond 90 % there is no label).
    """

    image: NDArray[np.uint8]
    quads: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def render_scene(seed: int, height: int = 256, width: int = 256, layout: str | None = None) -> Scene:
    """Render one scene; the same arguments give the same bits.

    Args:
        seed: any integer >= 0.
        height: pixels, at least 64.
        width: pixels, at least 64.
        layout: a key of ``LAYOUTS``, ``"mixed"`` (two neighbouring areas and a road), ``"empty"`` (scenery without any
            object) or ``"town"`` (several areas joined by roads). By default drawn at random for a tile, and a town
            where a side exceeds 400 pixels.

    Raises:
        UsageError: a negative seed, a side below 64 pixels or an unknown layout.
    """
    _check(seed, height, width, layout)
    rng = np.random.Generator(np.random.PCG64([seed, height, width]))
    kind = layout or ("town" if max(height, width) > LARGE_SIDE else _draw_kind(rng))
    stage = Stage(rng, height, width, mute=kind == "empty")
    if kind == "empty":
        kind = _draw_layout(rng)
    heading = float(rng.uniform(0, 2 * np.pi))
    if kind == "town":
        _town(stage, heading)
    elif kind == "mixed":
        _mixed(stage, heading)
    else:
        LAYOUTS[kind](stage, _cover(stage, heading, float(rng.uniform(-0.12, 0.12))))
    return _finish(stage, 0.0 if kind == "town" else CLOUDINESS)


def render_showpiece(seed: int, height: int = 768, width: int = 1024) -> Scene:
    """Render a large scene that reads as one place: an airport, a harbour, a tank farm, car parks, courts and roads.

    Raises:
        UsageError: a negative seed or a side below 64 pixels.
    """
    return render_scene(seed, height, width, "town")


def _check(seed: int, height: int, width: int, layout: str | None) -> None:
    if seed < 0 or min(height, width) < MIN_SIDE:
        raise UsageError(
            f"cannot render a scene: seed {seed}, {height}x{width} pixels: use a seed >= 0 and sides >= {MIN_SIDE}"
        )
    names = (*LAYOUTS, "mixed", "empty", "town")
    if layout is not None and layout not in names:
        raise UsageError(f"unknown layout: {layout!r}: use one of {', '.join(names)}")


def _draw_kind(rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < EMPTY_SHARE:
        return "empty"
    return "mixed" if chance < EMPTY_SHARE + 0.15 else _draw_layout(rng)


def _draw_layout(rng: np.random.Generator) -> str:
    return str(rng.choice(list(LAYOUTS), p=_WEIGHTS))


def _cover(stage: Stage, heading: float, shift: float = 0.0) -> Zone:
    """A zone at a heading that covers the whole image."""
    c, s = abs(np.cos(heading)), abs(np.sin(heading))
    along, across = stage.width * c + stage.height * s, stage.width * s + stage.height * c
    centre = Pose(stage.width * (0.5 + shift), stage.height * (0.5 + shift), heading)
    grow = 1 + 2 * abs(shift)
    return Zone(centre, float(along * grow) + 8, float(across * grow) + 8)


def _mixed(stage: Stage, heading: float) -> None:
    whole = _cover(stage, heading)
    split = float(stage.rng.uniform(-0.2, 0.2)) * whole.width
    stage.ground.fill(places.one_of(stage.rng, GRASS))
    places.lane(stage, whole, split, 2, 0.7)
    for low, high, turn in ((-whole.width / 2, split - 19, 0.0), (split + 19, whole.width / 2, np.pi)):
        zone = Zone(whole.pose.child(0, (low + high) / 2, turn), whole.length, high - low)
        name = str(stage.rng.choice(["apron", "car-park", "tank-farm", "sports", "countryside", "harbour"]))
        # Seen from the road the land of a harbour comes first: its quay is on the low side of its own zone.
        turned = Zone(zone.pose.child(0, 0, np.pi), zone.length, zone.width) if name == "harbour" else zone
        LAYOUTS[name](stage, turned)


def _town(stage: Stage, heading: float) -> None:
    """Rows of areas between roads; the last row is the waterfront, the one before it has the airport."""
    rng = stage.rng
    slight = (heading - np.pi) * 0.1
    whole = _cover(stage, slight + (np.pi if rng.random() < 0.5 else 0.0))
    stage.ground.fill(places.one_of(rng, GRASS))
    rows = max(2, round(whole.width / 300))
    edges = np.linspace(-whole.width / 2, whole.width / 2, rows + 1)
    edges[1:-1] += rng.uniform(-24, 4, rows - 1)
    for v in edges[1:-1].tolist():
        places.lane(stage, whole, v, int(rng.choice([2, 2, 4])), 0.7)
    blocks = max(2, round(whole.length / 400))
    inland = rng.permutation(["tank-farm", "car-park", "sports", "street", "countryside"]).tolist()
    for i, (low, high) in enumerate(pairwise(edges.tolist())):
        names = ["harbour"] if i == rows - 1 else ["apron"] if i == rows - 2 else []
        if i < rows - 1:
            names += [inland[(i * blocks + j) % len(inland)] for j in range(blocks - len(names))]
        _row(stage, whole, names, low + 36 * (i > 0), high - 36 * (i < rows - 1))


def _row(stage: Stage, whole: Zone, names: list[str], low: float, high: float) -> None:
    """Areas side by side between two roads, an apron wider than the others; a street runs from road to road."""
    shares = np.cumsum([0.0, *(1.5 if name == "apron" else 1.0 for name in names)])
    cuts = (shares / shares[-1] - 0.5) * whole.length
    for name, (a, b) in zip(names, pairwise(cuts.tolist()), strict=True):
        pose = whole.pose.child((a + b) / 2, (low + high) / 2)
        if name == "street":
            places.street(stage, Zone(pose.child(0, 0, np.pi / 2), high - low + 40, b - a - 12))
        else:
            LAYOUTS[name](stage, Zone(pose, b - a - 12, high - low))


def _finish(stage: Stage, cloudiness: float) -> Scene:
    image = stage.compose(cloudiness)
    kept = stage.labelled()
    quads = [o.pose.quad(o.length, o.width) for o, _ in kept]
    return Scene(
        image=image,
        quads=np.array(quads, np.float32).reshape(-1, 4, 2),
        labels=np.array([o.label for o, _ in kept], np.int64),
        difficult=np.array([hard for _, hard in kept], np.bool_),
    )
