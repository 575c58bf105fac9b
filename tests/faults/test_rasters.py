"""Images and huge rasters (§ images and huge rasters): one function a row, its docstring the row."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from tests.data.tiffs import write_tiff
from tests.faults.child import fresh
from tests.faults.scenes import PLACE, TILED, patches, scene, sparse
from tests.inference.squares import RED, painted, square_model, truth

from fledge.data.raster import MAX_PIXELS
from fledge.data.scene_file import SceneFile
from fledge.errors import DataError, ResourceError, UsageError
from fledge.inference import source
from fledge.inference.found import Found
from fledge.inference.scan import merged, scan_scene
from fledge.inference.scene import SceneSettings, detect_scene
from fledge.inference.windows import Window
from fledge.types import Frame

MIB = 1 << 20


def rows(found: Found) -> list[tuple[float, ...]]:
    return sorted((float(label), *box) for label, box in zip(found.labels.tolist(), found.boxes.tolist(), strict=True))


def scanned(path: Path, journal: Path, **changes: Any) -> Found:
    scan = scan_scene(square_model(), path, journal, SceneSettings(score=0.0, **changes))
    return merged(journal, scan.holes)[0]


def measure_sparse() -> None:
    """In a fresh process: find the patches of the scene named in ``SCENE``."""
    path = Path(os.environ["SCENE"])
    journal = path.with_suffix(".journal")
    scan = scan_scene(square_model(1024, 200), path, journal, SceneSettings(score=0.0, batch_size=1))
    found, _ = merged(journal)
    print(f"{len(found)} objects, {scan.windows} windows, {scan.skipped} skipped")


def test_memory_does_not_grow_with_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 x 100,000 GeoTIFF: only windows are read, GDAL's cache is bounded by us (its default is 5 % of the
    memory); the peak is within 64 MiB of that of a 4,000 x 4,000 one."""
    peaks = {}
    for side, blocks in ((4_000, 7), (100_000, 12)):
        monkeypatch.setenv("SCENE", str(sparse(tmp_path / f"{side}.tif", side, blocks)))
        with fresh(measure_sparse) as child:
            ended = child.end(600)
        assert ended.code == 0, ended.out
        assert ended.out.startswith(f"{blocks} objects"), ended.out
        peaks[side] = ended.peak
    assert peaks[100_000] - peaks[4_000] < 64 * MIB, peaks


def read_everything() -> None:
    """In a fresh process: all windows of a scene whose every block is stored, under a limit."""
    import resource

    path = Path(os.environ["SCENE"])
    before = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (before + 256 * MIB, before + 256 * MIB))
    file = SceneFile(path)
    for y in range(0, file.height, 1024):
        for x in range(0, file.width, 1024):
            file.read(x, y, min(1024, file.width - x), min(1024, file.height - y))
    print("all read")


def test_reading_the_entire_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the entire scene anyway: impossible, only windows can be read; 300 million samples in 256 MiB."""
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=8192, width=12288, count=3, dtype="uint8", tiled=True,
        blockxsize=512, blockysize=512, compress="deflate", **PLACE,
    ) as file:  # fmt: skip
        row = np.ones((3, 512, 12288), np.uint8)
        for at in range(0, 8192, 512):
            file.write(row, window=((at, at + 512), (0, 12288)))
    monkeypatch.setenv("SCENE", str(tmp_path / "a.tif"))
    with fresh(read_everything) as child:
        ended = child.end(600)
    assert (ended.code, ended.last) == (0, "all read"), ended.out
    assert not any(hasattr(SceneFile, name) for name in ("read_all", "pixels", "array"))


def test_one_strip_or_strips_as_wide_as_the_scene(tmp_path: Path) -> None:
    """One-strip or full-width-strip layout: windows are visited row by row; said where strips are decoded over and
    over, refused where one block is beyond 1 GiB."""
    image = painted(250, 300, patches(250, 300))
    one = write_tiff(tmp_path / "one.tif", image, blockysize=250, compress="deflate", **PLACE)
    assert rows(scanned(one, tmp_path / "one")) == truth(patches(250, 300))
    wide = tmp_path / "wide.tif"
    with rasterio.open(
        wide, "w", driver="GTiff", height=100, width=30_000, count=3, dtype="uint8", blockysize=1, compress="deflate",
        **PLACE,
    ) as file:  # fmt: skip
        file.write(np.zeros((3, 100, 30_000), np.uint8))
    scan = scan_scene(square_model(1024, 0), wide, tmp_path / "wide", SceneSettings(batch_size=1))
    assert any("strips as wide as the scene" in note for note in scan.notes)
    with rasterio.open(
        tmp_path / "block.tif", "w", driver="GTiff", height=32768, width=65536, count=3, dtype="uint8", tiled=True,
        blockxsize=32768, blockysize=32768, SPARSE_OK=True, compress="deflate", BIGTIFF="YES", **PLACE,
    ):  # fmt: skip
        pass
    with pytest.raises(DataError, match=r"blocks too large: .* 3072 MiB: store it in tiles"):
        SceneFile(tmp_path / "block.tif")


def fake_png(path: Path, side: int) -> Path:
    """Only a header that says ``side`` x ``side``."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0) + b"\0" * 64)
    return path


