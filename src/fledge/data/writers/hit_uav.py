"""HIT-UAV's json: ``ROOT/annotations/SPLIT.json`` and ``ROOT/SPLIT/NAME``, boxes as [cx, cy, w, h, angle].

Angles are radians from 0 to pi. Ignored objects get the category DontCare. A quadrilateral that is no rectangle becomes
the rectangle of least area around it. ``classes`` lists the class names for ``fledge.data.datasets.hit_uav``, which
expects HIT-UAV's own four without it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.writers.lost import lost_corners
from fledge.files import write_json

_DONT_CARE = "DontCare"


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return split


def write_hit_uav(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    images = [
        {"id": i, "filename": path.name, "width": width, "height": height}
        for i, (path, (height, width)) in enumerate(zip(dataset.paths, dataset.sizes.tolist(), strict=True))
    ]
    names = [*dataset.classes, _DONT_CARE]
    content = {
        "images": images,
        "annotations": _annotations(dataset),
        "classes": list(dataset.classes),
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }
    write_json(root / "annotations" / f"{dataset.split}.json", content)
    return lost_corners(dataset, np.ones(len(dataset.labels), dtype=np.bool_))


def _annotations(dataset: DetectionDataset) -> list[dict[str, Any]]:
    boxes = dataset.boxes.astype(np.float64)
    boxes[:, 4] %= math.pi
    images = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets)).tolist()
    labels = np.where(dataset.ignore, len(dataset.classes), dataset.labels).tolist()
    return [
        {
            "id": row,
            "image_id": images[row],
            "category_id": labels[row],
            "bbox": [round(value, 5) for value in box],
            "difficult": bool(dataset.difficult[row]),
        }
        for row, box in enumerate(boxes.tolist())
    ]
