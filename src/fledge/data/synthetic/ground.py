"""Textured ground: materials painted into polygons over noise of several scales."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.data.synthetic.shapes import Colour, Points, mix

Map = NDArray[np.float32]
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Material:
    """How a surface looks: two colours blended by broad noise, grain of two scales, stripes, ripples (grey levels)."""

    low: Colour
    high: Colour
    mid: float = 4.0
    fine: float = 4.0
    stripes: float = 0.0
    period: float = 6.0
    ripples: float = 0.0


GRASS = (
    Material((74, 88, 58), (112, 118, 78), 7, 6),
    Material((88, 100, 66), (128, 126, 88), 7, 6),
    Material((62, 80, 54), (92, 104, 66), 7, 6),
    Material((120, 116, 82), (146, 134, 98), 6, 6),
)
SOIL = (
    Material((132, 112, 88), (164, 142, 112), 7, 6),
    Material((112, 98, 82), (138, 120, 98), 7, 6),
    Material((158, 146, 124), (182, 168, 142), 6, 5),
)
ASPHALT = (
    Material((84, 86, 88), (102, 102, 102), 3.5, 4.5),
    Material((106, 106, 104), (124, 122, 118), 4, 4.5),
    Material((66, 68, 72), (82, 84, 86), 3, 4),
)
CONCRETE = (
    Material((150, 148, 142), (172, 168, 160), 4, 4),
    Material((128, 128, 124), (150, 148, 142), 4, 4),
    Material((172, 166, 154), (190, 184, 170), 4, 4),
)
WATER = (
    Material((28, 52, 66), (42, 70, 82), 1.5, 2.2, ripples=3.0),
    Material((38, 66, 68), (58, 86, 82), 1.5, 2.2, ripples=3.0),
    Material((22, 38, 56), (32, 52, 72), 1.2, 2.0, ripples=2.5),
    Material((78, 88, 78), (96, 104, 90), 1.5, 2.2, ripples=2.5),
)
CROPS = (
    Material((82, 104, 58), (108, 124, 74), 4, 4, stripes=7, period=5),
    Material((146, 134, 92), (170, 154, 108), 4, 4, stripes=6, period=4.5),
    Material((118, 100, 78), (142, 122, 96), 5, 4, stripes=8, period=6),
    Material((64, 92, 56), (84, 108, 64), 4, 4, stripes=6, period=7),
    Material((168, 158, 116), (186, 172, 130), 4, 4, stripes=4, period=9),
)


def white(rng: np.random.Generator, height: int, width: int) -> Map:
    """Noise that is independent from pixel to pixel, (height, width), standard deviation 1."""
    return rng.standard_normal((height, width), dtype=np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, ...]) -> Map:
    """Sum of smooth random fields, one for each cell size in pixels, (height, width), standard deviation about 1.

    Each cell size is half the one before it: the sum is built from the coarsest grid upwards, which costs a fraction of
    enlarging every grid to the full size.
    """
    rows, columns = height // cells[0] + 2, width // cells[0] + 2
    total = white(rng, rows, columns)
    for i in range(1, len(cells)):
        rows, columns = rows * 2, columns * 2
        total = np.asarray(cv2.resize(total, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)
        total += np.float32(0.62**i) * white(rng, rows, columns)
    weight = sum(0.62 ** (2 * i) for i in range(len(cells)))
    total = total[: height // cells[-1] + 2, : width // cells[-1] + 2] * np.float32(1.25 / weight**0.5)
    size = (total.shape[1] * cells[-1], total.shape[0] * cells[-1])
    big = cv2.resize(total, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(big[:height, :width], np.float32)


def fixed(points: Points, scale: float = 1.0) -> NDArray[np.int32]:
    """Image points as OpenCV's fixed-point pixel centres on a canvas ``scale`` times finer."""
    return np.rint(points * (scale * (1 << SUBPIXEL_BITS)) - (1 << SUBPIXEL_BITS) / 2).astype(np.int32)


