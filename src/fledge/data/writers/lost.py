"""What several formats cannot hold, as counts by description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.data.measures import fit_iou


def lost_flags(dataset: DetectionDataset) -> dict[str, int]:
    """What a format without difficult and ignored objects loses, as counts."""
    return {
        "ignored object, left out": int(dataset.ignore.sum()),
        "difficult object, now a plain one": int((dataset.difficult & ~dataset.ignore).sum()),
    }


def lost_corners(dataset: DetectionDataset, written: NDArray[np.bool_]) -> dict[str, int]:
    """What a format of centre, sides and angle loses of the corners of the objects (T,) written, as counts."""
    changed = (fit_iou(dataset) < 0.98) & written
    return {"quadrilateral, now the rectangle of least area around it": int(changed.sum())}


def lost_names(datasets: Sequence[DetectionDataset]) -> dict[str, int]:
    """What a format that names classes by their objects only loses of the class names of all splits."""
    return {"class without an object, left out": len(without_objects(datasets))}


def without_objects(datasets: Sequence[DetectionDataset]) -> set[str]:
    """The names of classes of which no split has an object."""
    used = {name for dataset in datasets for name, count in dataset.summary().objects.items() if count}
    return {name for dataset in datasets for name in dataset.classes} - used


def renamed(before: Sequence[str], after: Sequence[str]) -> int:
    """How many images get another name."""
    return sum(one != other for one, other in zip(before, after, strict=True))
