"""Maps of numbers as colours, from dark (least) to light (largest), even in brightness."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.errors import NumericError
from fledge.visualize.images import Image


def heat(values: NDArray[np.floating], size: tuple[int, int]) -> Image:
    """A map (H, W) as a picture whose cells stay cells, on its own scale.

    Args:
        values: finite. The scale goes from the 1st to the 99th percentile, so that one cell does not darken all others;
            a constant map is dark.
        size: (height, width) of the picture.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        NumericError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise NumericError("cannot draw map: a value is not finite: check the weights that made it")
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 0.0)
    span = high - low
    shade = np.clip((values - low) / span, 0, 1) if span > 1e-12 * max(abs(low), abs(high)) else np.zeros(values.shape)
    grey = np.rint(255 * shade).astype(np.uint8)
    large = cv2.resize(grey, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS)[..., ::-1], dtype=np.uint8)
