"""SSDD's RBox XML: ``JPEGImages_SPLIT/NAME`` and ``Annotations_SPLIT/STEM.xml`` in ``ROOT/RBox_SSDD/voc_style``.

``rotated_bndbox`` has the four corners, which are the labels, and the rectangle of least area around them as
``rotated_bbox_cx`` … ``rotated_bbox_theta``: degrees from 0 to 90, written as those of side w, clockwise on screen.
``bndbox`` is the upright box around the corners. SSDD's only class is ``ship``; other names are written as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls
from fledge.data.writers.xml_files import EDGES, NUMBERED, element, names_of, write_annotations

_BASE = "RBox_SSDD/voc_style"
_RECTANGLE = tuple(f"rotated_bbox_{tag}" for tag in ("cx", "cy", "w", "h", "theta"))


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return f"{_BASE}/JPEGImages_{split}"


def write_ssdd(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    edges, boxes = hulls(dataset).tolist(), _in_quarter_turn(dataset.boxes.astype(np.float64)).tolist()
    corners = dataset.quads.astype(np.float64).reshape(-1, 8).tolist()

    def content(row: int) -> str:
        turned = [*zip(_RECTANGLE, boxes[row], strict=True), *zip(NUMBERED, corners[row], strict=True)]
        return element("bndbox", list(zip(EDGES, edges[row], strict=True))) + element("rotated_bndbox", turned)

    write_annotations(root / _BASE / f"Annotations_{dataset.split}", dataset, names_of(dataset), content)
    return {"ignored object, left out": int(dataset.ignore.sum())}


def _in_quarter_turn(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (T, 5) in le90 as cx, cy, w, h and the degrees of w from 0 to 90, their sides exchanged where need be."""
    cx, cy, w, h, angle = boxes.T
    back = angle < 0
    turn = np.rad2deg(np.where(back, angle + np.pi / 2, angle))
    return np.stack([cx, cy, np.where(back, h, w), np.where(back, w, h), turn], axis=1)
