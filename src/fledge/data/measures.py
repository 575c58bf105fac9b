"""What can be measured on labelled boxes alone."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import THINNEST, DetectionDataset, quad_areas


def fit_iou(dataset: DetectionDataset) -> NDArray[np.float64]:
    """The IoU (T,) of each object's corners as labelled with its rectangle, which encloses them."""
    areas = dataset.boxes[:, 2].astype(np.float64) * dataset.boxes[:, 3]
    share = np.abs(quad_areas(dataset.quads.astype(np.float64))) / np.maximum(areas, THINNEST**2)
    return np.minimum(share, 1.0)


def beyond_edge(dataset: DetectionDataset, slack: float = 1.0) -> NDArray[np.bool_]:
    """Which objects (T,) reach more than ``slack`` pixels beyond their image."""
    limit = np.repeat(dataset.sizes[:, ::-1], np.diff(dataset.offsets), axis=0)[:, None] + slack
    return np.asarray(((dataset.quads < -slack) | (dataset.quads > limit)).any(axis=(1, 2)))


def axis_aligned(dataset: DetectionDataset, degrees: float = 0.5) -> NDArray[np.bool_]:
    """Which objects (T,) have their sides parallel to the image's, within some degrees."""
    turn = np.mod(dataset.boxes[:, 4].astype(np.float64), np.pi / 2)
    return np.asarray(np.minimum(turn, np.pi / 2 - turn) <= np.deg2rad(degrees))


def hulls(dataset: DetectionDataset) -> NDArray[np.float64]:
    """The upright box (T, 4) around the corners of each object: least x and y, greatest x and y."""
    quads = dataset.quads.astype(np.float64)
    return np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)


def turned(dataset: DetectionDataset) -> NDArray[np.bool_]:
    """Which objects (T,) fill less than 98 % of the upright box around them."""
    edges = hulls(dataset)
    area = (edges[:, 2:] - edges[:, :2]).prod(axis=1)
    return np.asarray(np.abs(quad_areas(dataset.quads.astype(np.float64))) < 0.98 * area)


class Histogram(NamedTuple):
    """How the objects, or images, of a split are distributed.

    Attributes:
        name: what is counted.
        unit: of the values, or "".
        bins: their names, in order.
        counts: one a bin.
    """

    name: str
    unit: str
    bins: tuple[str, ...]
    counts: tuple[int, ...]


_SIZES = tuple(2.0**k for k in range(2, 11))
_ASPECTS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0)
_TURNS = tuple(float(k) for k in range(-75, 90, 15))
_CROWDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
# From this long side by short side on, the angle says something.
ELONGATED = 1.1


def histograms(dataset: DetectionDataset) -> tuple[Histogram, ...]:
    """Of size (square root of the area), long side by short side, angle of the long side (of objects at least 1.1 times
    as long as wide; 0 is along the rows, clockwise is positive) and objects in an image. Ignored objects do not count.
    """
    boxes = dataset.boxes[~dataset.ignore].astype(np.float64)
    ratio = boxes[:, 2] / boxes[:, 3]
    owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    crowd = np.bincount(owner[~dataset.ignore], minlength=len(dataset)).astype(np.float64)
    sizes = ("< 4", *(f"{a:g}–{b:g}" for a, b in pairwise(_SIZES)), "≥ 1024")
    aspects = ("< 1.1", *(f"{a:g}–{b:g}" for a, b in pairwise(_ASPECTS)), "≥ 8")
    angles = tuple(f"{k}° to {k + 15}°".replace("-", "−") for k in range(-90, 90, 15))
    crowds = ("0", "1", *(f"{a:g}–{b - 1:g}" for a, b in pairwise(_CROWDS[1:])), "≥ 500")
    return (
        _histogram("Size of objects", "pixels", np.sqrt(boxes[:, 2] * boxes[:, 3]), _SIZES, sizes),
        _histogram("Long side by short side", "", ratio, _ASPECTS, aspects),
        _histogram("Angle of the long side", "degrees", np.rad2deg(boxes[ratio >= ELONGATED, 4]), _TURNS, angles),
        _histogram("Objects in an image", "", crowd, _CROWDS, crowds),
    )


def _histogram(
    name: str, unit: str, values: NDArray[np.float64], edges: tuple[float, ...], bins: tuple[str, ...]
) -> Histogram:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(bins))
    return Histogram(name, unit, bins, tuple(counts.tolist()))
