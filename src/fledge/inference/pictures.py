"""Scenes with their objects drawn in, reduced to a size one can look at."""

from __future__ import annotations

from pathlib import Path

import torch

from fledge.data.raster import COLOUR, PixelRule
from fledge.data.scene_file import SceneFile
from fledge.files import write_bytes
from fledge.inference.found import Found
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import encode, to_rgb

SIDE = 2048
_MOST = 20_000  # boxes; beyond it the picture is all lines


def draw_scene(
    found: Found,
    scene: Path,
    out: Path,
    pixels: PixelRule = COLOUR,
    percentiles: tuple[float, float] | None = None,
) -> None:
    """Draw the best objects of a scene, read as ``SceneFile`` says, as a JPEG of at most ``SIDE`` pixels a side."""
    file = SceneFile(scene, pixels, percentiles)
    try:
        picture = file.overview(SIDE)
    finally:
        file.close()
    best = found.part(0, _MOST).detections()
    shrink = picture.shape[1] / file.width
    boxes = torch.cat([best.boxes[:, :4] * shrink, best.boxes[:, 4:]], dim=1)
    drawn = draw_boxes(
        to_rgb(picture), boxes, best.labels, best.classes, scores=best.scores, captions=shrink == 1 and len(best) < 200
    )
    write_bytes(out, encode(drawn, "jpeg", 90))
