"""Stored bands of TIFF and JPEG 2000 files through GDAL, with every road to other files closed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from fledge.errors import DataError

# From the format, which magic bytes decide, to the only driver that may open the file.
DRIVERS = {"TIFF": "GTiff", "JPEG 2000": "JP2OpenJPEG"}
# What lies beside an image (.aux.xml, .msk, .ovr, world files) must not change its pixels.
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO", "GDAL_GEOREF_SOURCES": "INTERNAL"}


def read_bands(path: Path, form: str, bands: Sequence[int]) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
    """Some bands of a file, as stored.

    Args:
        path: the file.
        form: its format, a key of ``DRIVERS``.
        bands: C numbers, counted from 1.

    Returns:
        (H, W, C) samples, and which of them are missing: they have the file's no-data value or are no finite number
        (None: none can be).

    Raises:
        DataError: the file cannot be decoded.
    """
    try:
        with warnings.catch_warnings(), rasterio.Env(**ALONE):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # Made absolute, no name is taken for an address such as zip: or http:.
            with rasterio.open(path.absolute(), driver=DRIVERS[form]) as file:
                samples = file.read(list(bands))
                empty = [file.nodatavals[band - 1] for band in bands]
    except (RasterioError, IndexError, ValueError, MemoryError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"unreadable image: {path}: {reason}: replace the file by an intact copy") from error
    return samples.transpose(1, 2, 0), missing_samples(samples, empty)


def missing_samples(samples: NDArray[np.generic], empty: Sequence[float | None]) -> NDArray[np.bool_] | None:
    """Which of (C, H, W) samples are missing, as (H, W, C), given the no-data value of each band (None: no one)."""
    floating = np.issubdtype(samples.dtype, np.floating)
    if not floating and all(value is None for value in empty):
        return None
    missing = ~np.isfinite(samples) if floating else np.zeros(samples.shape, dtype=bool)
    for plane, band, value in zip(missing, samples, empty, strict=True):
        if value is not None:
            # Kept in float64, a value that the type of the samples cannot hold equals none of them.
            with np.errstate(over="ignore"):
                plane |= band == (samples.dtype.type(value) if floating else np.float64(value))
    return missing.transpose(1, 2, 0)
