"""Image files to arrays. Magic bytes, not file names, decide the format; sizes are read from headers before decoding.

Rules, the same for every image: grey becomes three equal channels; an alpha channel is dropped; 16-bit samples are
divided by 257 (65535 becomes 255, no stretch that depends on the image's content); EXIF orientation is not applied,
because labels refer to the pixels as stored.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.errors import DataError

# OpenCV prints a line for every tag of a GeoTIFF that it does not know.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".jp2"})
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_VALUES = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) in stored pixels, from the header alone.

    Raises:
        DataError: the file cannot be opened, is none of PNG, JPEG, TIFF, BMP and JPEG 2000, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            height, width = _header_size(file)
    except OSError as error:
        raise DataError(f"cannot open image: {path}: {error.strerror}: check the path and its permissions") from error
    except (struct.error, ValueError) as error:
        what = str(error) if isinstance(error, ValueError) else "the header is cut short"
        raise DataError(f"unreadable image: {path}: {what}: replace the file by an intact copy") from error
    if height < 1 or width < 1:
        raise DataError(f"empty image: {path}: its header says {width}x{height} pixels: replace or remove it")
    return height, width


def read_image(path: Path, max_pixels: int = 1_000_000_000) -> NDArray[np.uint8]:
    """The pixels as (H, W, 3) uint8 RGB, by the rules at the top of this file.

    Raises:
        DataError: unreadable, truncated, larger than ``max_pixels``, more than four bands, or samples other than 8-bit
            and 16-bit unsigned integers.
    """
    height, width = read_size(path)
    if height * width > max_pixels:
        raise DataError(
            f"image too large: {path}: {width}x{height} pixels, the limit is {max_pixels}: cut it into tiles first"
        )
    pixels = _decode(path)
    if pixels.shape[:2] != (height, width):
        raise DataError(
            f"unreadable image: {path}: header says {width}x{height}, pixels are {pixels.shape[1]}x{pixels.shape[0]}: "
            "replace the file by an intact copy"
        )
    return _to_rgb8(pixels, path)


def _decode(path: Path) -> NDArray[np.generic]:
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


def _to_rgb8(pixels: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    if bands not in (1, 3, 4):
        raise DataError(f"unsupported image: {path}: it has {bands} bands: keep 1 (grey) or 3 (RGB) of them")
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise DataError(f"unsupported image: {path}: samples are {pixels.dtype}: convert it to 8 or 16 bit unsigned")
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    return np.asarray(cv2.cvtColor(pixels.astype(np.uint8, copy=False), codes[bands]), dtype=np.uint8)


def _header_size(file: BinaryIO) -> tuple[int, int]:
    """(height, width); raises ValueError or struct.error when the header cannot be understood."""
    head = file.read(26)
    if not head:
        raise ValueError("the file is empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(file)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_size(file, head)
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return abs(height), width  # a negative height means rows from the top
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n":
        return _jp2_size(file)
    raise ValueError("it is none of PNG, JPEG, TIFF, BMP and JPEG 2000")


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    file.seek(2)
    while True:
        prefix, marker = struct.unpack("BB", file.read(2))
        if prefix != 0xFF:
            raise ValueError("the JPEG header is damaged")
        if marker == 0xFF:  # fill byte
            file.seek(-1, 1)
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">3xHH", file.read(7))
            return height, width
        elif marker not in _JPEG_ALONE:
            (length,) = struct.unpack(">H", file.read(2))
            file.seek(max(length, 2) - 2, 1)


def _tiff_size(file: BinaryIO, head: bytes) -> tuple[int, int]:
    order = "<" if head.startswith(b"II") else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    file.seek(start)
    counter, entry = (order + "Q", 20) if big else (order + "H", 12)
    (count,) = struct.unpack(counter, file.read(struct.calcsize(counter)))
    sizes: dict[int, int] = {}
    for _ in range(min(count, 4096)):
        raw = file.read(entry)
        tag, kind = struct.unpack_from(order + "HH", raw)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and kind in _TIFF_VALUES:
            (sizes[tag],) = struct.unpack_from(order + _TIFF_VALUES[kind], raw, 12 if big else 8)
    if len(sizes) < 2:
        raise ValueError("the TIFF header states no size")
    return sizes[_TIFF_HEIGHT], sizes[_TIFF_WIDTH]


def _jp2_size(file: BinaryIO) -> tuple[int, int]:
    file.seek(0)
    head = file.read(1024)
    at = head.find(b"ihdr")
    if at < 0:
        raise ValueError("the JPEG 2000 header states no size")
    height, width = struct.unpack_from(">II", head, at + 4)
    return height, width


def _cut_short(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end mark: decoders fill the missing rows with grey and say nothing."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"\xff\xd8"):
        # Thumbnails with an end mark of their own sit in segments before the last start of scan.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return False
