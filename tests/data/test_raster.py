"""Images as files hold them: formats, depths, damage, and the rules of conversion."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.data.tiffs import write_tiff

from fledge.data.raster import PixelRule, measure_range, read_image, read_size
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # rasterio's log takes UTF-8 only
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


DEEP = RNG.integers(0, 4000, (9, 8, 5), dtype=np.uint16)


def test_bands_are_counted_from_one_and_kept_in_their_order(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", DEEP)
    image = read_image(path, PixelRule((5, 1), (0, 4000)))
    assert image.shape == (9, 8, 2)
    expected = [[[round(v * 255 / 4000) for v in (int(p[4]), int(p[0]))] for p in row] for row in DEEP]
    assert np.abs(image - np.array(expected)).max() == 0


@pytest.mark.parametrize("profile", [{}, {"interleave": "band"}, {"compress": "deflate"}, {"compress": "lzw"}])
def test_the_layout_of_a_tiff_does_not_matter(tmp_path: Path, profile: dict[str, Any]) -> None:
    rule = PixelRule((4, 2, 5), (100, 3000))
    plain = read_image(write_tiff(tmp_path / "a.tif", DEEP), rule)
    assert np.array_equal(read_image(write_tiff(tmp_path / "b.tif", DEEP, **profile), rule), plain)


@pytest.mark.parametrize("bands", [(3, 2, 1), (2,), (1, 1 + 1)])
def test_bands_of_a_png_are_red_green_and_blue(tmp_path: Path, bands: tuple[int, ...]) -> None:
    image = read_image(write(tmp_path / "a.png", RGB), PixelRule(bands))
    assert np.array_equal(image, RGB[..., [band - 1 for band in bands]])
    assert image.flags["C_CONTIGUOUS"]


def test_alpha_and_grey_can_be_asked_for(tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (7, 11, 1), dtype=np.uint8)
    rgba = write(tmp_path / "a.png", np.dstack([RGB, alpha]))
    assert np.array_equal(read_image(rgba, PixelRule((4, 1))), np.dstack([alpha[..., 0], RGB[..., 0]]))
    assert np.array_equal(read_image(write(tmp_path / "g.png", GREY), PixelRule((1,))), GREY[..., None])


@pytest.mark.parametrize(("count", "kept"), [(1, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2])])
def test_the_colour_rule_for_tiffs(tmp_path: Path, count: int, kept: list[int]) -> None:
    samples = RNG.integers(0, 256, (7, 11, count), dtype=np.uint8)
    assert np.array_equal(read_image(write_tiff(tmp_path / "a.tif", samples)), samples[..., kept])


@pytest.mark.parametrize("count", [2, 5, 12])
def test_other_numbers_of_bands_need_a_choice(tmp_path: Path, count: int) -> None:
    path = write_tiff(tmp_path / "a.tif", np.zeros((4, 4, count), np.uint8))
    with pytest.raises(DataError, match=rf"a\.tif: it has {count} bands: say which with `bands`, such as \[3, 2, 1\]$"):
        read_image(path)
    with pytest.raises(DataError, match=rf"^too few bands: .*a\.tif: it has {count}, and `bands` asks for band 13"):
        read_image(path, PixelRule((1, 13)))


def test_two_bands_are_grey_if_the_second_is_alpha(tmp_path: Path) -> None:
    samples = RNG.integers(0, 256, (7, 11, 2), dtype=np.uint8)
    path = write_tiff(tmp_path / "a.tif", samples, alpha="non-premultiplied")
    assert np.array_equal(read_image(path), samples[..., [0, 0, 0]])


def test_an_alpha_channel_does_not_darken_a_tiff(tmp_path: Path) -> None:
    samples = RNG.integers(1, 256, (7, 11, 4), dtype=np.uint8)
    path = write_tiff(tmp_path / "a.tif", samples, photometric="RGB", alpha="non-premultiplied")
    assert np.array_equal(read_image(path), samples[..., :3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_range_is_mapped_and_cut_off(tmp_path: Path, dtype: str) -> None:
    samples = np.array([[[0], [50], [51], [150], [249], [250]]], dtype)
    image = read_image(write_tiff(tmp_path / "a.tif", samples), PixelRule((1,), (50, 200)))
    assert image[0, :, 0].tolist() == [0, 0, 2, 170, 255, 255]


def test_a_range_of_colours_and_grey_keeps_three_channels(tmp_path: Path) -> None:
    rule = PixelRule((), (0, 510))
    assert np.array_equal(read_image(write(tmp_path / "a.png", RGB), rule), np.rint(RGB / 2).astype(np.uint8))
    grey = read_image(write(tmp_path / "g.png", GREY.astype(np.uint16) * 2), rule)
    assert all(np.array_equal(grey[..., k], GREY) for k in range(3))


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("uint16", 999), ("uint8", 255), ("float32", -9999)])
def test_samples_without_data_become_zero(tmp_path: Path, dtype: str, nodata: float) -> None:
    samples = np.array([[[100, 100], [200, nodata], [nodata, 50]]], dtype)
    image = read_image(write_tiff(tmp_path / "a.tif", samples, nodata=nodata), PixelRule((1, 2), (0, 200)))
    assert image[0].tolist() == [[128, 128], [255, 0], [0, 64]]


def test_numbers_that_are_none_become_zero(tmp_path: Path) -> None:
    samples = np.array([[[np.nan], [np.inf], [-np.inf], [1e38], [5.0]]], np.float32)
    image = read_image(write_tiff(tmp_path / "a.tif", samples), PixelRule((1,), (0, 10)))
    assert image[0, :, 0].tolist() == [0, 0, 0, 255, 128]


def test_a_no_data_value_that_the_samples_cannot_hold_hides_none(tmp_path: Path) -> None:
    samples = np.array([[[np.float32(3e38)], [5.0]]], np.float32)
    path = write_tiff(tmp_path / "a.tif", samples, nodata=float(np.finfo(np.float32).min))
    assert read_image(path, PixelRule((1,), (0, 10)))[0, :, 0].tolist() == [255, 128]


@pytest.mark.parametrize("dtype", ["int16", "uint32", "int8", "complex64"])
def test_other_types_are_refused_with_the_reason(tmp_path: Path, dtype: str) -> None:
    path = write_tiff(tmp_path / "a.tif", np.zeros((4, 4, 1), dtype))
    for rule in (PixelRule(), PixelRule((1,), (0, 1))):
        with pytest.raises(DataError, match=rf"a\.tif: samples are {dtype}: convert it to 8 or 16 bit"):
            read_image(path, rule)
    if dtype != "int8":  # whose header alone says that no range is needed
        with pytest.raises(DataError, match=f"samples are {dtype}"):
            measure_range([path], PixelRule((1,)))


def test_files_beside_an_image_do_not_change_it(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", DEEP)
    before = read_image(path, PixelRule((1, 2), (0, 4000)))
    value = int(DEEP[0, 0, 0])
    band = f'<PAMRasterBand band="1"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    (tmp_path / "a.tfw").write_text("0\n" * 6)
    assert np.array_equal(read_image(path, PixelRule((1, 2), (0, 4000))), before)


def spread(low: int, high: int, dtype: str, shape: tuple[int, int, int] = (40, 50, 2)) -> NDArray[Any]:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)


def test_the_measured_range_leaves_out_half_a_percent_at_each_end(tmp_path: Path) -> None:
    paths = [write_tiff(tmp_path / f"{k}.tif", spread(1000 * k, 1000 * k + 1000, "uint16")) for k in range(3)]
    low, high = measure_range(paths, PixelRule((1, 2))) or (0, 0)
    assert abs(low - 15) < 2
    assert abs(high - 2985) < 2
    assert measure_range(paths, PixelRule((2,))) != (low, high)
    one = measure_range(paths, PixelRule((1,)), count=1)
    assert one is not None
    assert one[1] < 1000


def test_missing_samples_do_not_count_in_the_range(tmp_path: Path) -> None:
    samples = spread(10, 20, "float32")
    samples[:, :45] = np.nan
    samples[:, 45:48] = -9999
    low, high = measure_range([write_tiff(tmp_path / "a.tif", samples, nodata=-9999)], PixelRule((1, 2))) or (0, 0)
    assert 10 <= low < high <= 20
    empty = write_tiff(tmp_path / "e.tif", np.full((4, 4, 1), np.nan, np.float32))
    with pytest.raises(DataError, match=r"e\.tif and others: all samples are missing"):
        measure_range([empty], PixelRule((1,)))


@pytest.mark.parametrize("value", [0.0, 7.0, 1e30])
def test_the_range_of_constant_images_is_not_empty(tmp_path: Path, value: float) -> None:
    path = write_tiff(tmp_path / "a.tif", np.full((4, 4, 1), value, np.float32))
    low, high = measure_range([path], PixelRule((1,))) or (0, 0)
    assert low < high
    assert low == np.float32(value)


def test_eight_bits_need_no_range_and_no_decoding(tmp_path: Path) -> None:
    large = np.tile(RGB, (6, 4, 1))
    cut = [write(tmp_path / f"a.{suffix}", large) for suffix in ("png", "jpg", "bmp", "tif", "jp2")]
    assert measure_range(cut, PixelRule()) is None
    cut[0].write_bytes(cut[0].read_bytes()[:-20])
    assert measure_range(cut, PixelRule()) is None
    assert measure_range([], PixelRule()) is None


def test_a_range_for_two_kinds_of_samples_is_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.png", GREY), write(tmp_path / "b.png", GREY.astype(np.uint16))]
    with pytest.raises(DataError, match=r"images differ: .*a\.png has uint8 samples and .*b\.png has uint16: convert"):
        measure_range(paths, PixelRule())


def test_sixteen_bit_grey_and_colour_have_a_range(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "jp2"):
        path = write(tmp_path / f"a.{suffix}", spread(300, 700, "uint16", (64, 80, 3)))
        low, high = measure_range([path], PixelRule()) or (0, 0)
        assert 295 < low < 310, suffix
        assert 690 < high < 705, suffix


def test_bands_of_jpeg_2000_beyond_the_fourth(tmp_path: Path) -> None:
    samples = np.broadcast_to(np.array([10, 50, 90, 130, 170, 210], np.uint8), (40, 40, 6))
    path = write_tiff(tmp_path / "a.jp2", samples, driver="JP2OpenJPEG", quality="100", reversible="yes")
    assert read_image(path, PixelRule((6, 1)))[5, 5].tolist() == [210, 10]
    with pytest.raises(DataError, match="it has 6 bands"):
        read_image(path)
