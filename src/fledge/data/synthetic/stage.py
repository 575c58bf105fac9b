"""A scene under construction: what stands where, and how it becomes an image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.data.synthetic.ground import SUBPIXEL_BITS, Ground, Map, fixed, smooth_noise
from fledge.data.synthetic.objects import BUILDERS, sample_size
from fledge.data.synthetic.shapes import Colour, Points, Pose, Sprite

Image = NDArray[np.uint8]
SUPERSAMPLING = 2
MIN_INSIDE = 0.7  # share of an object's box inside the image below which it is not placed at all
DIFFICULT_ABOVE = 0.6  # share of an object's body hidden above which its label says difficult
DROPPED_ABOVE = 0.9  # share hidden above which nobody could tell what it is, and it gets no label


@dataclass(frozen=True)
class Placed:
    """An object of a class: its box is ``length`` by ``width`` around ``pose``."""

    label: int
    pose: Pose
    length: float
    width: float
    sprite: Sprite


@dataclass(frozen=True)
class Zone:
    """A rectangle of land, ``length`` along and ``width`` across the heading of ``pose``, that one layout furnishes."""

    pose: Pose
    length: float
    width: float

    def part(self, u0: float, v0: float, u1: float, v1: float) -> Points:
        """The image quad (4, 2) of a local rectangle."""
        return self.pose.map(np.array([[u1, v0], [u1, v1], [u0, v1], [u0, v0]]))

    def random(self, rng: np.random.Generator, margin: float = 0.0) -> tuple[float, float]:
        """A random local point at least ``margin`` from the sides."""
        u, v = max(self.length / 2 - margin, 1.0), max(self.width / 2 - margin, 1.0)
        return float(rng.uniform(-u, u)), float(rng.uniform(-v, v))


class Stage:
    """Collects ground, paint, objects and clutter, keeps objects apart, then composes the image.

    With ``mute`` no object of a class is ever placed: scenery that looks the same but is empty.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, mute: bool = False) -> None:
        self.rng = rng
        self.height, self.width, self.mute = height, width, mute
        self.ground = Ground(rng, height, width)
        azimuth = float(rng.uniform(0, 2 * np.pi))
        self.sun = (float(np.cos(azimuth)), float(np.sin(azimuth)))
        self.reach = float(rng.uniform(0.5, 1.3))
        self.marks: list[tuple[Points, Colour]] = []
        self.objects: list[Placed] = []
        self.low: list[tuple[Pose, Sprite]] = []
        self.tall: list[tuple[Pose, Sprite]] = []
        self.hidden = np.zeros((height, width), np.uint8)
        self._taken = np.zeros((height, width), np.uint8)

    def light(self, pose: Pose) -> tuple[float, float]:
        """The direction the sunlight comes from, in a pose's own frame."""
        return pose.unmap(-self.sun[0], -self.sun[1])

    def near(self, x: float, y: float, margin: float) -> bool:
        """Whether a point is inside the image or at most ``margin`` pixels outside."""
        return -margin < x < self.width + margin and -margin < y < self.height + margin

    def free(self, quad: Points) -> bool:
        """Whether nothing has claimed any pixel of a quad (the part outside the image counts as free)."""
        window = self.ground.window(quad)
        if window is None:
            return True
        return not np.any(self._taken[window] & _footprint(quad, window))

    def claim(self, quad: Points) -> None:
        """Keep later objects and clutter off a quad."""
        window = self.ground.window(quad)
        if window is not None:
            self._taken[window] |= _footprint(quad, window)

    def inside(self, quad: Points) -> float:
        """The share of a convex quad's area that lies inside the image."""
        border = np.array([[0, 0], [self.width, 0], [self.width, self.height], [0, self.height]], np.float32)
        corners = quad.astype(np.float32)
        if bool(((corners >= 0) & (corners <= (self.width, self.height))).all()):
            return 1.0
        shared, _ = cv2.intersectConvexConvex(corners, border)
        return float(shared) / cv2.contourArea(corners)

    def place(self, label: int, pose: Pose, size: tuple[float, float] | None = None, gap: float = 1.5) -> Placed | None:
        """Put an object of a class on the ground unless it would overlap another or be cut too much by the border."""
        length, width = size or sample_size(self.rng, label)
        if self.mute or not (0 <= pose.x < self.width and 0 <= pose.y < self.height):
            return None
        if self.inside(pose.quad(length, width)) < MIN_INSIDE:
            return None
        spaced = pose.quad(length + 2 * gap, width + 2 * gap)
        if not self.free(spaced):
            return None
        self.claim(pose.quad(length, width))
        sprite = BUILDERS[label](self.rng, length, width, self.light(pose))
        placed = Placed(label, pose, length, width, sprite)
        self.objects.append(placed)
        return placed

    def scenery(self, pose: Pose, sprite: Sprite, tall: bool = False) -> None:
        """Add clutter; ``tall`` things stand above the objects, shade them and may hide them."""
        (self.tall if tall else self.low).append((pose, sprite))

    def mark(self, points: Points, colour: Colour) -> None:
        """Paint a polygon of the image on the ground."""
        if self.ground.window(points) is not None:
            self.marks.append((points, colour))

    def hide(self, points: Points) -> None:
        """Record that whatever lies under an image polygon is out of sight."""
        cv2.fillPoly(self.hidden, [fixed(points)], 255, cv2.LINE_8, SUBPIXEL_BITS)

    def labelled(self) -> list[tuple[Placed, bool]]:
        """The objects that can still be recognised, each with its difficult flag."""
        shares = [(o, self._hidden_share(o)) for o in self.objects]
        return [(o, share > DIFFICULT_ABOVE) for o, share in shares if share <= DROPPED_ABOVE]

    def compose(self, cloudiness: float) -> Image:
        """The finished (height, width, 3) RGB image, with clouds at a chance of ``cloudiness``."""
        base = np.clip(self.ground.image, 0, 255).astype(np.uint8)
        size = (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING)
        canvas = np.asarray(cv2.resize(base, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        for points, colour in self.marks:
            _fill(canvas, points, colour)
        low = self.low + [(o.pose, o.sprite) for o in self.objects]
        for things in (low, self.tall):
            self._cast_shadows(canvas, things)
            for pose, sprite in things:
                draw(canvas, pose, sprite)
        image = np.asarray(cv2.resize(canvas, (self.width, self.height), interpolation=cv2.INTER_AREA), np.uint8)
        if self.rng.random() < cloudiness:
            self._clouds(image)
        return _develop(self.rng, image, self.ground.fine[::-1, ::-1])

    def _cast_shadows(self, canvas: Image, things: list[tuple[Pose, Sprite]]) -> None:
        mask = np.zeros((self.height, self.width), np.uint8)
        for pose, sprite in things:
            offset = np.array(self.sun) * (self.reach * sprite.height)
            for outline in sprite.outlines if sprite.height > 0 else ():
                foot = pose.map(outline)
                both = np.concatenate([foot, foot + offset]).astype(np.float32)
                hull = cv2.convexHull(both)[:, 0].astype(np.float64)
                cv2.fillConvexPoly(mask, fixed(hull), 255, cv2.LINE_AA, SUBPIXEL_BITS)
        if not mask.any():
            return
        mask = np.asarray(cv2.GaussianBlur(mask, (3, 3), 0.7), np.uint8)
        table = np.arange(256, dtype=np.float32)[:, None] * np.array([0.62, 0.58, 0.5], np.float32)
        factor = cv2.LUT(cv2.merge([mask] * 3), (255 - table).astype(np.uint8)[None])
        factor = cv2.resize(factor, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        cv2.multiply(canvas, factor, dst=canvas, scale=1 / 255)

    def _clouds(self, image: Image) -> None:
        field = smooth_noise(self.rng, self.height, self.width, (64, 32, 16, 8))
        cover = np.clip((field - self.rng.uniform(0.7, 1.5)) * 0.7, 0, 0.92).astype(np.float32)
        image[:] = image + (np.array([232, 234, 236], np.float32) - image) * cover[..., None]
        self.hidden[cover > 0.62] = 255

    def _hidden_share(self, placed: Placed) -> float:
        parts = [placed.pose.map(p) for p, _ in placed.sprite.parts]
        window = self.ground.window(np.concatenate(parts))
        if window is None or not self.hidden[window].any():
            return 0.0
        body = np.zeros(self.hidden[window].shape, np.uint8)
        for part in parts:
            body |= _footprint(part, window)
        return int(np.count_nonzero(self.hidden[window] & body)) / max(int(np.count_nonzero(body)), 1)


def draw(canvas: Image, pose: Pose, sprite: Sprite) -> None:
    """Draw a sprite on a canvas that is ``SUPERSAMPLING`` times finer than the image."""
    polygons = [p for p, _ in sprite.parts]
    mapped = fixed(pose.map(np.concatenate(polygons)), SUPERSAMPLING)
    ends = np.cumsum([0, *(len(p) for p in polygons)]).tolist()
    for (a, b), (_, colour) in zip(pairwise(ends), sprite.parts, strict=True):
        cv2.fillPoly(canvas, [mapped[a:b]], colour, cv2.LINE_AA, SUBPIXEL_BITS)


def _fill(canvas: Image, points: Points, colour: Colour) -> None:
    cv2.fillPoly(canvas, [fixed(points, SUPERSAMPLING)], colour, cv2.LINE_AA, SUBPIXEL_BITS)


def _footprint(points: Points, window: tuple[slice, slice]) -> Image:
    rows, columns = window
    out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(out, [fixed(points - (columns.start, rows.start))], 255, cv2.LINE_8, SUBPIXEL_BITS)
    return out


def _develop(rng: np.random.Generator, image: Image, grain: Map) -> Image:
    """What air, optics and sensor do: haze, colour cast, uneven light, contrast, blur and noise."""
    height, width = image.shape[:2]
    haze = float(rng.uniform(0, 0.3)) * float(rng.random() < 0.7)
    gain = rng.uniform(0.88, 1.16) * rng.uniform(0.95, 1.05, 3)
    contrast = float(rng.uniform(0.72, 1.2))
    blurred = rng.random() < 0.5
    sigma = float(rng.uniform(0.35, 0.75))
    shift = (1 - contrast) * 112 * (1 - haze) + haze * np.array([186, 194, 204])
    table = np.arange(256)[:, None] * (gain * contrast * (1 - haze)) + shift
    out = cv2.LUT(image, table.astype(np.float32)[None])
    if blurred:
        out = cv2.GaussianBlur(out, (5, 5), sigma)
    down, right = rng.uniform(-0.07, 0.07, 2).astype(np.float32)
    light = 1 + np.linspace(-down, down, height)[:, None] + np.linspace(-right, right, width)
    noise = grain * np.float32(rng.uniform(1.0, 4.0))
    out = cv2.multiply(out, cv2.merge([light.astype(np.float32)] * 3))
    return np.asarray(cv2.add(out, cv2.merge([noise] * 3), dtype=cv2.CV_8U), np.uint8)
