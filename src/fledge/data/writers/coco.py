"""COCO json: ``ROOT/annotations/SPLIT.json`` and ``ROOT/SPLIT/NAME``, the corners as a polygon in ``segmentation``.

``bbox`` is the horizontal hull and ``area`` that of the polygon. Categories count from 1 in the order of the classes.
``ignore`` and ``difficult`` are 0 or 1; ``iscrowd`` repeats ``ignore``, as pycocotools looks there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fledge.data.labels import DetectionDataset, quad_areas
from fledge.files import write_json


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return split


def write_coco(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split, corners to a thousandth of a pixel; nothing is lost."""
    write_json(root / "annotations" / f"{dataset.split}.json", coco_content(dataset))
    return {}


def coco_content(dataset: DetectionDataset) -> dict[str, Any]:
    """The content of the json file of one split."""
    images = [
        {"id": i + 1, "file_name": path.name, "width": width, "height": height}
        for i, (path, (height, width)) in enumerate(zip(dataset.paths, dataset.sizes.tolist(), strict=True))
    ]
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(dataset.classes)]
    return {"images": images, "annotations": _annotations(dataset), "categories": categories}


def _annotations(dataset: DetectionDataset) -> list[dict[str, Any]]:
    quads = dataset.quads.astype(np.float64)
    low, high = quads.min(axis=1), quads.max(axis=1)
    hulls = np.concatenate([low, high - low], axis=1).round(3).tolist()
    areas = np.abs(quad_areas(quads)).round(3).tolist()
    corners = quads.reshape(-1, 8).round(3).tolist()
    images = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets)).tolist()
    return [
        {
            "id": row + 1,
            "image_id": images[row] + 1,
            "category_id": int(dataset.labels[row]) + 1,
            "bbox": hulls[row],
            "area": areas[row],
            "segmentation": [corners[row]],
            "iscrowd": int(dataset.ignore[row]),
            "ignore": int(dataset.ignore[row]),
            "difficult": int(dataset.difficult[row]),
        }
        for row in range(len(corners))
    ]