def test_images_beyond_the_limit(tmp_path: Path) -> None:
    """PNG or JPEG of more than 1 Gpx, or a bomb of 50,000 x 50,000: refused from the header, before decoding; no global
    limit of a library is touched."""
    for side in (50_000, 60_000):
        with pytest.raises(DataError, match=f"image too large: .*: {side}x{side} pixels, the limit is {MAX_PIXELS}"):
            SceneFile(fake_png(tmp_path / f"{side}.png", side))
    try:
        from PIL import Image
    except ImportError:
        return
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def spoil(path: Path, block: int, row: int = 0) -> None:
    """Overwrite the first 64 bytes of a stored block. (Damage amid noise, which still decodes, shows to no decoder.)"""
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item(f"BLOCK_OFFSET_{block}_{row}", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))


def noisy(path: Path, **profile: Any) -> Path:
    """A scene whose tiles do not compress to nothing, so that damage inside one is damage."""
    image = painted(256, 512, patches(256, 512))
    image[image == 60] = np.random.default_rng(0).integers(50, 70, int((image == 60).sum()))
    return write_tiff(path, image, **{**TILED, **PLACE, "compress": "deflate", **profile})


@pytest.mark.parametrize("damage", ["tile", "cut"])
def test_damaged_tile_or_truncated_file(damage: str, tmp_path: Path) -> None:
    """Truncated file, damaged tile: the window is listed as failed, exit 3 and no result; with --allow-holes the result
    is written and marked incomplete; never zeros as pixels."""
    path = noisy(tmp_path / "a.tif")
    whole = rows(scanned(path, tmp_path / "whole"))
    if damage == "tile":
        spoil(path, 7)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    out = tmp_path / "out.geojson"
    settings = SceneSettings("geojson", score=0.0)
    with pytest.raises(DataError, match=r"incomplete: .*a\.tif: .*\d+ of \d+ windows cannot be read, .*--allow-holes"):
        detect_scene(square_model(), path, out, settings)
    assert not out.exists()
    result = detect_scene(square_model(), path, out, SceneSettings("geojson", score=0.0, allow_holes=True))
    assert 0 < len(result.holes) < result.windows
    assert '"incomplete": [[' in out.read_text()
    assert (tmp_path / "out.geojson.holes.json").is_file()
    assert 0 < result.objects < len(whole)


def test_a_scene_of_which_nothing_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block damaged: given up after 16 windows one after another, exit 3 and no result; with --allow-holes all
    windows are tried, and the result is marked incomplete."""
    tried: list[tuple[int, int]] = []
    read = source.SceneSource.read

    def count(self: source.SceneSource, window: Window) -> object:
        tried.append((window.x, window.y))
        return read(self, window)

    monkeypatch.setattr(source.SceneSource, "read", count)
    path = noisy(tmp_path / "a.tif")
    with rasterio.open(path) as file:
        first = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    data = path.read_bytes()
    path.write_bytes(data[:first] + b"\xff" * (len(data) - first))
    out = tmp_path / "out.csv"
    with pytest.raises(
        DataError, match=r"incomplete: .*a\.tif: given up: 16 of \d+ windows .*column \d+, row \d+ .*--allow-holes"
    ) as caught:
        detect_scene(square_model(), path, out, SceneSettings("csv", batch_size=1))
    assert caught.value.exit_code == 3
    assert 16 <= len(tried) <= 16 + 4, "the reader is a little ahead"
    assert not out.exists()
    result = detect_scene(square_model(), path, out, SceneSettings("csv", batch_size=1, allow_holes=True))
    assert len(result.holes) == result.windows == len(set(tried)) > 30
    assert len(out.read_text().splitlines()) == 1


def test_holes_here_and_there_do_not_end_a_scene(tmp_path: Path) -> None:
    """Damaged blocks with intact ones between: every window is tried, however many fail in all."""
    path = noisy(tmp_path / "a.tif")
    for block in (1, 3, 5, 7):
        for row in range(4):
            spoil(path, block, row)
    with pytest.raises(DataError, match=r"incomplete: .*a\.tif: \d+ of \d+ windows") as caught:
        detect_scene(
            square_model(overlap=0, image_size=32), path, tmp_path / "out.csv", SceneSettings("csv", batch_size=1)
        )
    assert "64 of 128 windows" in str(caught.value)


def test_other_drivers_behind_an_image_name(tmp_path: Path) -> None:
    """VRT or another driver behind ``.tif`` (an .asc that once hung a driver): refused, no file beside it is read."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\xff" * 4096)
    vrt = (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename></VRTRasterBand></VRTDataset>'
    )
    texts = (vrt, "ncols 4\nnrows 4\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2 3 4\n", "P5 64 64 255\n", "")
    for k, text in enumerate(texts):
        (tmp_path / f"{k}.tif").write_text(text)
        with pytest.raises(DataError, match="unreadable image"):
            SceneFile(tmp_path / f"{k}.tif")


