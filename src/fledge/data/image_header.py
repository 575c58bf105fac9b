"""What an image's header says, without decoding it. Magic bytes, not file names, decide the format."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from fledge.errors import DataError

# Numbers of TIFF tags (TIFF 6.0, part 1 and 2), and values of theirs.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _EXTRA, _FORMAT = 256, 257, 258, 262, 274, 277, 338, 339
_WANTED = frozenset({_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _EXTRA, _FORMAT})
_BLACK_IS_ZERO, _RGB, _UNSIGNED = 1, 2, 1
_ALPHA = (1, 2)  # premultiplied or not
_WHOLE_BYTES = (8, 16, 32, 64)
_TIFF_VALUES = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_MOST_BOXES = 100  # of a JPEG 2000 file before its pixels

Tags = dict[int, int]


@dataclass(frozen=True)
class Header:
    """The layout of an image file.

    Attributes:
        format: by magic bytes.
        height: rows as stored.
        width: columns as stored.
        bits: of a sample, 0 if only decoding tells.
        bands: bands as stored, 0 if only decoding tells (all but TIFF and JPEG 2000).
        plain: a TIFF file that stores numbers as they are meant, in whole bytes; not so are palettes, CMYK, YCbCr,
            white as zero, and black and white.
        alpha: the last band is declared to be an alpha channel.
        turned: a TIFF file that asks viewers to turn or mirror it.
    """

    format: Literal["PNG", "JPEG", "BMP", "TIFF", "JPEG 2000"]
    height: int
    width: int
    bits: int = 8
    bands: int = 0
    plain: bool = False
    alpha: bool = False
    turned: bool = False


def read_header(path: Path) -> Header:
    """The header of an image file.

    Raises:
        DataError: the file cannot be opened, is none of PNG, JPEG, TIFF, BMP and JPEG 2000, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            header = _parse(file)
    except OSError as error:
        raise DataError(f"cannot open image: {path}: {error.strerror}: check the path and its permissions") from error
    except (struct.error, ValueError, OverflowError) as error:
        what = str(error) if isinstance(error, ValueError) else "the header is cut short"
        raise DataError(f"unreadable image: {path}: {what}: replace the file by an intact copy") from error
    if header.height < 1 or header.width < 1:
        size = f"{header.width}x{header.height}"
        raise DataError(f"empty image: {path}: its header says {size} pixels: replace or remove it")
    return header


def _parse(file: BinaryIO) -> Header:
    """Raises ValueError or struct.error when the header cannot be understood."""
    head = file.read(26)
    if not head:
        raise ValueError("the file is empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height, bits = struct.unpack(">IIB", head[16:25])
        return Header("PNG", height, width, bits)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(file)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(file, head)
    if head.startswith(b"BM"):
        width, height = struct.unpack("<ii", head[18:26])
        return Header("BMP", abs(height), width)  # a negative height means rows from the top
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n":
        return _jp2(file)
    raise ValueError("it is none of PNG, JPEG, TIFF, BMP and JPEG 2000")


def _jpeg(file: BinaryIO) -> Header:
    file.seek(2)
    while True:
        prefix, marker = struct.unpack("BB", file.read(2))
        if prefix != 0xFF:
            raise ValueError("the JPEG header is damaged")
        if marker == 0xFF:  # fill byte
            file.seek(-1, 1)
        elif marker in _JPEG_FRAMES:
            bits, height, width = struct.unpack(">2xBHH", file.read(7))
            return Header("JPEG", height, width, bits)
        elif marker not in _JPEG_ALONE:
            (length,) = struct.unpack(">H", file.read(2))
            file.seek(max(length, 2) - 2, 1)


def _jp2(file: BinaryIO) -> Header:
    """By the box that states the size, which must be that of the pixels: decoders go by the latter alone."""
    stated = size = b""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        start = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            start = 16
        if kind == b"jp2h":  # the image header is the first box in it
            stated = file.read(26)
        elif kind == b"jp2c":
            size = file.read(42)
            break
        if length < start:  # 0: to the end of the file
            break
        at += length
    if stated[4:8] != b"ihdr" or size[:4] != b"\xff\x4f\xff\x51":
        raise ValueError("the JPEG 2000 header states no size")
    height, width, bands, depth = struct.unpack_from(">IIHB", stated, 8)
    right, bottom, left, top = struct.unpack_from(">IIII", size, 8)
    (components,) = struct.unpack_from(">H", size, 40)
    if (bottom - top, right - left, components) != (height, width, bands):
        raise ValueError(f"the JPEG 2000 header says {width}x{height}, the pixels are {right - left}x{bottom - top}")
    bits = 0 if depth == 255 else (depth & 127) + 1  # 255: the bands differ; the highest bit is a sign
    return Header("JPEG 2000", height, width, bits, bands)


def _tiff(file: BinaryIO, head: bytes) -> Header:
    tags = _tiff_tags(file, head)
    if not {_WIDTH, _HEIGHT} <= tags.keys():
        raise ValueError("the TIFF header states no size")
    bits, kind = tags.get(_BITS, 1), tags.get(_FORMAT, _UNSIGNED)
    return Header(
        "TIFF",
        tags[_HEIGHT],
        tags[_WIDTH],
        bits,
        bands=tags.get(_SAMPLES, 1),
        # Samples that are neither, such as signed or complex ones, are refused once they are read.
        plain=tags.get(_PHOTOMETRIC) in (_BLACK_IS_ZERO, _RGB) and (bits in _WHOLE_BYTES or kind != _UNSIGNED),
        alpha=tags.get(_EXTRA) in _ALPHA,
        turned=tags.get(_ORIENTATION, 1) != 1,
    )


def _tiff_tags(file: BinaryIO, head: bytes) -> Tags:
    """The first value of each tag of ``_WANTED`` that the first image has."""
    order = "<" if head.startswith(b"II") else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count_form, entry_form, offset_form = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    (start,) = struct.unpack_from(order + offset_form, head, 8 if big else 4)
    file.seek(start)
    (count,) = struct.unpack(order + count_form, file.read(struct.calcsize(count_form)))
    entries = file.read(struct.calcsize(order + entry_form) * min(count, 4096))
    tags: Tags = {}
    for tag, kind, length, raw in struct.iter_unpack(order + entry_form, entries):
        if tag not in _WANTED or kind not in _TIFF_VALUES or tag in tags:  # of doubles, decoders take the first
            continue
        form = order + _TIFF_VALUES[kind]
        if struct.calcsize(form) * length > len(raw):  # too long to stand here, so here is where it stands
            file.seek(struct.unpack(order + offset_form, raw)[0])
            raw = file.read(struct.calcsize(form))
        (tags[tag],) = struct.unpack_from(form, raw)
    return tags
