"""What an evaluation compares: the objects of a whole split and what was found there, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objects:
    """The labelled objects of all images.

    Attributes:
        image: (G,) int64 index into ``Case.images``.
        label: (G,) int64 index into ``Case.classes``; means nothing where ``ignore``.
        quads: (G, 4, 2) float64 corners exactly as labelled, pixels of the image.
        boxes: (G, 5) float64 le90, the smallest rectangle around the quad.
        difficult: (G,) bool.
        ignore: (G,) bool; regions where nothing counts.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    quads: NDArray[np.float64]
    boxes: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    ignore: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Found:
    """The detections in all images, in the order of their file: equal scores keep it.

    Attributes:
        image: (D,) int64 index into ``Case.images``.
        label: (D,) int64 index into ``Case.classes``.
        score: (D,) float64.
        quads: (D, 4, 2) float64 corners, pixels of the image.
        boxes: (D, 5) float64 le90, the smallest rectangle around the quad.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    quads: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Case:
    """Objects and detections over the same images and classes.

    Attributes:
        images: names of the images, unique.
        classes: the K class names.
        objects: what is there.
        found: what was found.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    objects: Objects
    found: Found
