"""What can be measured on labelled boxes alone."""

from __future__ import annotations

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
