"""Image files to the bytes a network sees.

Rules, the same for every image: grey becomes three equal channels; an alpha channel is dropped; 16-bit samples are
divided by 257 (65535 becomes 255, no stretch that depends on the image's content); orientation marks (EXIF, TIFF) are
not applied, because labels refer to the pixels as stored. A ``PixelRule`` picks bands and maps a range of samples
instead. Missing samples (no data, NaN) become 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.data.image_header import read_header
from fledge.errors import DataError

# OpenCV prints lines of its own about unknown tags and damage; what matters is in our errors.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".jp2"})
MAX_PIXELS = 1_000_000_000
# Samples of one image that a measured range rests on, at most.
MEASURED = 65_536

Samples = NDArray[Any]
Missing = NDArray[np.bool_] | None


@dataclass(frozen=True)
class PixelRule:
    """How stored samples become the network's bytes.

    Attributes:
        bands: which bands, counted from 1, are the channels, in this order; none: red, green and blue, or grey thrice.
        range: samples (low, high) that become 0 and 255, with those between in proportion and those beyond cut off;
            None leaves 8-bit samples as they are and divides 16-bit ones by 257.
    """

    bands: tuple[int, ...] = ()
    range: tuple[float, float] | None = None

    @property
    def channels(self) -> int:
        """Channels C of an image read by this rule."""
        return len(self.bands) or 3


COLOUR = PixelRule()


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) in stored pixels, from the header alone.

    Raises:
        DataError: the file cannot be opened, is none of PNG, JPEG, TIFF, BMP and JPEG 2000, or its header is damaged.
    """
    header = read_header(path)
    return header.height, header.width


