"""The picture of docs/concepts.md that shows the same objects with horizontal and with oriented boxes.

    python benchmarks/hbb_obb.py docs/images/hbb_obb.jpg

Renders a harbour, draws both kinds of boxes on it side by side, and prints which share of the boxes' area is
background: pixels that no labelled object's body covers, on a canvas eight times finer than the image.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.synthetic import CLASSES, LAYOUTS
from fledge.data.synthetic.shapes import Pose
from fledge.data.synthetic.stage import Placed, Stage, Zone
from fledge.files import write_bytes
from fledge.geometry import boxes_from_quads, corners, hulls
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import encode

SIDE, SEED, HEADING = 256, 12, math.radians(35)
SCALE, GAP, FINE = 2, 8, 8


def main() -> None:
    """Render, draw, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    stage = Stage(np.random.default_rng(SEED), SIDE, SIDE)
    LAYOUTS["harbour"](stage, Zone(Pose(SIDE / 2, SIDE / 2, HEADING), 1.5 * SIDE, 1.5 * SIDE))
    image = stage.compose(0.0)
    objects = [placed for placed, _ in stage.labelled()]
    labels = torch.tensor([placed.label for placed in objects])
    oriented = boxes_from_quads(torch.tensor(np.array([p.pose.quad(p.length, p.width) for p in objects])))
    x1, y1, x2, y2 = hulls(oriented).unbind(-1)
    horizontal = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, torch.zeros_like(x1)], dim=-1)

    panels = [draw_boxes(image, boxes, labels, CLASSES, scale=SCALE) for boxes in (horizontal, oriented)]
    white = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    write_bytes(out, encode(np.hstack([panels[0], white, panels[1]]), "jpeg", 90))
    body = covered([part for placed in objects for part in body_parts(placed)])
    for name, boxes in (("horizontal", horizontal), ("oriented", oriented)):
        print(f"{name}: {100 * background(boxes, body):.0f} % of the area of {len(objects)} boxes is background")


def body_parts(placed: Placed) -> list[NDArray[np.float64]]:
    """The polygons of an object as drawn, in pixels of the image."""
    return [placed.pose.map(outline) for outline, _ in placed.sprite.parts]


def covered(polygons: list[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """1 where a polygon is, on a canvas FINE times as large as the image."""
    canvas = np.zeros((SIDE * FINE, SIDE * FINE), np.uint8)
    for points in polygons:
        cv2.fillPoly(canvas, [np.round(points * FINE).astype(np.int32)], 1)
    return canvas


def background(boxes: torch.Tensor, body: NDArray[np.uint8]) -> float:
    """The share of the boxes' area inside the image, summed over boxes, that no body covers."""
    inside = [covered([quad]).astype(bool) for quad in corners(boxes).double().numpy()]
    total = sum(int(mask.sum()) for mask in inside)
    return 1 - sum(int(body[mask].sum()) for mask in inside) / total


if __name__ == "__main__":
    main()
