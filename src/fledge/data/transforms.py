"""Images and their boxes through one 3×3 matrix.

Coordinates are continuous: pixel i covers [i, i + 1], an image of width W reaches from 0 to W. OpenCV's warp numbers
pixel centres instead (centre of pixel i = i), so its matrix is ours conjugated with a shift by half a pixel; flips and
quarter turns then move whole pixels and are exact. Box corners go through the same matrix in float64. All matrices
here are similarities (one scale for both axes), so a rectangle stays a rectangle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.labels import single_boxes
from fledge.geometry.boxes import boxes_from_quads, corners
from fledge.geometry.iou import rotated_iou
from fledge.types import Targets

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]

# The mean of ImageNet, in RGB: zero once the model has normalised it.
PAD = (124, 116, 104)
# Likewise for images of other than three channels.
PAD_GREY = 128
STRIDE = 32
# A box cut by the frame: a positive from 0.7 of its area inside (the DOTA devkit's rule), unusable below 0.1.
KEEP_IOF, DROP_IOF = 0.7, 0.1
# Thinner objects carry no evidence of their class or angle: never positive, never negative.
THINNEST_PX = 2.0
# Bilinear interpolation reads four pixels and skips the rest from here on: areas are averaged first.
SHRINK_FIRST = 0.5

_GAUSS = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


def pad_colour(channels: int) -> tuple[int, ...]:
    """What the places of a canvas hold that no image covers, for each channel."""
    return PAD if channels == 3 else (PAD_GREY,) * channels


def ceil_stride(side: float) -> int:
    """The smallest multiple of 32 that holds a side in pixels."""
    return STRIDE * math.ceil(side / STRIDE - 1e-6)


def fit_scale(height: int, width: int, image_size: int, short_side: int = 0) -> float:
    """What brings an image into a square of ``image_size``, and its short side to at most ``short_side`` (0: any)."""
    scale = image_size / max(height, width)
    return min(scale, short_side / min(height, width)) if short_side else scale


def fit_to(image: Image, image_size: int, short_side: int = 0) -> tuple[Image, float]:
    """An image (H, W, C) scaled by ``fit_scale``, padded on the right and bottom.

    Returns:
        (H', W', C) with H' and W' multiples of 32, and the scale: boxes in the result divided by it are in the
        pixels of the input.
    """
    height, width = image.shape[:2]
    factor = fit_scale(height, width, image_size, short_side)
    canvas = ceil_stride(height * factor), ceil_stride(width * factor)
    return warp(image, scaling(factor), canvas), factor


def warp(image: Image, matrix: Matrix, size: tuple[int, int]) -> Image:
    """An image (H, W, C) moved by ``matrix`` (3×3 similarity, input to output) onto a canvas of (height, width).

    Reductions to less than half are averaged over areas first, which keeps thin objects and avoids aliasing.
    """
    factor = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if factor < SHRINK_FIRST:
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        smaller = np.diag([width / image.shape[1], height / image.shape[0], 1.0])
        image = resize(image, (width, height), cv2.INTER_AREA)
        matrix = matrix @ np.linalg.inv(smaller)
    centred = shift(-0.5, -0.5) @ matrix @ shift(0.5, 0.5)
    colour = pad_colour(image.shape[2])
    return _by_four(
        image,
        lambda part: cv2.warpAffine(
            part,
            centred[:2],
            (size[1], size[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=colour[: part.shape[2]],
        ),
    )


def resize(image: Image, size: tuple[int, int] | None, interpolation: int, fx: float = 0, fy: float = 0) -> Image:
    """``cv2.resize`` to ``size`` (width, height), or by factors, for an image (H, W, C) of any number of channels."""
    return _by_four(image, lambda part: cv2.resize(part, size, fx=fx, fy=fy, interpolation=interpolation))


def _by_four(image: Image, change: Callable[[Image], Any]) -> Image:
    """An OpenCV function applied to an image (H, W, C) four channels at a time, the most that all of them take."""
    if image.shape[2] == 3:
        return np.asarray(change(image), dtype=np.uint8)
    parts = [change(np.ascontiguousarray(image[..., first : first + 4])) for first in range(0, image.shape[2], 4)]
    # OpenCV leaves out the axis of a single channel.
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2, dtype=np.uint8)


def move_targets(targets: Targets, matrix: Matrix, size: tuple[int, int]) -> Targets:
    """Targets moved by ``matrix`` (3×3, as for the image) into a frame of (height, width), without quads.

    A box keeps its full extent. With at least 0.7 of its area in the frame it stays as it is; with less it becomes
    ignored; below 0.1 it is removed. Boxes with a side under 2 pixels become ignored.
    """
    points = corners(targets.boxes.double()) @ torch.from_numpy(matrix[:2, :2].T.copy()) + torch.from_numpy(
        matrix[:2, 2]
    )
    boxes = boxes_from_quads(points)
    inside = _inside(boxes, points, size)
    ignore = targets.ignore | (inside < KEEP_IOF) | (boxes[:, 2:4].amin(dim=1) < THINNEST_PX)
    return replace(targets, boxes=single_boxes(boxes), ignore=ignore, quads=None).select(inside >= DROP_IOF)


def _inside(boxes: torch.Tensor, points: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The share (N,) of each box's area that lies in the frame."""
    height, width = size
    limit = torch.tensor([width, height], dtype=points.dtype)
    share = ((points >= 0) & (points <= limit)).all(dim=2).all(dim=1).double()
    cut = share == 0
    if cut.any():
        frame = torch.tensor([[width / 2, height / 2, width, height, 0.0]], dtype=boxes.dtype)
        share[cut] = rotated_iou(boxes[cut], frame, mode="iof")[:, 0].double()
    return share


