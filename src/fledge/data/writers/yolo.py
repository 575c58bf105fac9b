"""YOLO text with upright boxes: as ``yolo_obb``, but a line is ``class cx cy w h``, shares of width and height.

Boxes are cut at the image's edge, as all YOLO tools expect.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.measures import beyond_edge, hulls, turned
from fledge.data.writers.lost import lost_flags
from fledge.data.writers.yolo_obb import write_lines


def write_yolo(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split and its entry in ``data.yaml``; returns what is lost, as counts."""
    scale = np.repeat(dataset.sizes[:, ::-1].astype(np.float64), np.diff(dataset.offsets), axis=0)
    edges = np.clip(hulls(dataset) / np.tile(scale, 2), 0, 1)
    low, high = edges[:, :2], edges[:, 2:]
    write_lines(root, dataset, np.concatenate([(low + high) / 2, high - low], axis=1))
    kept = ~dataset.ignore
    return {
        **lost_flags(dataset),
        "turned box, now the upright one around it": int((turned(dataset) & kept).sum()),
        "box beyond the image, cut at its edge": int((beyond_edge(dataset, slack=0.01) & kept).sum()),
    }
