"""Pixels exactly as stored: all bands read without any conversion, and written without loss."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fledge.data.image_header import read_header
from fledge.data.raster import MAX_PIXELS, Samples, decode
from fledge.errors import DataError, ResourceError


class Stored(NamedTuple):
    """What an image file holds.

    Attributes:
        samples: (H, W, C) as stored, red first; missing floating-point samples are NaN.
        nodata: the value of missing integers, if there are any and it is not 0.
    """

    samples: Samples
    nodata: int | None = None


def read_stored(path: Path, max_pixels: int = MAX_PIXELS) -> Stored:
    """All bands of an image file.

    Raises:
        DataError: unreadable, truncated, or larger than ``max_pixels``.
    """
    header = read_header(path)
    if header.height * header.width > max_pixels:
        raise DataError(
            f"image too large: {path}: {header.width}x{header.height} pixels, the limit is {max_pixels}: split it first"
        )
    if header.plain or header.format == "JPEG 2000":
        return _bands(path, header.format, header.bands)
    pixels = decode(path)
    if pixels.ndim == 2:
        return Stored(pixels[..., None])
    return Stored(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _bands(path: Path, form: str, count: int) -> Stored:
    from fledge.data.stored_bands import read_bands  # GDAL takes its time to load and few need it

    samples, missing = read_bands(path, form, range(1, count + 1))
    if missing is None or not missing.any():
        return Stored(samples)
    if np.issubdtype(samples.dtype, np.floating):
        return Stored(np.where(missing, np.nan, samples).astype(samples.dtype))
    return Stored(samples, int(samples[missing][0]) or None)


def encode_stored(stored: Stored) -> tuple[bytes, str]:
    """A file that holds the samples without loss, and its suffix: PNG for 1 or 3 bands of 8 or 16 bits, else TIFF.

    Raises:
        ResourceError: the encoder refuses.
    """
    samples, nodata = stored
    if samples.dtype not in (np.uint8, np.uint16) or samples.shape[2] not in (1, 3) or nodata is not None:
        return _tiff(stored), ".tif"
    done, data = cv2.imencode(".png", np.ascontiguousarray(samples[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ResourceError(f"cannot encode: {samples.shape} {samples.dtype} as PNG: check the OpenCV installation")
    return data.tobytes(), ".png"


def _tiff(stored: Stored) -> bytes:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    height, width, bands = stored.samples.shape
    layout = {"height": height, "width": width, "count": bands, "dtype": stored.samples.dtype.name}
    # Without a photometric of its own, GDAL would call the fourth of four bands an alpha channel.
    options = {"compress": "deflate", "interleave": "pixel", "photometric": "minisblack", "nodata": stored.nodata}
    try:
        with warnings.catch_warnings(), MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(driver="GTiff", **layout, **options) as file:
                file.write(np.moveaxis(stored.samples, 2, 0))
            return bytes(memory.read())
    except (rasterio.errors.RasterioError, TypeError) as error:
        raise ResourceError(f"cannot encode: {layout} as TIFF: {error}: convert the images first") from error
