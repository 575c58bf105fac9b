"""YOLO-OBB text, as Ultralytics lays it out: ``ROOT/images/SPLIT/NAME``, ``ROOT/labels/SPLIT/STEM.txt``, ``data.yaml``.

A line is ``class x1 y1 x2 y2 x3 y3 x4 y4``, corners as shares of width and height. There is no word for difficult or
ignored objects: difficult ones become plain objects, ignored ones are left out. Corners beyond the image are kept, as a
clipped box would have another angle; Ultralytics passes over the images that have such.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place
from fledge.data.writers.lost import lost_flags

# The keys Ultralytics asks for; other splits keep their names.
_KEYS = {"valid": "val", "validation": "val"}
_SLACK = 0.01  # Ultralytics lets corners reach 1 % beyond the image


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return f"images/{split}"


def write_yolo_obb(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split and its entry in ``data.yaml``; returns what is lost, as counts."""
    scale = np.repeat(dataset.sizes[:, ::-1].astype(np.float64), np.diff(dataset.offsets), axis=0)
    shares = (dataset.quads / scale[:, None]).reshape(-1, 8)
    write_lines(root, dataset, shares)
    beyond = ((shares < -_SLACK) | (shares > 1 + _SLACK)).any(axis=1) & ~dataset.ignore
    return {
        **lost_flags(dataset),
        "object with corners beyond the image, kept: Ultralytics passes over such images": int(beyond.sum()),
    }


def write_lines(root: Path, dataset: DetectionDataset, shares: NDArray[np.float64]) -> None:
    """Write the label files of one split, of (T, n) shares of width and height, and ``data.yaml``."""
    (root / "labels" / dataset.split).mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(dataset.paths):
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        lines = [_line(int(dataset.labels[r]), shares[r].tolist()) for r in rows if not dataset.ignore[r]]
        place(root / "labels" / dataset.split / f"{path.stem}.txt", "".join(lines).encode())
    _write_yaml(root, dataset.classes)


def _line(label: int, shares: list[float]) -> str:
    return f"{label} " + " ".join(f"{value:.9g}" for value in shares) + "\n"


def _write_yaml(root: Path, classes: tuple[str, ...]) -> None:
    """``data.yaml`` for the splits written so far; JSON strings are YAML strings."""
    splits = sorted(folder.name for folder in (root / "labels").iterdir() if folder.is_dir())
    lines = [f"{_KEYS.get(name, name)}: {json.dumps(f'images/{name}')}" for name in splits]
    lines += ["names:", *(f"  {label}: {json.dumps(name)}" for label, name in enumerate(classes))]
    place(root / "data.yaml", ("\n".join(lines) + "\n").encode())
