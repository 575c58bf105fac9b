"""Pictures of the images with the most errors: what is there, and what was found and why it is wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.data.samples import read_stored
from fledge.errors import DataError
from fledge.evaluation.case import Case
from fledge.evaluation.failures import REASONS, Failures
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import Image

KINDS = ("right", *REASONS, "missed")
SIDE = 640  # of the pictures, pixels
_MISSED = len(KINDS) - 1


class Worst(NamedTuple):
    """One of the images with the most errors.

    Attributes:
        image: its index.
        errors: how many false positives and objects not found it has.
        pictures: the labels and the detections, or None where the image cannot be read.
        part: whether the pictures show a part of the image.
    """

    image: int
    errors: int
    pictures: tuple[Image, Image] | None
    part: bool


def worst_images(
    dataset: DetectionDataset, case: Case, failures: Failures, outcome: NDArray[np.int8], score: float, count: int
) -> list[Worst]:
    """The images with the most errors, drawn; only detections with a score of at least ``score`` are looked at.

    Args:
        dataset: where the images are.
        case: labels and detections.
        failures: the errors.
        outcome: (D,) at the failures' threshold.
        score: least score.
        count: most images.
    """
    wrong = (case.found.score >= score) & (outcome == 0)
    lost = failures.counts & ~failures.found
    errors = np.bincount(case.found.image[wrong], minlength=len(case.images))
    errors += np.bincount(case.objects.image[lost], minlength=len(case.images))
    order = np.argsort(-errors, kind="stable")[:count]
    shown = (case.found.score >= score) & (outcome >= 0)
    return [_draw(dataset, case, failures, (shown, wrong, lost), int(i), int(errors[i])) for i in order if errors[i]]


def _draw(
    dataset: DetectionDataset,
    case: Case,
    failures: Failures,
    marks: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    image: int,
    errors: int,
) -> Worst:
    try:
        pixels = _picture(dataset, image)
    except DataError:
        return Worst(image, errors, None, False)
    shown, wrong, lost = marks
    found = np.flatnonzero((case.found.image == image) & shown)
    objects = np.flatnonzero((case.objects.image == image) & failures.counts)
    centres = np.concatenate(
        [case.found.boxes[found[wrong[found]], :2], case.objects.boxes[objects[lost[objects]], :2]]
    )
    x, y = _window(pixels, centres)
    cut = np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])
    scale = min(1.0, SIDE / max(cut.shape[:2])) if max(cut.shape[:2]) >= SIDE / 2 else 2.0
    pictures = []
    for boxes, kinds in (
        (case.objects.boxes[objects], np.where(lost[objects], _MISSED, 0)),
        (case.found.boxes[found], failures.fate[found].astype(np.int64) + 1),
    ):
        moved = torch.from_numpy(boxes - np.array([x, y, 0, 0, 0]))
        kind = torch.from_numpy(kinds.astype(np.int64))
        pictures.append(draw_boxes(cut, moved, kind, KINDS, dashed=kind == _MISSED, scale=scale, thickness=2))
    return Worst(image, errors, (pictures[0], pictures[1]), cut.shape[:2] != pixels.shape[:2])


def _window(pixels: Image, centres: NDArray[np.float64]) -> tuple[int, int]:
    """The corner (x, y) of the window of ``SIDE`` pixels around an error that holds the most of them."""
    height, width = pixels.shape[:2]
    most = np.array([max(0, width - SIDE), max(0, height - SIDE)])
    corners = np.clip(centres - SIDE / 2, 0, most).astype(np.int64)
    inside = ((centres >= corners[:, None]) & (centres < corners[:, None] + SIDE)).all(axis=2).sum(axis=1)
    x, y = corners[inside.argmax()].tolist()
    return int(x), int(y)


def _picture(dataset: DetectionDataset, image: int) -> Image:
    """An image for people: its first bands, stretched if it has more than 8 bits."""
    samples = read_stored(dataset.paths[image]).samples
    bands = samples[..., :3] if samples.shape[2] >= 3 else np.repeat(samples[..., :1], 3, axis=2)
    if bands.dtype != np.uint8:
        low, high = np.nanpercentile(bands, [0.5, 99.5])
        bands = np.nan_to_num(np.clip((bands - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(bands)
