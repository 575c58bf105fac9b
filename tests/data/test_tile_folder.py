"""Folders of tiles: scales, several workers, formats of the pixels, hashes, and doing it twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry import Polygon, box
from tests.data.made import dota_folder, indexed, line, noise, rectangle, stored
from tests.data.test_tiling import SHIP, large, scenes

from fledge.data.datasets import open_dataset
from fledge.data.samples import Stored, encode_stored, read_stored, resize_stored
from fledge.data.tile_folder import Writing, tile_dataset
from fledge.data.tiling import Cut, scaled_size, tile_split
from fledge.errors import DataError, UsageError


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_done_again_it_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = large(tmp_path / "data"), tmp_path / "tiles"
    first = tile_dataset(root, out, Cut(64, 16), writing=Writing("yolo_obb"))
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr("fledge.data.tile_images.read_stored", None)
        patch.setattr("fledge.data.tile_images.place", None)
        again = tile_dataset(root, out, Cut(64, 16), writing=Writing("yolo_obb", workers=3))
    assert (first.made, again.made) == (True, False)
    assert again.lost == first.lost
    assert contents(out) == before
    with pytest.raises(UsageError, match="output exists"):
        tile_dataset(root, out, Cut(64, 20), writing=Writing("yolo_obb"))
    (root / "train" / "labelTxt" / "b.txt").write_text(line(rectangle(20, 20, 9, 9), "ship"))
    with pytest.raises(UsageError, match="output exists"):
        tile_dataset(root, out, Cut(64, 16), writing=Writing("yolo_obb"))


def test_pixels_that_changed_are_noticed(tmp_path: Path) -> None:
    root = large(tmp_path / "data")
    tile_dataset(root, tmp_path / "tiles", Cut(64, 16))
    path = root / "train" / "images" / "a.png"
    data, _ = encode_stored(Stored(noise(100, 120, 9)), "png", path)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="output exists"):
        tile_dataset(root, tmp_path / "tiles", Cut(64, 16))


@pytest.mark.parametrize("images", ["auto", "jpeg", "tiff"])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, images: Any) -> None:
    root = dota_folder(
        tmp_path / "data", {"train": {f"p{k}": (noise(90 + k, 110, k), line(SHIP, "ship")) for k in range(7)}}
    )
    found = []
    for workers in (1, 2, 5):
        out = tmp_path / f"out{workers}"
        tile_dataset(root, out, Cut(64, 16, rates=(0.5, 1.0, 1.5)), writing=Writing("dota", images, workers))
        found.append(contents(out))
    assert found[0] == found[1] == found[2]


def test_an_error_among_workers_leaves_work_to_go_on_with(tmp_path: Path) -> None:
    root = dota_folder(tmp_path / "data", {"train": {f"p{k}": (noise(64, 64, k), "") for k in range(6)}})
    path = root / "train" / "images" / "p3.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"p3\.png"):
        tile_dataset(root, tmp_path / "out", Cut(64, 16), writing=Writing(workers=2))
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.part" / "train" / "images" / "p0__1.0__0___0.png").exists()


@st.composite
def scaled_scenes(draw: st.DrawFn) -> tuple[tuple[int, int], list[Any], Cut]:
    size, quads, cut = draw(scenes())
    rates = draw(st.lists(st.sampled_from([0.4, 0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=3, unique=True))
    return size, quads, cut._replace(rates=tuple(rates))


@given(scaled_scenes())
@settings(max_examples=60)
def test_every_pixel_and_every_object_that_fits_at_each_rate(scene: tuple[tuple[int, int], list[Any], Cut]) -> None:
    (height, width), quads, cut = scene
    inside = [q for q in quads if box(0, 0, width, height).contains(Polygon(q))]
    tiled = tile_split(indexed([(height, width)], [inside]), cut)
    found = tiled.index
    for rate in cut.rates:
        high, wide = scaled_size(height, width, rate)
        scale = np.array([wide / width, high / height])
        seen, counted = np.zeros((high, wide), dtype=bool), set()
        for t in np.flatnonzero(tiled.rate == rate).tolist():
            x, y = tiled.origin[t].tolist()
            h, w = found.sizes[t].tolist()
            assert found.ids[t] == f"i0__{rate}__{x}___{y}"
            assert not seen[y : y + h, x : x + w].all(), "every tile adds something"
            assert (y + h <= high, x + w <= wide) == (True, True)
            seen[y : y + h, x : x + w] = True
            for row in range(found.offsets[t], found.offsets[t + 1]):
                back = (found.quads[row] + [x, y]) / scale
                near = {k for k, quad in enumerate(inside) if np.allclose(back, quad, atol=0.05)}
                assert near, "moved and scaled back it is a labelled one"
                counted |= near if not found.ignore[row] else set()
        assert seen.all(), "right and bottom edges are covered"
        fit = {k for k, q in enumerate(inside) if (np.ptp(q, axis=0) * scale <= cut.overlap - 1e-3).all()}
        assert fit <= counted


def test_scaled_boxes_by_hand() -> None:
    quads = [rectangle(50, 30, 20, 10, 30)]
    tiled = tile_split(indexed([(64, 100)], [quads]), Cut(64, 0, rates=(0.5, 2.0)))
    assert tiled.index.ids[:2] == ("i0__0.5__0___0", "i0__2.0__0___0")
    assert np.allclose(tiled.index.boxes[0], [25, 15, 10, 5, np.pi / 6], atol=1e-4)
    tile = tiled.index.ids.index("i0__2.0__64___0")
    boxes = tiled.index.boxes[tiled.index.offsets[tile] : tiled.index.offsets[tile + 1]]
    assert np.allclose(boxes, [[100 - 64, 60, 40, 20, np.pi / 6]], atol=1e-4)


@pytest.mark.parametrize("rates", [(), (1.0, 1.0), (0.0,), (-1.0,), (9.0,), (float("nan"),), (float("inf"),)])
def test_rates_that_cannot_be(rates: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="rate"):
        tile_split(indexed([(64, 64)], [[]]), Cut(64, 0, rates=rates))


def test_workers_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        tile_dataset(tmp_path, tmp_path / "out", Cut(64, 16), writing=Writing(workers=0))


def test_scaled_pixels_lie_where_their_labels_say(tmp_path: Path) -> None:
    """A bright rectangle on black, at every rate."""
    image = np.zeros((90, 130, 3), np.uint8)
    image[40:60, 50:90] = 255
    root = dota_folder(tmp_path / "data", {"train": {"a": (image, line(rectangle(70, 50, 40, 20), "ship"))}})
    tile_dataset(root, tmp_path / "tiles", Cut(96, 32, rates=(0.5, 1.0, 1.5)))
    read = open_dataset(tmp_path / "tiles", "train")
    rates = set()
    for i, name in enumerate(read.ids):
        mask = read.read(i)[..., 0].astype(float) / 255
        x = np.arange(mask.shape[1]) + 0.5
        for row in range(read.offsets[i], read.offsets[i + 1]):
            low, high = read.quads[row].min(axis=0), read.quads[row].max(axis=0)
            if (low < 0).any() or (high > mask.shape[::-1]).any():
                continue
            rates.add(name.split("__")[1])
            assert mask.sum() == pytest.approx(float(np.prod(high - low)), rel=0.03)
            assert (mask.sum(axis=0) * x).sum() / mask.sum() == pytest.approx(float(low[0] + high[0]) / 2, abs=0.3)
    assert rates == {"0.5", "1.0", "1.5"}


@pytest.mark.parametrize(("images", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("tiff", ".tif")])
def test_image_formats(tmp_path: Path, images: Any, suffix: str) -> None:
    root = large(tmp_path / "data")
    tile_dataset(root, tmp_path / "tiles", Cut(64, 16), writing=Writing("dota", images))
    whole = stored(root / "train" / "images" / "a.png").astype(int)
    path = tmp_path / "tiles" / "train" / "images" / f"a__1.0__56___0{suffix}"
    difference = np.abs(read_stored(path).samples - whole[:64, 56:120])
    assert difference.mean() <= (2 if images == "jpeg" else 0)
    if images == "tiff":
        with pytest.warns(NotGeoreferencedWarning), rasterio.open(path) as file:
            assert file.compression.name == "zstd"
    if images == "jpeg":
        # By the tables of the JPEG standard (Annex K), quality 95 divides the first luminance step, 16, by ten.
        data = path.read_bytes()
        assert data[data.index(b"\xff\xdb") + 5] == 2


@pytest.mark.parametrize(
    ("samples", "nodata", "form"),
    [
        (np.zeros((4, 4, 3), np.uint16), None, "jpeg"),
        (np.zeros((4, 4, 4), np.uint8), None, "png"),
        (np.zeros((4, 4, 1), np.float32), None, "png"),
        (np.zeros((4, 4, 1), np.uint8), 7, "jpeg"),
    ],
)
def test_pixels_that_a_format_cannot_hold(samples: Any, nodata: int | None, form: Any) -> None:
    with pytest.raises(DataError, match=rf"{form} cannot hold the pixels: a\.tif: .*choose tiff"):
        encode_stored(Stored(samples, nodata), form, Path("a.tif"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_tiff_loses_nothing(tmp_path: Path, dtype: type, bands: int) -> None:
    samples: Any = np.random.default_rng(0).normal(60, 20, (9, 7, bands)).astype(dtype)
    data, suffix = encode_stored(Stored(samples), "tiff", Path("a"))
    (tmp_path / f"a{suffix}").write_bytes(data)
    read = read_stored(tmp_path / f"a{suffix}").samples
    assert read.dtype == dtype
    assert np.array_equal(read, samples)


def test_scaling_averages_what_is_there() -> None:
    samples: Any = np.array([[10, 20, -9, 40], [30, 40, -9, -9]], np.int32)[..., None]
    assert resize_stored(Stored(samples, -9), 1, 2).samples[..., 0].tolist() == [[25, -9]], "one of four is too few"
    assert resize_stored(Stored(samples), 1, 2).samples[..., 0].tolist() == [[25, 3]], "3.25"
    floats = np.where(samples == -9, np.nan, samples).astype(np.float32)
    narrow = resize_stored(Stored(floats), 2, 2).samples[..., 0]
    assert narrow[0].tolist() == [15, 40]
    assert np.isnan(narrow[1, 1])
    assert resize_stored(Stored(samples), 2, 4).samples is samples
    ramp = np.arange(40, dtype=np.uint16).reshape(1, 40, 1).repeat(7, axis=2)
    both = resize_stored(Stored(ramp), 3, 20)
    assert both.samples.shape == (3, 20, 7)
    assert np.abs(both.samples[1, :, 0] - (np.arange(20) * 2 + 0.5)).max() <= 0.5
