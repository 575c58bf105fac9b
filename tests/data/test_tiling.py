"""Tiles: every pixel, every object, and no sliver taught as an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry import Polygon, box
from tests.data.made import dota_folder, indexed, line, noise, rectangle, sha256, stored

from fledge.data.datasets import open_dataset
from fledge.data.samples import read_stored
from fledge.data.tile_folder import Writing, tile_dataset
from fledge.data.tiling import Cut, tile_split
from fledge.data.windows import window_starts
from fledge.errors import DataError, UsageError

SHIP = rectangle(50, 50, 20, 10, 30)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[int, int], list[Any], Cut]:
    size = draw(st.integers(32, 64))
    cut = Cut(size, draw(st.integers(0, size - 8)), draw(st.sampled_from([0.3, 0.7, 1.0])))
    height, width = draw(st.integers(20, 160)), draw(st.integers(20, 160))
    number = st.floats(0, 1)
    quads = [
        rectangle(a * width, b * height, 2 + 40 * c, 2 + 20 * d, 360 * e)
        for a, b, c, d, e in draw(st.lists(st.tuples(*[number] * 5), max_size=6))
    ]
    return (height, width), quads, cut


@given(scenes())
@settings(max_examples=60)
def test_labels_against_polygons(scene: tuple[tuple[int, int], list[Any], Cut]) -> None:
    size, quads, cut = scene
    tiled = tile_split(indexed([size], [quads]), cut)
    found = tiled.index
    for t, (x, y) in enumerate(tiled.origin.tolist()):
        height, width = found.sizes[t].tolist()
        window = box(x, y, x + width, y + height)
        rows = range(found.offsets[t], found.offsets[t + 1])
        there = {tuple(np.round(found.quads[r] + [x, y], 1).ravel()): bool(found.ignore[r]) for r in rows}
        for quad in quads:
            share = Polygon(quad).intersection(window).area / Polygon(quad).area
            key = tuple(np.round(np.float32(quad), 1).ravel())
            match = [ignored for name, ignored in there.items() if np.allclose(name, key, atol=0.21)]
            if share > 0.01:
                assert match, "an object that reaches into a tile is known to it"
                if abs(share - cut.iof) > 1e-3:
                    assert (share < cut.iof) in match
            if share == 0 and Polygon(quad).envelope.intersection(window).area == 0:
                assert not match


@given(scenes())
@settings(max_examples=60)
def test_an_object_that_fits_the_overlap_is_whole_in_a_tile(scene: tuple[tuple[int, int], list[Any], Cut]) -> None:
    (height, width), quads, cut = scene
    inside = [q for q in quads if box(0, 0, width, height).contains(Polygon(q))]
    small = [q for q in inside if np.ptp(q, axis=0).max() <= cut.overlap]
    tiled = tile_split(indexed([(height, width)], [small]), cut)
    assert tiled.uncovered == 0
    starts = [window_starts(side, cut.size, cut.overlap) for side in (width, height)]
    for quad in small:
        low, high = np.min(quad, axis=0), np.max(quad, axis=0)
        assert all(any(s <= a and b <= s + cut.size for s in row) for row, a, b in zip(starts, low, high, strict=True))


def test_by_hand() -> None:
    quads = [rectangle(50, 30, 20, 10), rectangle(62, 60, 20, 10), rectangle(5, 5, 8, 8)]
    tiled = tile_split(indexed([(64, 112)], [quads]), Cut(64, 16))
    assert tiled.index.ids == ("i0__1.0__0___0", "i0__1.0__48___0")
    assert tiled.index.sizes.tolist() == [[64, 64], [64, 64]]
    # The first ends at 60: whole in the left tile, 12 of its 20 pixels in the right one. The second begins at 52.
    assert tiled.index.ignore.tolist() == [False, True, False, True, False]
    assert tiled.index.labels.tolist() == [0, 1, 0, 0, 1]
    assert tiled.index.quads[3][0].tolist() == [-8, 25], "corners are not clipped"
    assert tiled.index.boxes[4].tolist() == [14, 60, 20, 10, 0]
    assert (tiled.kept, tiled.cut, tiled.uncovered, tiled.empty) == (3, 2, 0, 0)


def test_what_counts_nowhere_is_counted() -> None:
    tiled = tile_split(indexed([(64, 112)], [[rectangle(56, 30, 90, 10)]]), Cut(64, 16))
    assert (tiled.kept, tiled.cut, tiled.uncovered, tiled.empty) == (0, 2, 1, 2)


def test_ignored_objects_stay_ignored_and_empty_tiles_can_be_left_out() -> None:
    dataset = indexed([(64, 112), (40, 40)], [[rectangle(20, 20, 9, 9)], []], ignore=np.array([True]))
    assert tile_split(dataset, Cut(64, 16)).index.ignore.tolist() == [True]
    tiled = tile_split(dataset, Cut(64, 16, keep_empty=False))
    assert (len(tiled.index), tiled.empty, tiled.left_out, len(tiled.index.labels)) == (0, 3, 3, 0)


def test_no_images_and_no_objects() -> None:
    assert len(tile_split(indexed([], []), Cut(64, 16)).index) == 0
    tiled = tile_split(indexed([(100, 64)], [[]]), Cut(64, 16))
    assert (tiled.origin.tolist(), tiled.index.offsets.tolist()) == ([[0, 0], [0, 36]], [0, 0, 0])


@pytest.mark.parametrize("cut", [Cut(16, 0), Cut(64, 64), Cut(64, -1), Cut(64, 0, 0.0), Cut(64, 0, 1.5)])
def test_settings_that_cannot_be(cut: Cut, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give"):
        tile_dataset(tmp_path, tmp_path / "out", cut)


def large(root: Path, **kind: Any) -> Path:
    text = line(SHIP, "ship") + line(rectangle(62, 80, 20, 10), "plane", 1)
    return dota_folder(root, {"train": {"a": (noise(100, 120, **kind), text), "b": (noise(40, 50, 1, **kind), "")}})


@pytest.mark.parametrize(("bands", "dtype"), [(1, np.uint8), (3, np.uint8), (1, np.uint16), (3, np.uint16)])
def test_pixels_as_stored(tmp_path: Path, bands: int, dtype: type) -> None:
    root = large(tmp_path / "data", bands=bands, dtype=dtype)
    tile_dataset(root, tmp_path / "tiles", Cut(64, 16))
    manifest = json.loads((tmp_path / "tiles" / "train" / "tiles.json").read_text())
    for name, image in manifest["images"].items():
        assert image["file"] == f"train/images/{name}.png"
        assert image["sha256"] == sha256(root / image["file"])
        whole = stored(root / image["file"])
        seen = np.zeros(whole.shape[:2], dtype=bool)
        for tile, window in image["tiles"].items():
            path, x, y = tmp_path / "tiles" / "train" / "images" / tile, window["x"], window["y"]
            assert tile == f"{name}__1.0__{x}___{y}.png"
            assert window["sha256"] == sha256(path)
            pixels = stored(path)
            assert pixels.dtype == dtype
            height, width = pixels.shape[:2]
            assert np.array_equal(pixels, whole[y : y + height, x : x + width])
            seen[y : y + height, x : x + width] = True
        assert seen.all()


def test_many_bands_and_missing_samples_become_tiff(tmp_path: Path) -> None:
    root = large(tmp_path / "data")
    samples = np.random.default_rng(0).integers(1, 4000, (5, 100, 120)).astype(np.int16)
    samples[:, :10] = -9
    (root / "train" / "images" / "a.png").unlink()
    layout = {"width": 120, "height": 100, "count": 5, "dtype": "int16", "nodata": -9}
    place = rasterio.Affine(0.5, 0, 0, 0, -0.5, 0)
    with rasterio.open(root / "train" / "images" / "a.tif", "w", driver="GTiff", transform=place, **layout) as file:
        file.write(samples)
    tile_dataset(root, tmp_path / "tiles", Cut(64, 16))
    tile = tmp_path / "tiles" / "train" / "images" / "a__1.0__56___36.tif"
    assert np.array_equal(read_stored(tile).samples, samples[:, 36:100, 56:120].transpose(1, 2, 0))
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(tile.with_name("a__1.0__0___0.tif")) as file:
        assert (file.nodata, file.count, file.dtypes[0]) == (-9, 5, "int16")


@pytest.mark.parametrize("form", ["dota", "coco", "hit_uav"])
def test_cut_objects_are_read_as_ignored(tmp_path: Path, form: str) -> None:
    report = tile_dataset(large(tmp_path / "data"), tmp_path / "tiles", Cut(64, 16), writing=Writing(form))
    read, meant = open_dataset(tmp_path / "tiles", "train"), report.splits["train"].index
    places = [meant.ids.index(stem) for stem in read.ids]
    assert sorted(places) == list(range(len(meant)))
    again = meant.subset(places)
    assert again.ignore.tolist() == read.ignore.tolist()
    assert again.ignore.any()
    assert (~again.ignore).any()
    assert np.allclose(again.boxes[:, :4], read.boxes[:, :4], atol=0.02)
    names = [[d.classes[k] for k in d.labels[~d.ignore]] for d in (again, read)]
    assert names[0] == names[1]
    assert again.difficult[~again.ignore].tolist() == read.difficult[~read.ignore].tolist()


def test_without_the_statement_2_is_difficult(tmp_path: Path) -> None:
    tile_dataset(large(tmp_path / "data"), tmp_path / "tiles", Cut(64, 16))
    manifest = tmp_path / "tiles" / "train" / "tiles.json"
    manifest.rename(tmp_path / "tiles" / "tiles.json")
    assert open_dataset(tmp_path / "tiles", "train").ignore.any(), "beside the splits it counts too"
    (tmp_path / "tiles" / "tiles.json").write_text('{"size": 64}')
    read = open_dataset(tmp_path / "tiles", "train")
    assert read.difficult.sum() > 1
    assert not read.ignore.any()
    (tmp_path / "tiles" / "tiles.json").write_text("{")
    with pytest.raises(DataError, match=r"unreadable manifest: .*tiles\.json"):
        open_dataset(tmp_path / "tiles", "train")


class Interruption(Exception):
    pass


def test_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = large(tmp_path / "data"), tmp_path / "tiles"
    decoded: list[str] = []

    def reading(path: Path) -> Any:
        decoded.append(path.name)
        if len(decoded) == 2:
            raise Interruption
        return read_stored(path)

    monkeypatch.setattr("fledge.data.tile_images.read_stored", reading)
    with pytest.raises(Interruption):
        tile_dataset(root, out, Cut(64, 16))
    assert not out.exists()
    with pytest.raises(UsageError, match=r"unfinished work .*tiles\.part"):
        tile_dataset(root, out, Cut(64, 20))
    tile_dataset(root, out, Cut(64, 16))
    assert decoded == ["a.png", "b.png", "b.png"], "what was complete is kept"
    assert not out.with_name("tiles.part").exists()
    assert not [*out.rglob("*.part")]


def test_a_split_that_would_lose_all_tiles(tmp_path: Path) -> None:
    root = dota_folder(tmp_path / "data", {"train": {"a": (noise(64, 64), "")}})
    with pytest.raises(DataError, match=r"no tiles: .*'train'"):
        tile_dataset(root, tmp_path / "tiles", Cut(64, 16, keep_empty=False))
    assert not list(tmp_path.glob("tiles*"))


def test_foreign_folders_and_unknown_names_are_refused(tmp_path: Path) -> None:
    root = large(tmp_path / "data")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="output exists"):
        tile_dataset(root, tmp_path / "mine", Cut(64, 16))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="unknown format 'kitti'"):
        tile_dataset(root, tmp_path / "out", Cut(64, 16), writing=Writing("kitti"))
    with pytest.raises(UsageError, match="no split 'test'"):
        tile_dataset(root, tmp_path / "out", Cut(64, 16), ["test"])
    (tmp_path / "empty").mkdir()
    tile_dataset(root, tmp_path / "empty", Cut(64, 16))
    assert (tmp_path / "empty" / "train" / "tiles.json").exists()
