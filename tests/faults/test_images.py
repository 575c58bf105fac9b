"""Images that are odd, damaged or hostile are read by the stated rules, or refused in one line that names the file."""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from tests.data.tiffs import write_tiff
from tests.faults.child import forked

from fledge.cli import main
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.data.raster import COLOUR, PixelRule, read_image
from fledge.data.sampling import TrainLoader
from fledge.data.stored_bands import read_bands
from fledge.data.transforms import Augment
from fledge.errors import DataError, ResourceError
from fledge.types import Targets

RED, GREEN, BLUE = 200, 100, 30
PLAIN = np.full((40, 56, 3), (RED, GREEN, BLUE), np.uint8)
# Left half dark, right half light: shows whether an image was turned.
HALVES = np.repeat(np.repeat(np.array([[[40], [220]]], np.uint8), 28, axis=1), 40, axis=0)
AUGMENT = Augment(64, photometric=0.5)


def pillow(path: Path, image: Image.Image, form: str, **options: Any) -> None:
    image.save(path, form, **options)


def pixels(path: Path, samples: NDArray[Any]) -> None:
    """A file of the kind that its name says; OpenCV wants blue first."""
    order = [2, 1, 0, 3][: samples.shape[2]] if samples.shape[2] > 1 else [0]
    assert cv2.imwrite(str(path), samples[..., order])


def cut(path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, PLAIN.shape, dtype=np.uint8)
    pixels(path, noise)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def masked(path: Path) -> None:
    samples = np.full((40, 56, 1), 5.0, np.float32)
    samples[:10], samples[10:20] = np.nan, -9999
    write_tiff(path, samples, nodata=-9999)


def no_pixels(path: Path) -> None:
    path.write_bytes(b"BM" + bytes(16) + struct.pack("<ii", 0, 0) + bytes(28))