def read_image(path: Path, rule: PixelRule = COLOUR, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels as (H, W, C) uint8, by the rules at the top of this file; RGB unless the rule names bands.

    Raises:
        DataError: unreadable, truncated, larger than ``max_pixels``, fewer bands than the rule names, more than four
            and the rule names none, or samples other than 8-bit and 16-bit unsigned integers and, with a range,
            floating-point numbers.
    """
    samples, missing = stored_samples(path, rule, max_pixels)
    pixels = to_bytes(samples, rule.range, path)
    if missing is not None:
        pixels[missing] = 0
    if not rule.bands and pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return np.ascontiguousarray(pixels)


def measure_range(paths: Sequence[Path], rule: PixelRule, count: int = 50) -> tuple[float, float] | None:
    """The samples between which nearly all lie: percentiles 0.5 and 99.5 over bands and up to ``count`` images.

    The images are spread evenly over ``paths``, the samples evenly over each image; missing ones do not count.

    Returns:
        (low, high), low < high; None if the samples have 8 bits and need no range.

    Raises:
        DataError: an image cannot be read, the images have samples of different types, or all samples are missing.
    """
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))]
    if all(1 <= read_header(path).bits <= 8 for path in chosen):
        return None  # without decoding any
    values: list[Samples] = []
    for path in chosen:
        values.append(_spread(*stored_samples(path, rule, MAX_PIXELS), path))
        if values[-1].dtype != values[0].dtype:
            raise DataError(
                f"images differ: {chosen[0]} has {values[0].dtype} samples and {path} has {values[-1].dtype}: convert "
                "them to one type, or set `pixel_range`"
            )
    if not values or values[0].dtype == np.uint8:
        return None
    everything = np.concatenate(values).astype(np.float64)
    if not everything.size:
        raise DataError(f"no pixels: {chosen[0]} and others: all samples are missing: set `pixel_range`")
    low, high = np.percentile(everything, [0.5, 99.5]).tolist()
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def _spread(samples: Samples, missing: Missing, path: Path) -> Samples:
    """Samples of one image, one-dimensional, evenly spread over it and without missing ones."""
    _check_type(samples, path)
    step = max(1, int(np.sqrt(samples.shape[0] * samples.shape[1] * samples.shape[2] / MEASURED)))
    return samples[::step, ::step][slice(None) if missing is None else ~missing[::step, ::step]].reshape(-1)


def stored_samples(path: Path, rule: PixelRule, max_pixels: int = MAX_PIXELS) -> tuple[Samples, Missing]:
    """(H, W, C) samples of the rule's channels (C = 1 for grey without bands), and which are missing."""
    header = read_header(path)
    height, width = header.height, header.width
    if height * width > max_pixels:
        raise DataError(
            f"image too large: {path}: {width}x{height} pixels, the limit is {max_pixels}: cut it into tiles first"
        )
    if header.turned and not header.plain:
        raise DataError(f"unsupported image: {path}: it is stored turned and not as grey or RGB: convert it to PNG")
    if header.plain or (header.format == "JPEG 2000" and (rule.bands or header.bands > 4)):
        from fledge.data.stored_bands import read_bands  # GDAL takes its time to load and few need it

        samples, missing = read_bands(path, header.format, band_choice(header.bands, header.alpha, rule.bands, path))
    else:
        samples, missing = _decoded(path, rule.bands), None
    if samples.shape[:2] != (height, width):
        raise DataError(
            f"unreadable image: {path}: header says {width}x{height}, pixels are "
            f"{samples.shape[1]}x{samples.shape[0]}: replace the file by an intact copy"
        )
    return samples, missing


def band_choice(count: int, alpha: bool, wanted: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """The bands to read of a file with ``count`` bands."""
    if wanted:
        if max(wanted) > count:
            raise DataError(
                f"too few bands: {path}: it has {count}, and `bands` asks for band {max(wanted)}: use images with the "
                "bands that the detector was trained on, or change `bands`"
            )
        return wanted
    colours = {1: (1,), 2: (1,) if alpha else (), 3: (1, 2, 3), 4: (1, 2, 3)}.get(count, ())
    if not colours:
        raise DataError(f"unsupported image: {path}: it has {count} bands: say which with `bands`, such as [3, 2, 1]")
    return colours


def _decoded(path: Path, wanted: tuple[int, ...]) -> Samples:
    """What OpenCV makes of a file, with the bands in the order red, green, blue, alpha: (H, W, C)."""
    pixels = decode(path)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    bands = band_choice(pixels.shape[2], True, wanted, path)
    if bands == (1, 2, 3):
        codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
        return np.asarray(cv2.cvtColor(pixels, codes[pixels.shape[2]]))
    order = (0,) if pixels.shape[2] < 3 else (2, 1, 0, 3)
    return pixels[:, :, [order[band - 1] for band in bands]]


def decode(path: Path) -> Samples:
    """What OpenCV makes of a file: (H, W) or (H, W, 3 or 4) with blue first, in the depth that the file has.

    Raises:
        DataError: it does not decode, or is cut short.
    """
    data = path.read_bytes()
    if _cut_short(data):
        raise DataError(f"truncated image: {path}: its end is missing: replace the file by an intact copy")
    try:
        # UNCHANGED keeps bands and bit depth; orientation is not applied (labels refer to stored pixels).
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"unreadable image: {path}: {reason}: replace the file by an intact copy") from error
    if pixels is None:
        raise DataError(f"unreadable image: {path}: it does not decode: replace the file by an intact copy")
    return pixels


def _check_type(samples: Samples, path: Path) -> None:
    if samples.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise DataError(
            f"unsupported image: {path}: samples are {samples.dtype}: convert it to 8 or 16 bit unsigned, or to float32"
        )


def to_bytes(samples: Samples, between: tuple[float, float] | None, path: Path) -> NDArray[np.uint8]:
    """Samples of any shape as bytes."""
    _check_type(samples, path)
    if between is not None:
        low, high = between
        if np.issubdtype(samples.dtype, np.floating):
            return _map(samples, low, high)
        # One look-up a sample instead of arithmetic: an integer type has few values.
        return np.asarray(_map(np.arange(np.iinfo(samples.dtype).max + 1), low, high)[samples])
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if samples.dtype == np.uint8:
        return samples
    raise DataError(
        f"no range: {path}: samples are {samples.dtype}: set `pixel_range` to the low and high sample that become 0 "
        "and 255"
    )


def _map(values: Samples, low: float, high: float) -> NDArray[np.uint8]:
    """(low, high) mapped onto 0…255, rounded; what is no number becomes 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.clip((values - low) * 255 / (high - low), 0, 255)
    mapped: NDArray[np.uint8] = np.rint(np.nan_to_num(scaled)).astype(np.uint8)
    return mapped


def _cut_short(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end mark: decoders fill the missing rows with grey and say nothing."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"\xff\xd8"):
        # Thumbnails with an end mark of their own sit in segments before the last start of scan.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return False
