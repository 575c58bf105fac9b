"""Polygons of any number of corners, where a label is to be a box."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

AROUND = "polygons of other than four corners, replaced by the smallest rectangle around them"


def smallest_rectangle(points: NDArray[np.float64]) -> tuple[float, ...]:
    """The rectangle of least area around points (N, 2): cx, cy, w, h, and the angle of w in radians (clockwise).

    Measured from the first point, so that large coordinates lose nothing in float32.
    """
    (x, y), (w, h), degrees = cv2.minAreaRect((points - points[0]).astype(np.float32))
    return (float(x + points[0, 0]), float(y + points[0, 1]), w, h, float(np.deg2rad(degrees)))