TURN = Image.Exif()
TURN[274] = 6
MASKED = np.full((40, 56, 3), 128, np.uint8)
MASKED[:20] = 0
TWELVE = np.broadcast_to(np.arange(10, 130, 10, dtype=np.uint8), (40, 56, 12))
GREY = PLAIN[..., :1]
CASES: dict[str, tuple[str, Callable[[Path], Any], PixelRule, Any]] = {
    "grey": ("png", lambda p: pixels(p, GREY), COLOUR, PLAIN[..., [0, 0, 0]]),
    "grey and alpha": ("png", lambda p: pillow(p, Image.new("LA", (56, 40), (RED, 9)), "PNG"), COLOUR, RED),
    "1x1": ("png", lambda p: pixels(p, PLAIN[:1, :1]), COLOUR, PLAIN[:1, :1]),
    "16 bit grey": ("png", lambda p: pixels(p, GREY.astype(np.uint16) * 257), COLOUR, RED),
    "16 bit colour": ("tif", lambda p: pixels(p, PLAIN.astype(np.uint16) * 257), COLOUR, PLAIN),
    "RGBA": ("png", lambda p: pixels(p, np.dstack([PLAIN, 0 * GREY])), COLOUR, PLAIN),
    "RGBA TIFF": (
        "tif",
        lambda p: pillow(p, Image.fromarray(np.dstack([PLAIN, GREY // 9])), "TIFF"),
        COLOUR,
        PLAIN,
    ),
    "CMYK": ("jpg", lambda p: pillow(p, Image.fromarray(PLAIN).convert("CMYK"), "JPEG", quality=95), COLOUR, PLAIN),
    "CMYK TIFF": ("tif", lambda p: pillow(p, Image.fromarray(PLAIN).convert("CMYK"), "TIFF"), COLOUR, PLAIN),
    "palette": ("png", lambda p: pillow(p, Image.fromarray(PLAIN).quantize(4), "PNG"), COLOUR, PLAIN),
    "palette TIFF": ("tif", lambda p: pillow(p, Image.fromarray(PLAIN).quantize(4), "TIFF"), COLOUR, PLAIN),
    "black and white": ("tif", lambda p: pillow(p, Image.new("1", (56, 40), 1), "TIFF"), COLOUR, 255),
    "white is zero": (
        "tif",
        lambda p: write_tiff(p, 255 - GREY, photometric="miniswhite"),
        COLOUR,
        RED,
    ),
    "12 bands": ("tif", lambda p: write_tiff(p, TWELVE), PixelRule((12, 1, 6)), TWELVE[..., [11, 0, 5]]),
    "12 bands, none chosen": ("tif", lambda p: write_tiff(p, TWELVE), COLOUR, "it has 12 bands: say which"),
    "float, no data and NaN": ("tif", masked, PixelRule((), (0, 10)), MASKED),
    "float, no range": ("tif", masked, COLOUR, "samples are float32: set `pixel_range`"),
    "signed": ("tif", lambda p: write_tiff(p, TWELVE[..., :1].astype(np.int16)), COLOUR, "samples are int16: convert"),
    "complex": ("tif", lambda p: write_tiff(p, TWELVE[..., :1].astype(np.complex64)), COLOUR, "samples are complex64"),
    "turned by EXIF": (
        "jpg",
        lambda p: pillow(p, Image.fromarray(HALVES[..., 0]), "JPEG", exif=TURN),
        COLOUR,
        HALVES[..., [0, 0, 0]],
    ),
    "turned TIFF": (
        "tif",
        lambda p: pillow(p, Image.fromarray(HALVES[..., 0]), "TIFF", tiffinfo={274: 3}),
        COLOUR,
        HALVES[..., [0, 0, 0]],
    ),
    "turned palette TIFF": (
        "tif",
        lambda p: pillow(p, Image.fromarray(PLAIN).quantize(4), "TIFF", tiffinfo={274: 6}),
        COLOUR,
        "it is stored turned and not as grey or RGB",
    ),
    "zero bytes": ("png", lambda p: p.write_bytes(b""), COLOUR, "the file is empty: replace"),
    "0x0": ("bmp", no_pixels, COLOUR, "its header says 0x0 pixels: replace or remove it"),
    "truncated PNG": ("png", lambda p: cut(p, 0.7), COLOUR, "its end is missing: replace"),
    "truncated JPEG": ("jpg", lambda p: cut(p, 0.7), COLOUR, "its end is missing: replace"),
    "truncated TIFF": ("tif", lambda p: cut(p, 0.7), COLOUR, ": replace the file by an intact copy"),
    "a folder": ("png", lambda p: p.mkdir(), COLOUR, "Is a directory: check the path"),
    "missing": ("png", lambda p: None, COLOUR, "No such file or directory: check the path"),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_images_are_read_by_the_rules_or_refused(case: str, tmp_path: Path) -> None:
    """Image unreadable, truncated, zero bytes, 0x0, 1x1, grey, 16-bit, RGBA, CMYK, 12 bands, float with no data and
    NaN, turned by EXIF: read or refused with the reason; orientation is never applied; missing samples are masked."""
    suffix, make, rule, expected = CASES[case]
    path = tmp_path / f"odd.{suffix}"
    make(path)
    if isinstance(expected, str):
        with pytest.raises(DataError) as caught:
            read_image(path, rule)
        assert str(path) in str(caught.value)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    image = read_image(path, rule)
    wanted = np.full(PLAIN.shape, expected) if isinstance(expected, int) else np.asarray(expected)
    assert image.shape == wanted.shape
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - wanted).max() <= (4 if suffix == "jpg" else 0)


def png(width: int, height: int, bits: int = 8, data: bytes = b"") -> bytes:
    """A PNG of that size by its header, grey; its content may be anything."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def settings_of_others() -> tuple[int | None, dict[str, str]]:
    """Pillow's limit, and what OpenCV and GDAL read from the environment."""
    theirs = {key: value for key, value in os.environ.items() if key.startswith(("OPENCV", "GDAL", "CPL"))}
    return Image.MAX_IMAGE_PIXELS, theirs


def test_the_pixel_limit_is_ours_and_checked_before_decoding(tmp_path: Path) -> None:
    """An image larger than Pillow's limit: an explicit ``max_pixels`` (1 Gpx), checked from the header; the globals of
    Pillow and OpenCV are never touched."""
    before = settings_of_others()
    path = tmp_path / "fake.png"
    path.write_bytes(png(60_000, 60_000))
    with pytest.raises(
        DataError, match=r"^image too large: .*fake\.png: 60000x60000 pixels, the limit is 1000000000: "
    ):
        read_image(path)
    large = tmp_path / "large.png"  # beyond the 89 Mpx from which Pillow warns
    rows = zlib.compressobj(1)
    content = b"".join([rows.compress(bytes(1 + 9_600 // 8)) for _ in range(9_600)]) + rows.flush()
    large.write_bytes(png(9_600, 9_600, 1, content))
    assert read_image(large, PixelRule((1,))).shape == (9_600, 9_600, 1)
    assert before == settings_of_others()


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """Bomb: a small PNG of 50,000 x 50,000 pixels: refused by the limit; memory +0."""
    rows = zlib.compressobj(9)
    blank = bytes(6251)
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000, 1, b"".join([rows.compress(blank) for _ in range(2_000)]) + rows.flush()))
    assert path.stat().st_size < 40_000

    def refuse() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DataError, match="image too large"):
            read_image(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024  # KiB

    with forked(refuse) as child:
        ended = child.end()
    assert ended.code == 0, ended.out


@pytest.mark.parametrize("tile", [0, 1, 3])
def test_a_damaged_tile_stops_the_reading(tile: int, tmp_path: Path) -> None:
    """Truncated file, damaged tile: an error that names the file, never zeros as pixels."""
    noise = np.random.default_rng(0).integers(0, 4000, (128, 128, 2), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", noise, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            at = int(file.get_tag_item(f"BLOCK_OFFSET_{tile % 2}_{tile // 2}", "TIFF", bidx=1))
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(DataError, match=r"^unreadable image: .*a\.tif: [^\n]*: replace the file by an intact copy$"):
        read_image(path, PixelRule((1, 2), (0, 4000)))


def test_a_grid_of_text_is_no_image(tmp_path: Path) -> None:
    """Endless loop in a driver (rasterio #2910, .asc): that driver is not on our list."""
    header = "ncols 4\nnrows 4\nxllcorner 0\nyllcorner 0\ncellsize 1\nNODATA_value -9999\n"
    for name in ("grid.asc", "grid.tif"):
        path = tmp_path / name
        path.write_text(header + "1 2 3 4\n" * 4)
        with pytest.raises(DataError, match="it is none of PNG, JPEG, TIFF, BMP and JPEG 2000"):
            read_image(path, PixelRule((1,), (0, 1)))
        with pytest.raises(DataError, match="unreadable image"):
            read_bands(path, "TIFF", [1])


def test_another_driver_behind_tif_is_refused(tmp_path: Path) -> None:
    """VRT or another driver behind ``.tif``: refused, so that an image cannot name other files or addresses."""
    secret = write_tiff(tmp_path / "secret.tif", TWELVE[..., :1])
    source = f"<SimpleSource><SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand>'
    vrt = tmp_path / "innocent.tif"
    vrt.write_text(f'<VRTDataset rasterXSize="56" rasterYSize="40">{band}</VRTDataset>')
    with pytest.raises(DataError, match="it is none of PNG"):
        read_image(vrt)
    for name in (vrt, Path(f"/vsizip/{tmp_path}/a.zip/secret.tif"), Path("http://localhost:9/a.tif")):
        with pytest.raises(DataError, match="unreadable image"):
            read_bands(name, "TIFF", [1])
    assert read_bands(secret, "TIFF", [1])[0].shape == (40, 56, 1)


@pytest.mark.parametrize(
    "magic",
    [b"GIF89a", b"RIFF\x10\0\0\0WEBP", b"%PDF-1.7", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x89PNG\r\n\x1a\0"],
    ids=str,
)
def test_wrong_magic_bytes_are_refused(magic: bytes, tmp_path: Path) -> None:
    """Wrong magic bytes: refused, whatever the name of the file says."""
    for suffix in ("png", "tif", "jpg"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(magic + bytes(200))
        with pytest.raises(DataError, match=rf"a\.{suffix}: it is none of PNG, JPEG, TIFF, BMP and JPEG 2000: "):
            read_image(path)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    """Magic bytes decide what a file is: a TIFF called .png is read as what it is."""
    path = write_tiff(tmp_path / "a.tif", TWELVE).rename(tmp_path / "a.png")
    assert read_image(path, PixelRule((2,)))[0, 0].tolist() == [20]


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Six GeoTIFFs of two 16-bit bands, one object each."""
    rng = np.random.default_rng(0)
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "labelTxt").mkdir()
    for k in range(6):
        samples = rng.integers(0, 4000, (64, 64, 2), dtype=np.uint16)
        write_tiff(tmp_path / "train" / "images" / f"i{k}.tif", samples, compress="deflate", blockysize=8)
        (tmp_path / "train" / "labelTxt" / f"i{k}.txt").write_text("10 10 30 10 30 20 10 20 plane 0\n")
    return open_dataset(tmp_path, "train", pixels=PixelRule((2, 1), (0, 4000)))


def test_workers_do_not_share_an_open_file(dataset: DetectionDataset) -> None:
    """Workers share one open dataset after a fork (rasterio #2053): each read opens its own file, so two workers give
    what one process gives."""
    read_image(dataset.paths[0], dataset.pixels)  # GDAL has been used before the fork
    alone = [b.images for b in TrainLoader(dataset, AUGMENT, 2, 0, total_steps=30)]
    helped = [b.images for b in TrainLoader(dataset, AUGMENT, 2, 0, total_steps=30, workers=2)]
    assert len(alone) == 30
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def on(image_id: str, action: Callable[[], Any]) -> Callable[..., Any]:
    """A transform that does something when it sees an image of that name."""

    def transform(image: NDArray[np.uint8], targets: Targets, rng: np.random.Generator) -> Any:
        if targets.image_id == image_id:
            action()
        return AUGMENT(image, targets, rng)

    return transform


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail, instead of waiting for ever."""

    def late(number: int, frame: object) -> None:
        raise AssertionError(f"it hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def work() -> None:
    """What the main process does between batches; it must not be interrupted by what happens to a worker."""
    try:
        for _ in range(30):
            time.sleep(0.01)
    except Exception as error:
        raise AssertionError("the error came amid the work") from error


def test_a_worker_that_dies_is_named_with_its_sample(dataset: DetectionDataset) -> None:
    """Worker dies (OOM kill): an error that names the worker and the sample within 10 s, where the batch is fetched and
    not amid an optimiser step; never a hang."""
    loader = TrainLoader(
        dataset, on("i4", lambda: os.kill(os.getpid(), signal.SIGKILL)), 1, 0, total_steps=6, workers=2
    )

    def drain() -> None:
        for _ in loader:
            work()

    expected = r"^data worker [01] died \(process \d+, exit code -9\): .*i4\.tif \(seed 0, epoch 0, index 4\): lower `w"
    with at_most(30), pytest.raises(ResourceError, match=expected):
        drain()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_names_the_sample(workers: int, dataset: DetectionDataset) -> None:
    """Worker raises: the path of its sample is in the message."""

    def fail() -> None:
        raise ZeroDivisionError("odd pixels")

    with pytest.raises(ZeroDivisionError) as caught:
        list(TrainLoader(dataset, on("i4", fail), 1, seed=0, total_steps=6, workers=workers))
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert f"while preparing {dataset.paths[4]} (seed 0, epoch 0, index 4)" in text


def test_randomness_belongs_to_the_sample_not_to_the_worker(dataset: DetectionDataset) -> None:
    """NumPy or random seeds equal in all workers: randomness derives from (seed, epoch, index), no global state."""

    def drawing(image: NDArray[np.uint8], targets: Targets, rng: np.random.Generator) -> Any:
        image[0, 0] = rng.integers(0, 256, 2)
        return image, replace(targets, quads=None)

    def run(workers: int) -> list[list[int]]:
        loader = TrainLoader(dataset, drawing, 1, seed=3, total_steps=12, workers=workers)
        return [batch.images[0, :, 0, 0].tolist() for batch in loader]

    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the global state that must not matter)
    first = run(0)
    assert run(2) == run(1) == first
    assert len(set(map(tuple, first))) == 12, "every image of every epoch has numbers of its own"
    assert (random.random(), float(np.random.rand())) == pytest.approx((0.8444218515250481, 0.5488135039273248))  # noqa: NPY002


def test_the_command_says_it_in_one_line(
    dataset: DetectionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image of the training set is damaged: exit code 3, one line with the file, no traceback, no run folder."""
    damaged = dataset.paths[0]
    damaged.write_bytes(damaged.read_bytes()[:600])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'data = "{dataset.root}"\nbands = [1, 2]\nbackbone = "resnet18_quarter"\ndevice = "cpu"\n')
    monkeypatch.setattr("sys.argv", ["fledge", "train", str(recipe), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "unreadable image: " in line
    assert str(damaged) in line
    assert not (tmp_path / "run").exists()
