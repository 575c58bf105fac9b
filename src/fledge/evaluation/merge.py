"""Detections on patches, merged into whole images.

As the DOTA devkit does with its ``ResultMerge``, and MutDet's and MMRotate's DOTA metric: patches are called
``<image>__<rate>__<x>___<y>``, and a point of one lies at ((x, y) + point) / rate in the image. Scores below a floor
are left out; boxes that overlap a better one of their class are suppressed in each patch, then in the whole image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from fledge.data.labels import FARTHEST
from fledge.errors import DataError, UsageError
from fledge.evaluation.results.listing import Floats, Integers, Listing
from fledge.geometry.boxes import boxes_from_quads, hulls
from fledge.geometry.nms import rotated_nms

PATCH_NAME = re.compile(r"(.+?)__(\d{1,4}(?:\.\d{1,8})?)__(-?\d{1,7})___(-?\d{1,7})", re.ASCII)
_AT_ONCE = 4096  # boxes of several images that go through NMS together


class MergeRule(NamedTuple):
    """What is left out when patches are merged.

    Attributes:
        score: least score that is kept.
        patch_iou: rotated IoU above which the worse of two boxes of a class in a patch is suppressed.
        image_iou: the same in the whole image.
    """

    score: float = 0.05
    patch_iou: float = 0.5
    image_iou: float = 0.1

    def __str__(self) -> str:
        return f"score >= {self.score:g}, NMS {self.patch_iou:g} in patches and {self.image_iou:g} in whole images"


class Patch(NamedTuple):
    """Where a patch lies: the whole image's name, its scale, and the patch's corner in the scaled image."""

    image: str
    rate: float
    x: int
    y: int


def patch_of(name: str) -> Patch | None:
    """What a patch's name says, or None if it names no patch."""
    match = PATCH_NAME.fullmatch(name)
    if match is None or float(match[2]) == 0:
        return None
    return Patch(match[1], float(match[2]), int(match[3]), int(match[4]))


def names_patches(listing: Listing, images: tuple[str, ...]) -> bool:
    """Whether detections are on patches while the ground truth is on whole images."""
    known = set(images)
    strange = [name for name in listing.images if name not in known]
    return any((patch := patch_of(name)) is not None and patch.image in known for name in strange)


def merge_patches(listing: Listing, rule: MergeRule = MergeRule()) -> Listing:  # noqa: B008, a value
    """The detections of whole images.

    Args:
        listing: detections on patches; images that are no patches stay as they are.
        rule: what is left out.

    Returns:
        The survivors in the order of their files, in pixels of the whole images.

    Raises:
        UsageError: a threshold is outside 0…1.
        DataError: a point would lie beyond a million pixels.
    """
    if not all(0 <= value <= 1 for value in rule):
        raise UsageError(f"thresholds of merging: {', '.join(map(str, rule))}: give numbers from 0 to 1")
    found = listing.select(np.flatnonzero(listing.score >= rule.score))
    found = found.select(suppressed(found, rule.patch_iou))
    whole = _whole_images(found)
    return whole.select(suppressed(whole, rule.image_iou))


def suppressed(listing: Listing, iou: float) -> Integers:
    """(K,) rows that survive rotated NMS of each image and class, in the listing's order."""
    kept = [np.zeros(0, dtype=np.int64)]
    boxes = boxes_from_quads(torch.from_numpy(listing.quads))
    for rows in _batches(listing.image):
        part = boxes[rows].clone()
        # Images side by side: exact, since the distances are whole and the boxes few.
        extent = float(hulls(part).abs().amax()) if len(part) else 0.0
        _, place = np.unique(listing.image[rows], return_inverse=True)
        part[:, 0] += torch.from_numpy(place) * (2 * np.ceil(extent) + 1)
        labels = torch.from_numpy(listing.label[rows])
        kept.append(rows[rotated_nms(part, torch.from_numpy(listing.score[rows]), iou, labels).numpy()])
    return np.sort(np.concatenate(kept))


def _batches(image: Integers) -> Iterator[Integers]:
    """Rows of whole images, each batch of about ``_AT_ONCE`` rows, or of one image that has more."""
    order = np.argsort(image, kind="stable")
    batch = stop = 0
    for end in (np.flatnonzero(np.diff(image[order], append=-1)) + 1).tolist():
        if end - batch > _AT_ONCE and stop > batch:
            yield order[batch:stop]
            batch = stop
        stop = end
    yield order[batch:]


def _whole_images(listing: Listing) -> Listing:
    """The same detections under the names and in the pixels of the whole images."""
    places = [patch_of(name) or Patch(name, 1.0, 0, 0) for name in listing.images]
    names = list(dict.fromkeys(place.image for place in places))
    index = {name: i for i, name in enumerate(names)}
    of_patch = np.array([index[place.image] for place in places], dtype=np.int64)
    shift = np.array([(place.x, place.y) for place in places], dtype=np.float64).reshape(-1, 2)
    rate = np.array([place.rate for place in places])
    quads: Floats = (listing.quads + shift[listing.image][:, None]) / rate[listing.image][:, None, None]
    far = np.flatnonzero(np.abs(quads).max(axis=(1, 2), initial=0) > FARTHEST)
    if len(far):
        where = listing.where(int(far[0]))
        raise DataError(f"beyond a million pixels: {where}: in the whole image: check the name of the patch")
    return replace(listing, images=tuple(names), image=of_patch[listing.image], quads=quads)
