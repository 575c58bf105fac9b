"""Oriented boxes on images: thin anti-aliased outlines over a dark halo, readable on any ground."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from fledge.errors import NumericError
from fledge.geometry.boxes import corners
from fledge.visualize.images import Image
from fledge.visualize.palette import class_colour, ink_on

_SHIFT = 4  # cv2 draws in 1/16 pixel
_FAR = 1e6  # beyond this cv2's 32-bit fixed-point coordinates would wrap round
_HALO = 0.4  # opacity of the dark line under each outline
_DASH, _GAP = 6.0, 7.0  # pixels of the picture
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4

Polyline = npt.NDArray[np.int32]


def draw_boxes(
    image: Image,
    boxes: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    scores: Tensor | None = None,
    dashed: Tensor | None = None,
    scale: float = 1.0,
    thickness: int = 2,
    captions: bool = False,
) -> Image:
    """A new picture with the outline of every box in its class's colour.

    Args:
        image: (H, W, 3) uint8 RGB; not modified. Pixel i covers [i, i + 1].
        boxes: (N, 5) le90, pixels of ``image``. Boxes wholly outside the image are left out.
        labels: (N,) int64 into ``classes``.
        classes: the K class names.
        scores: (N,) in [0, 1], shown in the captions.
        dashed: (N,) bool, outlines to dash, such as difficult or missed objects.
        scale: the image is resized by this first, so that outlines stay thin on small images.
        thickness: of the outlines, in pixels of the picture.
        captions: write the class (and score) at the topmost corner of each box.

    Returns:
        (round(H * scale), round(W * scale), 3) uint8 RGB.

    Raises:
        NumericError: a box is not finite.
    """
    picture = resize(image, scale)
    quads = _picture_corners(boxes, image, picture)
    visible = [i for i, quad in enumerate(quads) if _touches(quad, picture)]
    hidden = set() if dashed is None else set(dashed.nonzero().flatten().tolist())
    lines = {i: _dashes(quads[i]) if i in hidden else [_fixed_point(quads[i])] for i in visible}
    closed = {i: i not in hidden for i in visible}

    halo = picture.copy()
    for i in visible:
        cv2.polylines(halo, [_fixed_point(quads[i])], True, (0, 0, 0), thickness + 2, cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(halo, _HALO, picture, 1 - _HALO, 0, dst=picture)
    names = labels.tolist()
    for i in visible:
        cv2.polylines(picture, lines[i], closed[i], class_colour(names[i]), thickness, cv2.LINE_AA, _SHIFT)
    if captions:
        for i in visible:
            score = "" if scores is None else f" {float(scores[i]):.2f}"
            _chip(picture, quads[i], classes[names[i]] + score, names[i])
    return picture


def resize(image: Image, scale: float) -> Image:
    """A copy of an (H, W, 3) image, ``scale`` times as large: cubic upwards, area average downwards."""
    if scale == 1:
        return image.copy()
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    mode = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (width, height), interpolation=mode), dtype=np.uint8)


def _picture_corners(boxes: Tensor, image: Image, picture: Image) -> npt.NDArray[np.float64]:
    """(N, 4, 2) corners in pixels of the resized picture, whose integers are centres as OpenCV draws."""
    quads = corners(boxes.detach().cpu().double()).numpy()
    if not np.isfinite(quads).all():
        row = int(np.flatnonzero(~np.isfinite(quads).all(axis=(1, 2)))[0])
        raise NumericError(f"cannot draw box: row {row} is not finite: check the model or labels that made it")
    ratio = np.array([picture.shape[1] / image.shape[1], picture.shape[0] / image.shape[0]])
    moved: npt.NDArray[np.float64] = (quads * ratio) - 0.5
    return moved


def _touches(quad: npt.NDArray[np.float64], picture: Image) -> bool:
    """Whether the hull of a (4, 2) quad reaches into the picture."""
    size = np.array([picture.shape[1], picture.shape[0]])
    return bool((quad.max(axis=0) >= 0).all() and (quad.min(axis=0) <= size - 1).all())


def _fixed_point(points: npt.NDArray[np.float64]) -> Polyline:
    return np.asarray(np.round(points.clip(-_FAR, _FAR) * 2**_SHIFT), dtype=np.int32)


def _dashes(quad: npt.NDArray[np.float64]) -> list[Polyline]:
    """Short strokes along the four edges, a whole number of them per edge so that every corner is drawn."""
    strokes = []
    quad = quad.clip(-_FAR / 1e2, _FAR / 1e2)
    for start, stop in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        length = float(np.hypot(*(stop - start)))
        count = max(1, round((length + _GAP) / (_DASH + _GAP)))
        share = 1.0 if count == 1 else (1 - (count - 1) * _GAP / length) / count
        for t in np.linspace(0, 1 - share, count):
            strokes.append(_fixed_point(np.stack([start + (stop - start) * t, start + (stop - start) * (t + share)])))
    return strokes


def _chip(picture: Image, quad: npt.NDArray[np.float64], text: str, label: int) -> None:
    """A small label on the class's colour, above the topmost corner and inside the picture."""
    text = text.encode("ascii", "replace").decode("ascii")  # cv2's font has no other glyphs
    (width, height), base = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    pad = 3
    corner = quad[quad[:, 1].argmin()]
    left = int(np.clip(corner[0], 0, max(0, picture.shape[1] - width - 2 * pad)))
    top = int(np.clip(corner[1] - height - base - pad - 2, 0, max(0, picture.shape[0] - height - base - pad)))
    colour = class_colour(label)
    cv2.rectangle(picture, (left, top), (left + width + 2 * pad, top + height + base + pad), colour, cv2.FILLED)
    origin = (left + pad, top + height + pad)
    cv2.putText(picture, text, origin, _FONT, _FONT_SCALE, ink_on(colour), 1, cv2.LINE_AA)