@pytest.mark.parametrize(
    "name",
    ["/vsicurl/http://localhost/a.tif", "http://localhost/a.tif", "/vsizip/a.zip/a.tif", "zip://a.zip!a.tif",
     "GTIFF_DIR:1:a.tif", "s3://bucket/a.tif", "NETCDF:a.nc:v", "/vsimem/a.tif"],
)  # fmt: skip
def test_addresses(name: str) -> None:
    """``/vsicurl/``, ``http:``, archives, subdatasets: refused; fledge opens files of this machine only."""
    with pytest.raises(DataError, match=r"not a file: .*: fledge opens files of this machine only"):
        SceneFile(name)


def gcp_only(path: Path) -> Path:
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(r, c, 9 + c * 1e-5, 47 - r * 1e-5) for r, c in ((0, 0), (0, 90), (90, 0))]
    return write_tiff(path, painted(96, 96, []), gcps=points, crs="EPSG:4326")


def test_places_in_every_form(tmp_path: Path) -> None:
    """No CRS: pixel GeoJSON refused, CSV in pixels offered. Rotated and south-up transforms: applied in full.
    Pixel-is-point: honoured. GCPs or RPC only: refused with a hint. Antimeridian: cut in two (RFC 7946)."""
    patch = [(9, 9, 40, 20, RED)]
    image = painted(96, 96, patch)

    def bounds(name: str, **profile: Any) -> NDArray[np.float64]:
        import pyogrio

        path = write_tiff(tmp_path / f"{name}.tif", image, **profile)
        detect_scene(square_model(), path, tmp_path / f"{name}.gpkg")
        return np.array(pyogrio.read_info(tmp_path / f"{name}.gpkg")["total_bounds"])

    place = {"crs": "EPSG:32632"}
    np.testing.assert_allclose(
        bounds("north", **place, transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6)),
        [5e5 + 4.5, 5e6 - 14.5, 5e5 + 24.5, 5e6 - 4.5],
    )
    np.testing.assert_allclose(
        bounds("south", **place, transform=rasterio.Affine(0.5, 0, 5e5, 0, 0.5, 5e6)),
        [5e5 + 4.5, 5e6 + 4.5, 5e5 + 24.5, 5e6 + 14.5],
    )
    np.testing.assert_allclose(
        bounds("turned", **place, transform=rasterio.Affine(0, 0.5, 5e5, 0.5, 0, 5e6)),
        [5e5 + 4.5, 5e6 + 4.5, 5e5 + 14.5, 5e6 + 24.5],
    )
    with rasterio.open(
        tmp_path / "p.tif", "w", driver="GTiff", height=96, width=96, count=3, dtype="uint8", **place,
        transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
    ) as file:  # fmt: skip
        file.update_tags(AREA_OR_POINT="Point")
        file.write(np.moveaxis(image, 2, 0))
    assert SceneFile(tmp_path / "p.tif").frame.transform == (0.5, 0, 5e5, 0, -0.5, 5e6)
    plain = write_tiff(tmp_path / "plain.tif", image)
    with pytest.raises(UsageError, match=r"no longitude and latitude: plain: .* as gpkg, csv"):
        detect_scene(square_model(), plain, tmp_path / "plain.geojson", SceneSettings("geojson"))
    result = detect_scene(square_model(), plain, tmp_path / "plain.csv", SceneSettings("csv"))
    assert any("coordinates are pixels" in note for note in result.notes)
    with pytest.raises(DataError, match=r"no transform: .* ground control points only.*gdalwarp IN"):
        SceneFile(gcp_only(tmp_path / "gcp.tif"))
    over = write_tiff(
        tmp_path / "fiji.tif", image, crs="EPSG:4326", transform=rasterio.Affine(1e-4, 0, 179.997, 0, -1e-4, -17)
    )
    detect_scene(square_model(), over, tmp_path / "fiji.geojson", SceneSettings("geojson"))
    assert "MultiPolygon" in (tmp_path / "fiji.geojson").read_text()


