"""Labels in coordinates of the world, written and read again; tiles that keep their place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.warp
from rasterio import Affine
from shapely.geometry import Polygon
from tests.data.made import dota_folder, line, noise, rectangle

from fledge.data.conversion import convert_dataset
from fledge.data.datasets import open_dataset
from fledge.data.georeference import named_crs
from fledge.data.tile_folder import Writing, tile_dataset
from fledge.data.tiling import Cut
from fledge.errors import DataError, UsageError

SHIP = rectangle(60, 40, 31.25, 10, 130)
KITE = [[10.0, 20.0], [30.0, 12.0], [52.5, 22.0], [31.0, 40.25]]
# Turned by ten degrees, half a metre a pixel, near 8°40' E 50°07' N.
COS, SIN = 0.5 * np.cos(np.deg2rad(10)), 0.5 * np.sin(np.deg2rad(10))
UTM = "EPSG:32632"


def world(x: float, y: float) -> tuple[float, float]:
    """Longitude and latitude of a pixel of image a."""
    east, north = 476_000 + COS * x + SIN * y, 5_552_000 + SIN * x - COS * y
    longitude, latitude = rasterio.warp.transform(UTM, "EPSG:4326", [east], [north])
    return longitude[0], latitude[0]


def georeferenced(root: Path, systems: tuple[str, ...] = (UTM, UTM), bands: int = 3) -> Path:
    text = line(KITE, "plane", 1) + line(SHIP, "storage-tank")
    scenes = {"a": (noise(96, 128), text), "b": (noise(96, 128, 1), ""), "c": (noise(96, 128, 2), text)}
    dota_folder(root, {"train": scenes})
    for k, name in enumerate("abc"):
        png = root / "train" / "images" / f"{name}.png"
        place, system = Affine(COS, SIN, 476_000 + 100 * k, SIN, -COS, 5_552_000), systems[min(k, len(systems) - 1)]
        if system != UTM:
            place = Affine(1e-5, 0, 8.66, 0, -1e-5, 50.1)
        layout = {"width": 128, "height": 96, "count": bands, "dtype": "uint8"}
        with rasterio.open(png.with_suffix(".tif"), "w", driver="GTiff", crs=system, transform=place, **layout) as file:
            file.write(np.moveaxis(noise(96, 128, k, bands), 2, 0))
        png.unlink()
    return root


@pytest.mark.parametrize("form", ["geojson", "geopackage"])
@pytest.mark.parametrize("systems", [(UTM, UTM), (UTM, "EPSG:4326")])
def test_written_and_read_again(tmp_path: Path, form: str, systems: tuple[str, ...]) -> None:
    source = georeferenced(tmp_path / "source", systems)
    report = convert_dataset(source, tmp_path / "out", form)
    assert report.lost == {}
    before, after = open_dataset(source, "train"), open_dataset(tmp_path / "out", "train")
    assert after.format == "geo"
    assert (before.ids, before.classes) == (after.ids, after.classes)
    assert np.array_equal(before.offsets, after.offsets)
    assert np.array_equal(before.difficult, after.difficult)
    assert np.array_equal(before.labels, after.labels)
    assert np.abs(before.quads - after.quads).max() < 1e-3


def test_geojson_is_longitude_and_latitude(tmp_path: Path) -> None:
    convert_dataset(georeferenced(tmp_path / "source"), tmp_path / "out", "geojson")
    content = json.loads((tmp_path / "out" / "train" / "labels.geojson").read_text())
    assert "crs" not in content
    kite = content["features"][0]
    assert kite["properties"] == {"class": "plane", "image": "a", "difficult": True}
    ring = kite["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert ring[0] == pytest.approx(world(10, 20), abs=1e-9)


def test_geopackage_has_the_images_system(tmp_path: Path) -> None:
    convert_dataset(georeferenced(tmp_path / "source"), tmp_path / "out", "geopackage")
    meta, _, shapes, columns = pyogrio.raw.read(tmp_path / "out" / "train" / "labels.gpkg", layer="labels")
    assert (meta["crs"], list(meta["fields"])) == (UTM, ["class", "image", "difficult"])
    assert len(shapes) == 4
    assert list(columns[1]) == ["a", "a", "c", "c"]


def test_a_split_without_objects(tmp_path: Path) -> None:
    source = georeferenced(tmp_path / "source")
    for path in (source / "train" / "labelTxt").iterdir():
        path.write_text("")
    convert_dataset(source, tmp_path / "one", "geopackage")
    convert_dataset(source, tmp_path / "two", "geojson")
    assert len(open_dataset(tmp_path / "two", "train").labels) == 0
    assert len(open_dataset(tmp_path / "one", "train").labels) == 0


def test_images_that_lie_nowhere_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = dota_folder(tmp_path / "source", {"train": {"a": (noise(96, 128), line(SHIP, "ship"))}})
    with pytest.raises(DataError, match=r"no georeference: .*a\.png"):
        convert_dataset(source, tmp_path / "out", "geojson")
    with pytest.raises(DataError, match=r"no georeference: .*a\.png"):
        tile_dataset(source, tmp_path / "out", Cut(64, 16), writing=Writing("geojson", "tiff"))
    with pytest.raises(UsageError, match="choose tiff"):
        tile_dataset(source, tmp_path / "out", Cut(64, 16), writing=Writing("geojson"))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("bands", [3, 5])
def test_tiles_keep_their_place(tmp_path: Path, bands: int) -> None:
    """The corners of an object in the world are the same in every tile and at every rate."""
    source = georeferenced(tmp_path / "source", bands=bands)
    writing = Writing("geojson", "tiff")
    tile_dataset(source, tmp_path / "tiles", Cut(64, 48, rates=(0.5, 1.0)), writing=writing)
    content = json.loads((tmp_path / "tiles" / "train" / "labels.geojson").read_text())
    meant = Polygon([world(*corner) for corner in KITE])
    found = [Polygon(f["geometry"]["coordinates"][0]) for f in content["features"]]
    planes = [
        (shape, f["properties"]["image"])
        for shape, f in zip(found, content["features"], strict=True)
        if f["properties"]["class"] == "plane" and f["properties"]["image"].startswith("a__")
    ]
    assert {name.split("__")[1] for _, name in planes} == {"0.5", "1.0"}
    for shape, _ in planes:
        assert shape.intersection(meant).area / shape.union(meant).area > 0.999
    with rasterio.open(tmp_path / "tiles" / "train" / "images" / "a__0.5__0___0.tif") as file:
        assert (file.crs, file.count) == (UTM, bands)
        assert file.transform.almost_equals(Affine(2 * COS, 2 * SIN, 476_000, 2 * SIN, -2 * COS, 5_552_000))
    assert open_dataset(tmp_path / "tiles", "train").format == "geo"


@pytest.mark.parametrize("code", [4326, 32632, 3857, 999999])
@pytest.mark.parametrize("name", ["EPSG:{}", "epsg:{}", "urn:ogc:def:crs:EPSG::{}", "urn:ogc:def:crs:EPSG:9.9:{}"])
def test_names_of_reference_systems(name: str, code: int) -> None:
    crs = named_crs(name.format(code))
    assert (crs is None) if code == 999999 else (crs is not None and crs.to_epsg() == code)