class Ground:
    """The surface under a scene: ``image`` is (height, width, 3) float32 in 0…255."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.coarse = smooth_noise(rng, height, width, (96, 48, 24))
        self.mid = smooth_noise(rng, height, width, (12, 6, 3))
        self.fine = white(rng, height, width)
        self.image = np.full((height, width, 3), 110, np.float32)

    def window(self, points: Points, margin: float = 2.0) -> tuple[slice, slice] | None:
        """The part of the image a polygon can touch, or None when it lies outside."""
        x, y, w, h = cv2.boundingRect(points.astype(np.float32))
        pad = int(margin) + 1
        x0, y0 = max(x - pad, 0), max(y - pad, 0)
        x1, y1 = min(x + w + pad, self.width), min(y + h + pad, self.height)
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None

    def mask(self, polygons: list[Points], window: tuple[slice, slice]) -> Map:
        """How much of each pixel of the window the polygons cover, 0…1."""
        rows, columns = window
        out = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        for points in polygons:
            cv2.fillPoly(out, [fixed(points - (columns.start, rows.start))], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return out.astype(np.float32) * np.float32(1 / 255)

    def fill(self, material: Material, angle: float = 0.0) -> None:
        """Cover the whole image with a material; ``angle`` (radians) turns its stripes or ripples."""
        self.image[:] = self._texture(material, (slice(0, self.height), slice(0, self.width)), angle)

    def paint(self, points: Points, material: Material, angle: float = 0.0, rough: float = 0.0) -> None:
        """Cover a polygon with a material; ``rough`` (pixels) frays its edge as nature would."""
        window = self.window(points, 2 + 2 * rough)
        if window is None:
            return
        cover = self.mask([points], window)
        texture = self._texture(material, window, angle)
        if cover.min() == 1:
            self.image[window] = texture
            return
        if rough > 0:
            cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), rough), np.float32)
            noise = 0.22 * self.mid[window] + 0.12 * self.coarse[window]
            noise *= 3 * cover * (1 - cover)
            cover = np.clip((cover + noise - 0.5) * 3 + 0.5, 0, 1).astype(np.float32)
        patch = self.image[window]
        patch += (texture - patch) * cv2.merge([cover, cover, cover])

    def tint(self, polygons: list[Points], colour: Colour, alpha: float, blur: float = 0.0) -> None:
        """Blend a colour into polygons: stains, worn paint, joints, foam; blurred ones are patchy as well."""
        window = self.window(np.concatenate(polygons), 2 + 2.5 * blur) if polygons else None
        if window is None:
            return
        cover = self.mask(polygons, window)
        if blur > 0:
            cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), blur), np.float32)
            cover *= np.clip(0.8 + 0.4 * self.mid[window], 0, 1 / alpha)
        weight = cover * np.float32(alpha)
        patch = self.image[window]
        patch *= cv2.merge([1 - weight] * 3)
        patch += cv2.merge([weight * np.float32(c) for c in colour])

    def _texture(self, material: Material, window: tuple[slice, slice], angle: float) -> Map:
        flip = (
            slice(None, None, 1 - 2 * int(self.rng.integers(2))),
            slice(None, None, 1 - 2 * int(self.rng.integers(2))),
        )
        coarse, mid, fine = self.coarse[flip][window], self.mid[flip][window], self.fine[flip][window]
        grain = mid * np.float32(material.mid) + fine * np.float32(material.fine)
        if material.stripes or material.ripples:
            grain = grain + self._waves(material, window, angle, coarse, mid)
        t = float(self.rng.uniform(0.2, 0.8))
        middle = mix(material.low, material.high, t)
        steps = [0.45 * (b - a) for a, b in zip(material.low, material.high, strict=True)]
        # One plane at a time: broadcasting over a last axis of three is several times slower.
        planes = [coarse * np.float32(s) + (grain + np.float32(m)) for s, m in zip(steps, middle, strict=True)]
        return np.asarray(cv2.merge(planes), np.float32)

    def _waves(self, material: Material, window: tuple[slice, slice], angle: float, coarse: Map, mid: Map) -> Map:
        rows, columns = window
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
        across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
        if material.ripples:
            along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
            warp = coarse * np.float32(1.4) + mid * np.float32(1.1)
            ridge = np.sin(across * np.float32(0.85) + warp) + np.sin(
                across * np.float32(0.4) + along * np.float32(0.13) + warp
            )
            glint = np.maximum(ridge + mid - 1.9, 0) * np.float32(6)
            return np.asarray(ridge * np.float32(material.ripples * 0.6) + glint, np.float32)
        wave = np.sin(across * np.float32(2 * np.pi / material.period) + 0.35 * coarse)
        return np.asarray(wave * (np.float32(material.stripes) * (1 + 0.3 * mid)), np.float32)