def test_a_scene_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File on a network mount vanishes during the run: an error after three more looks (1, 2, 4 s), journal intact,
    exit 5; brought back, the same command ends with the same result."""
    monkeypatch.setattr(source, "RETRIES", (0.01, 0.02, 0.04))
    path = scene(tmp_path / "a.tif")
    whole = detect_scene(square_model(), path, tmp_path / "whole.csv", SceneSettings("csv", batch_size=1))

    def vanish(done: int, total: int) -> None:
        if done == total // 3 and path.exists():
            path.rename(tmp_path / "away.tif")

    out = tmp_path / "out.csv"
    with pytest.raises(ResourceError, match=r"scene has gone: .*a\.tif: .*run the same command again") as caught:
        detect_scene(square_model(), path, out, SceneSettings("csv", batch_size=1), vanish)
    assert caught.value.exit_code == 5
    assert (tmp_path / "out.csv.journal").exists()
    (tmp_path / "away.tif").rename(path)
    seen: list[int] = []
    detect_scene(square_model(), path, out, SceneSettings("csv", batch_size=1), lambda done, _: seen.append(done))
    assert seen[0] > whole.windows // 3
    assert out.read_bytes() == whole.files[0].read_bytes()


def test_a_scene_that_changes(tmp_path: Path) -> None:
    """Scene written to during the run: refused by name."""
    path = scene(tmp_path / "a.tif")

    def touch(done: int, total: int) -> None:
        os.utime(path, ns=(0, done))

    with pytest.raises(DataError, match=r"scene changed: .*--restart"):
        detect_scene(square_model(), path, tmp_path / "out.csv", SceneSettings("csv", batch_size=1), touch)


def test_hostile_rasters(tmp_path: Path) -> None:
    """Hostile rasters (cut or forged headers, sizes of 2^31, no band, offsets beyond the end, bombs): refused with exit
    3, nothing written."""
    whole = scene(tmp_path / "whole.tif").read_bytes()
    files: dict[str, bytes] = {f"cut{n}": whole[:n] for n in (0, 1, 4, 8, 26)}
    files |= {"text": b"not an image", "png": b"\x89PNG\r\n\x1a\n"}
    files["offset"] = whole[:4] + b"\xff\xff\xff\x7f" + whole[8:]
    tags = [(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), (258, 3, 1, 8), (262, 3, 1, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    files["huge"] = b"II*\0\x08\0\0\0" + directory + b"\0" * 16
    for name, data in files.items():
        path = tmp_path / f"{name}.tif"
        path.write_bytes(data)
        with pytest.raises(DataError, match=name):
            detect_scene(square_model(), path, tmp_path / "out" / "x.gpkg")
    assert not list((tmp_path / "out").rglob("*.gpkg")) if (tmp_path / "out").exists() else True


def test_a_plain_picture_needs_no_place(tmp_path: Path) -> None:
    """A PNG and a palette TIFF are read as for training."""
    image = painted(60, 80, [(9, 9, 40, 20, RED)])
    assert cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    file = SceneFile(tmp_path / "a.png")
    assert file.frame == Frame("a", (60, 80))
    np.testing.assert_array_equal(file.read(5, 6, 30, 20).pixels, image[6:26, 5:35])
    form = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8", "photometric": "palette"}
    with rasterio.open(tmp_path / "p.tif", "w", **form, **PLACE) as out:
        out.write((image[..., 0] > 200).astype(np.uint8), 1)
        out.write_colormap(1, {0: (60, 60, 60, 255), 1: (255, 0, 0, 255)})
    np.testing.assert_array_equal(SceneFile(tmp_path / "p.tif").read(0, 0, 80, 60).pixels, image)
