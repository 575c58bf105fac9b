"""Images as files hold them: formats, depths, damage, and the rules of conversion."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fledge.data.raster import read_image, read_size
from fledge.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (7, 11), dtype=np.uint8)


def write(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    """Write RGB(A) or grey pixels; OpenCV wants blue first."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_formats_keep_every_pixel_in_rgb_order(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", RGB)
    assert read_size(path) == (7, 11)
    assert np.array_equal(read_image(path), RGB)


def test_jpeg_and_jpeg2000_have_their_size_in_the_header_and_about_the_pixels(tmp_path: Path) -> None:
    smooth = np.full((40, 60, 3), (200, 100, 30), dtype=np.uint8)
    for suffix in ("jpg", "jp2"):
        path = write(tmp_path / f"a.{suffix}", smooth)
        assert read_size(path) == (40, 60)
        assert np.abs(read_image(path).astype(int) - smooth).max() <= 4


def test_magic_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", RGB).rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(path), RGB)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.png", GREY))
    assert image.shape == (7, 11, 3)
    assert all(np.array_equal(image[..., k], GREY) for k in range(3))


def test_alpha_is_dropped_without_touching_the_colours(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.zeros((7, 11), np.uint8)])
    assert np.array_equal(read_image(write(tmp_path / "a.png", rgba)), RGB)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_is_divided_by_257_whatever_the_image_holds(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 257, 128, 129, 65535, 2570]], dtype=np.uint16)
    image = read_image(write(tmp_path / f"a.{suffix}", deep))
    assert image[0, :, 0].tolist() == [0, 1, 0, 1, 255, 10]


def test_one_by_one_image(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.png", RGB[:1, :1])).shape == (1, 1, 3)


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jpg", np.full((8, 16, 3), 90, np.uint8)).read_bytes()
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    by_default = cv2.imread(str(turned))
    assert by_default is not None
    assert by_default.shape[:2] == (16, 8), "the fixture must be one that OpenCV would turn"
    assert read_size(turned) == (8, 16)
    assert read_image(turned).shape == (8, 16, 3)


def test_a_huge_image_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(DataError, match=r"image too large: .*bomb\.png: 60000x60000"):
        read_image(path)


def test_the_limit_counts_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", RGB)
    assert read_image(path, max_pixels=77).shape == (7, 11, 3)
    with pytest.raises(DataError, match="the limit is 76"):
        read_image(path, max_pixels=76)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "jp2"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str, part: float) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = write(tmp_path / f"cut.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(DataError, match=rf"cut\.{suffix}: .*: .*(intact copy|replace)"):
        read_image(path)


@pytest.mark.parametrize(("suffix", "tail"), [("jpg", 2), ("png", 12)])
def test_a_file_without_its_end_mark_is_refused(tmp_path: Path, suffix: str, tail: int) -> None:
    path = write(tmp_path / f"cut.{suffix}", RGB)
    path.write_bytes(path.read_bytes()[:-tail])
    with pytest.raises(DataError, match="truncated image"):
        read_image(path)


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"a\.png: it is none of PNG"):
        read_image(text)
    floats = tmp_path / "f.tif"
    assert cv2.imwrite(str(floats), np.zeros((4, 4), np.float32))
    with pytest.raises(DataError, match=r"f\.tif: samples are float32"):
        read_image(floats)
    with pytest.raises(DataError, match=r"cannot open image: .*missing\.png"):
        read_size(tmp_path / "missing.png")


def test_an_image_of_no_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(b"BM" + bytes(16) + struct.pack("<ii", 0, 5) + bytes(28))
    with pytest.raises(DataError, match="empty image"):
        read_image(path)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "tif", "bmp"):
        good = write(tmp_path / f"a.{suffix}", RGB).read_bytes()
        for _ in range(60):
            bad = bytearray(good)
            for at in RNG.integers(0, len(bad), 3):
                bad[at] = RNG.integers(0, 256)
            path = tmp_path / f"b.{suffix}"
            path.write_bytes(bytes(bad))
            with suppress(DataError):
                assert read_image(path, max_pixels=10_000).dtype == np.uint8
