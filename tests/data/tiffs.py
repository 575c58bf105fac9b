"""GeoTIFF files for tests."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning


def write_tiff(path: Path, samples: NDArray[Any], **profile: Any) -> Path:
    """(H, W, C) samples as a GeoTIFF, or in the form of another driver of GDAL, with its options."""
    height, width, count = samples.shape
    form = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": samples.dtype.name, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **form) as file:
            file.write(np.moveaxis(samples, 2, 0))
    return path
