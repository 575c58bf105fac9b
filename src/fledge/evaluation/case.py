"""What an evaluation compares: the objects of a whole split and what was found there, as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.boxes import corners
from fledge.types import Detections, Targets


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


def case_of(detections: Sequence[Detections], targets: Sequence[Targets], classes: Sequence[str]) -> Case:
    """The detections and labels of some images as one case.

    Args:
        detections: one per image, pixels of the image.
        targets: one per image, in the same order and pixels. Without corners, those of the boxes are taken.
        classes: the K class names.

    Raises:
        UsageError: more of one than of the other.
    """
    if len(detections) != len(targets):
        raise UsageError(f"{len(detections)} detections for {len(targets)} images: evaluation: give one per image")
    none = Targets.empty()
    truth = [none, *targets]
    quads = [(corners(t.boxes.double()) if t.quads is None else t.quads.double()) for t in truth]
    objects = Objects(
        _images([len(t) for t in targets]),
        _joined([t.labels for t in truth]),
        _joined(quads),
        _joined([t.boxes.double() for t in truth]),
        _joined([t.difficult for t in truth]),
        _joined([t.ignore for t in truth]),
    )
    boxes = torch.cat([none.boxes, *(d.boxes for d in detections)]).double().cpu()
    found = Found(
        _images([len(d) for d in detections]),
        _joined([none.labels, *(d.labels for d in detections)]),
        _joined([none.boxes[:, 0].double(), *(d.scores.double() for d in detections)]),
        corners(boxes).numpy(),
        boxes.numpy(),
    )
    names = tuple(t.image_id or str(i) for i, t in enumerate(targets))
    return Case(names, tuple(classes), objects, found)


def _images(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), np.array(counts, dtype=np.int64))


def _joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy()
