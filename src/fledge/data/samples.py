"""Pixels as stored: all bands read without any conversion, scaled if asked for, and written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np

from fledge.data.image_header import read_header
from fledge.data.raster import MAX_PIXELS, Samples, decode
from fledge.errors import DataError, ResourceError

if TYPE_CHECKING:
    from fledge.data.georeference import Georeference

ImageForm = Literal["auto", "png", "jpeg", "tiff"]
JPEG_QUALITY = 95
# What cv2.resize takes; other samples go through float64, which holds integers of 32 bits exactly.
_RESIZED_AS_THEY_ARE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


class Stored(NamedTuple):
    """What an image file holds.

    Attributes:
        samples: (H, W, C) as stored, red first; missing floating-point samples are NaN.
        nodata: the value of missing integers, if there are any and it is not 0.
        place: where the pixels lie in the world, if the file says so.
    """

    samples: Samples
    nodata: int | None = None
    place: Georeference | None = None


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
        return _bands(path, header.format, header.bands)._replace(place=_place(path))
    pixels = decode(path)
    if pixels.ndim == 2:
        return Stored(pixels[..., None])
    return Stored(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _place(path: Path) -> Georeference | None:
    from fledge.data.georeference import read_georeference

    try:
        return read_georeference(path)
    except DataError:
        return None


def _bands(path: Path, form: str, count: int) -> Stored:
    from fledge.data.stored_bands import read_bands  # GDAL takes its time to load and few need it

    samples, missing = read_bands(path, form, range(1, count + 1))
    if missing is None or not missing.any():
        return Stored(samples)
    if np.issubdtype(samples.dtype, np.floating):
        return Stored(np.where(missing, np.nan, samples).astype(samples.dtype))
    return Stored(samples, int(samples[missing][0]) or None)


def resize_stored(stored: Stored, height: int, width: int) -> Stored:
    """The samples scaled to a size: averaged over areas along an axis that shrinks, else interpolated linearly.

    The place stays that of the unscaled image. Missing samples take no part: a new one is the mean of the present ones,
    and missing where fewer than half are present.
    """
    samples, nodata = stored.samples, stored.nodata
    if samples.shape[:2] == (height, width):
        return stored
    floating = np.issubdtype(samples.dtype, np.floating)
    missing = ~np.isfinite(samples) if floating else samples == nodata if nodata is not None else None
    if missing is None or not missing.any():
        if samples.dtype in _RESIZED_AS_THEY_ARE:
            return stored._replace(samples=_resize(samples, height, width))
        return stored._replace(samples=_rounded(_resize(samples.astype(np.float64), height, width), samples.dtype))
    present = _resize((~missing).astype(np.float64), height, width)
    total = _resize(np.where(missing, 0, samples).astype(np.float64), height, width)
    values = _rounded(total / np.maximum(present, 1e-9), samples.dtype)
    values[present < 0.5] = np.nan if floating else nodata
    return stored._replace(samples=values)


def _resize(samples: Samples, height: int, width: int) -> Samples:
    """(H, W, C) samples scaled band by band, one axis after the other, since each may shrink or grow."""
    for size in ((width, samples.shape[0]), (width, height)):
        shrinks = size[0] < samples.shape[1] or size[1] < samples.shape[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        bands = [
            cv2.resize(np.ascontiguousarray(samples[..., k]), size, interpolation=how) for k in range(samples.shape[2])
        ]
        samples = np.stack(bands, axis=-1)
    return samples


def _rounded(values: Samples, dtype: np.dtype[Any]) -> Samples:
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def encode_stored(stored: Stored, form: ImageForm, source: Path) -> tuple[bytes, str]:
    """A file that holds the samples, and its suffix; ``source`` is for messages.

    "auto" loses nothing: PNG for 1 or 3 bands of 8 or 16 bits, else TIFF with deflate, which most programs read. "png"
    and "tiff" (with ZSTD, smaller and faster, for GDAL and tifffile) lose nothing either. "jpeg" has quality 95 with
    colours in full resolution. TIFF alone keeps the place.

    Raises:
        DataError: PNG or JPEG cannot hold samples of this kind.
        ResourceError: the encoder refuses.
    """
    samples, nodata = stored.samples, stored.nodata
    depths = {"jpeg": (np.uint8,)}.get(form, (np.uint8, np.uint16))
    fits = samples.dtype in depths and samples.shape[2] in (1, 3) and nodata is None
    if form == "tiff" or (form == "auto" and not fits):
        return _tiff(stored, "zstd" if form == "tiff" else "deflate"), ".tif"
    if not fits:
        gaps = f", {nodata} where missing" if nodata is not None else ""
        what = f"{samples.shape[2]} bands of {samples.dtype}{gaps}"
        raise DataError(f"{form} cannot hold the pixels: {source}: {what}: choose tiff, or auto")
    if form == "jpeg":
        full = int(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
        return _encode(samples, ".jpg", flags), ".jpg"
    return _encode(samples, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]), ".png"


def _encode(samples: Samples, suffix: str, flags: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(samples[..., ::-1]), flags)
    if not done:
        raise ResourceError(
            f"cannot encode: {samples.shape} {samples.dtype} as {suffix}: check the OpenCV installation"
        )
    return data.tobytes()


def _tiff(stored: Stored, compress: Literal["deflate", "zstd"]) -> bytes:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    height, width, bands = stored.samples.shape
    layout = {"height": height, "width": width, "count": bands, "dtype": stored.samples.dtype.name}
    # Without a photometric of its own, GDAL would call the fourth of four bands an alpha channel.
    colours = "rgb" if bands == 3 and stored.samples.dtype in (np.uint8, np.uint16) else "minisblack"
    options: dict[str, Any] = {
        "compress": compress,
        "interleave": "pixel",
        "photometric": colours,
        "nodata": stored.nodata,
    }
    if compress == "zstd":
        # Differences of neighbours compress better; floating-point numbers have a predictor of their own.
        options["predictor"] = 3 if np.issubdtype(stored.samples.dtype, np.floating) else 2
    if stored.place is not None:
        options |= {"crs": stored.place.crs, "transform": stored.place.transform}
    try:
        with warnings.catch_warnings(), MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(driver="GTiff", **layout, **options) as file:
                file.write(np.moveaxis(stored.samples, 2, 0))
            return bytes(memory.read())
    except (rasterio.errors.RasterioError, TypeError) as error:
        raise ResourceError(f"cannot encode: {layout} as TIFF: {error}: convert the images first") from error