def shift(x: float, y: float) -> Matrix:
    """3×3 translation in pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(factor: float) -> Matrix:
    """3×3 scaling of both axes about the image's corner."""
    return np.diag([factor, factor, 1.0])


def flip(width: float, height: float, horizontal: bool, vertical: bool) -> Matrix:
    """3×3 mirroring of a frame onto itself: left and right, up and down, or both."""
    x, y = (-1.0 if horizontal else 1.0), (-1.0 if vertical else 1.0)
    return np.array([[x, 0.0, width * horizontal], [0.0, y, height * vertical], [0.0, 0.0, 1.0]])


def quarter_turns(width: float, height: float, turns: int) -> Matrix:
    """3×3 rotation of a frame by ``turns`` right angles clockwise on screen, its new corner at the origin.

    Integers throughout: a sine of pi would blur the image.
    """
    cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[turns % 4]
    x, y = ((0.0, 0.0), (height, 0.0), (width, height), (0.0, width))[turns % 4]
    return np.array([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])


def rotation(degrees: float, centre: tuple[float, float]) -> Matrix:
    """3×3 rotation about a point, clockwise on screen for positive angles."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    about: Matrix = shift(*centre) @ turn @ shift(-centre[0], -centre[1])
    return about


@dataclass(frozen=True)
class Augment:
    """A training image from a labelled one; with the defaults it does what ``fit_to`` does in evaluation.

    Attributes:
        image_size: side of the network's input in pixels.
        fit: True scales by ``fit_scale`` and pads right and bottom to multiples of 32; False keeps the
            native resolution and crops ``image_size`` × ``image_size``, three times in four over an object drawn at
            random, since large images are mostly empty. Images that may be turned get a square canvas of
            ``image_size``, so that they stack.
        hflip: mirror left and right, with probability one half.
        vflip: mirror up and down, with probability one half.
        right_angles: turn by 0, 90, 180 or 270 degrees, equally likely.
        rotate_degrees: turn about the centre by up to this angle, either way, uniformly.
        scale: lowest and highest further scale, drawn log-uniformly. With it, or with ``rotate_degrees``, the place in
            the canvas is random too.
        photometric: strength, 0 (none) to 1, of brightness (±50 of 255), contrast (±30 %), colour (±10 % per channel;
            images in colour only) and noise (up to 8 of 255).
        invert: swap light and dark, with probability one half, before all else; padding stays as it is.
        short_side: with ``fit``, of the scaled image in pixels, at most; 0: any.
    """

    image_size: int
    fit: bool = True
    hflip: bool = False
    vflip: bool = False
    right_angles: bool = False
    rotate_degrees: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    photometric: float = 0.0
    invert: bool = False
    short_side: int = 0

    def __call__(self, image: Image, targets: Targets, rng: np.random.Generator) -> tuple[Image, Targets]:
        """An (H, W, C) uint8 image and its targets, transformed; all randomness comes from ``rng``."""
        height, width = image.shape[:2]
        if self.invert and rng.random() < 0.5:
            image = np.bitwise_not(image)
        matrix, size = self.draw(height, width, rng, None if self.fit else _focus(targets, rng))
        moved = warp(image, matrix, size)
        if self.photometric:
            moved = photometric(moved, self.photometric, rng)
        return moved, move_targets(targets, matrix, size)

    def draw(
        self, height: int, width: int, rng: np.random.Generator, focus: tuple[float, float] | None = None
    ) -> tuple[Matrix, tuple[int, int]]:
        """A random 3×3 matrix for an image of that size, and the (height, width) of its canvas.

        ``focus`` (x, y), pixels of the image, is a point that a crop must contain.
        """
        base = fit_scale(height, width, self.image_size, self.short_side) if self.fit else 1.0
        turned = self.right_angles or self.rotate_degrees > 0
        size = (self.image_size, self.image_size)
        if self.fit and not turned:
            size = ceil_stride(height * base), ceil_stride(width * base)

        flips = rng.integers(0, 2, size=2).astype(bool)
        turns = int(rng.integers(0, 4)) * self.right_angles
        degrees = rng.uniform(-self.rotate_degrees, self.rotate_degrees)
        factor = base * math.exp(rng.uniform(*np.log(self.scale)))

        matrix = flip(width, height, bool(flips[0] and self.hflip), bool(flips[1] and self.vflip))
        matrix = scaling(factor) @ quarter_turns(width, height, turns) @ matrix
        extent = (width * factor, height * factor) if turns % 2 == 0 else (height * factor, width * factor)
        if self.rotate_degrees:
            matrix = rotation(degrees, (extent[0] / 2, extent[1] / 2)) @ matrix
        point = None if focus is None else (matrix @ [*focus, 1.0])[:2]
        where = rng.random(2)
        x, y = (
            self._place(extent[i], size[1 - i], where[i], None if point is None else float(point[i])) for i in (0, 1)
        )
        return shift(x, y) @ matrix, size

    def views(self, height: int, width: int) -> int:
        """How many different pictures an image of that size can become; 0 where there is no end of them.

        Where there is one, what a frozen network makes of a picture can be kept instead of computed again.
        """
        cropped = not self.fit and max(height, width) - self.image_size >= 1
        if cropped or self.scale != (1.0, 1.0) or self.rotate_degrees or self.photometric:
            return 0
        turned = 8 if self.hflip or self.vflip else 4
        return (1 + self.invert) * (turned if self.right_angles else (1 + self.hflip) * (1 + self.vflip))

    def _place(self, side: float, room: int, where: float, focus: float | None) -> int:
        """Where the scaled image starts along one axis: whole pixels, so that a mere crop copies pixels unchanged."""
        excess = side - room
        if excess >= 1:
            low, high = (0.0, excess) if focus is None else (max(0.0, focus - room), min(excess, max(0.0, focus)))
            return -round(low + where * (high - low))
        free = self.scale != (1.0, 1.0) or self.rotate_degrees > 0
        return round(where * -excess) if free else 0


def _focus(targets: Targets, rng: np.random.Generator) -> tuple[float, float] | None:
    """The centre of an object drawn at random, three times in four; None without objects or the fourth time."""
    objects = targets.boxes[~targets.ignore]
    if not len(objects) or rng.random() >= 0.75:
        return None
    x, y = objects[rng.integers(len(objects)), :2].tolist()
    return x, y


def photometric(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Random brightness, contrast, colour and noise on (H, W, C) uint8, through one table per channel.

    Grey images (all channels equal) stay grey. Noise is the same in all channels, 256 levels of a normal.
    """
    contrast = 1 + 0.3 * strength * rng.uniform(-1, 1)
    brightness = 50 * strength * rng.uniform(-1, 1)
    gains: NDArray[np.float64] = 1 + 0.1 * strength * rng.uniform(-1, 1, size=(image.shape[2],))
    sample = image[::8, ::8]
    if (sample == sample[..., :1]).all():
        gains[:] = 1.0
    levels = np.arange(256)[:, None]
    table = ((levels - 128) * contrast + 128 + brightness) * gains
    changed = cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])
    noisy = _add_noise(np.asarray(changed, dtype=np.uint8), rng.uniform(0, 8 * strength), rng)
    return noisy.reshape(image.shape)


def _add_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Normal noise of ``sigma``, one value per pixel: a byte picks the quantile, two saturating sums apply it."""
    quantile = np.frombuffer(rng.bytes(image.shape[0] * image.shape[1]), dtype=np.uint8).reshape(image.shape[:2])
    steps = np.rint(_GAUSS * sigma)
    up, down = (np.maximum(side, 0).astype(np.uint8) for side in (steps, -steps))
    channels = 1 if image.ndim == 2 else image.shape[2]
    brighter = cv2.add(image, cv2.merge([cv2.LUT(quantile, up)] * channels))
    noisy = cv2.subtract(brighter, cv2.merge([cv2.LUT(quantile, down)] * channels))
    return np.asarray(noisy, dtype=np.uint8)
