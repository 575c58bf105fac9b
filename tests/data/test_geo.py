"""Labels in world coordinates: reference systems, transforms, one file or many, GeoPackage, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.miniatures import image, text
from tests.data.public_sets import geo, geo_image

from fledge.data.datasets import find_splits, open_dataset
from fledge.data.georeference import named_crs
from fledge.errors import DataError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "geo"
QUAD = [(20.0, 10.0), (50.0, 16.0), (48.0, 26.0), (18.0, 20.0)]
PENTAGON = [(20.0, 10.0), (40.0, 10.0), (45.0, 15.0), (40.0, 20.0), (20.0, 20.0)]
# Turned by 30 degrees, pixels of half a metre, in UTM.
TURNED = Affine.translation(500_000, 4_600_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)


def world(points: list[tuple[float, float]], t: Affine, crs: str, target: str = "EPSG:4326") -> list[list[float]]:
    """Pixels to coordinates of another reference system, corner by corner."""
    found = []
    for x, y in points:
        [east], [north] = rasterio.warp.transform(crs, target, [t.a * x + t.b * y + t.c], [t.d * x + t.e * y + t.f])
        found.append([east, north])
    return found


def feature(corners: list[list[float]], kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    rings: Any = [[*corners, corners[0]]]
    geometry = {"type": kind, "coordinates": [rings] if kind == "MultiPolygon" else rings}
    return {"type": "Feature", "geometry": geometry, "properties": {"class": "barn", **properties}}


def collection(*features: Any, **more: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features), **more})


def make(root: Path, content: str, name: str = "labels/0.geojson", crs: str = "EPSG:32633", t: Affine = TURNED) -> Path:
    geo_image(root / "train" / "images" / "0.tif", crs=crs, transform=t)
    text(root / "train" / name, content)
    return root


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:32632"])
def test_from_any_reference_system_through_a_turned_transform(tmp_path: Path, target: str) -> None:
    """Four corners arrive as they were in the image; the reference system of old files is honoured."""
    corners = world(QUAD, TURNED, "EPSG:32633", target)
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{target.replace(':', '::')}"}}
    more = {} if target == "EPSG:4326" else {"crs": crs}
    dataset = open_dataset(make(tmp_path, collection(feature(corners), **more)), "train")
    assert np.abs(dataset.quads[0] - np.array(QUAD)).max() < 1e-2
    assert (dataset.classes, dataset.format) == (("barn",), "geo")


def test_other_polygons_get_the_rectangle_around_them(tmp_path: Path) -> None:
    corners = world(PENTAGON, TURNED, "EPSG:32633")
    dataset = open_dataset(make(tmp_path, collection(feature(corners), feature(corners, "MultiPolygon"))), "train")
    assert dataset.boxes.tolist() == [pytest.approx([32.5, 15, 25, 10, 0], abs=2e-2)] * 2
    assert dataset.notes == ("2 polygons of other than four corners, replaced by the smallest rectangle around them",)


def two_images(root: Path, *features: dict[str, Any]) -> Path:
    """Two images side by side, 48 m apart, and one file of labels."""
    geo_image(root / "train" / "images" / "east.tif", crs="EPSG:32633", transform=Affine.translation(48, 0) @ TURNED)
    geo_image(root / "train" / "images" / "west.tif", crs="EPSG:32633", transform=TURNED)
    text(root / "train" / "labels.geojson", collection(*features))
    return root


def test_one_file_for_all_images(tmp_path: Path) -> None:
    """A polygon belongs to the images that hold its middle, or to the one it names; what is in none is counted."""
    inside, far = world(QUAD, TURNED, "EPSG:32633"), world([(x + 900, y) for x, y in QUAD], TURNED, "EPSG:32633")
    shared = [(85.0 + x / 10, 5.0 + y / 10) for x, y in QUAD]
    root = two_images(tmp_path, feature(inside), feature(far), feature(world(shared, TURNED, "EPSG:32633")))
    dataset = open_dataset(root, "train")
    assert (dataset.ids, dataset.offsets.tolist()) == (("east", "west"), [0, 0, 2])
    assert dataset.notes == ("1 polygons in no image, left out",)
    assert find_splits(root) == {"train": "train"}
    named = two_images(tmp_path / "b", feature(inside, image="west.tif"), feature(inside, image="north"))
    with pytest.raises(DataError, match=r"labels\.geojson: feature 1: image 'north' is not in the split"):
        open_dataset(named, "train")
    assert open_dataset(named, "train", skip_bad_labels=True).offsets.tolist() == [0, 0, 1]


def test_pixels_as_detections_without_a_reference_are_written(tmp_path: Path) -> None:
    image(tmp_path / "train" / "images" / "0.png")
    content = collection(feature([list(p) for p in QUAD], difficult=True, score=0.5), coordinates="pixels")
    text(tmp_path / "train" / "labels" / "0.geojson", content)
    dataset = open_dataset(tmp_path, "train")
    assert (dataset.quads[0].tolist(), dataset.difficult.tolist()) == ([list(p) for p in QUAD], [True])


def package(path: Path, crs: str, *polygons: shapely.Geometry, layer: str = "fields", append: bool = False) -> None:
    columns = [np.array(["barn"] * len(polygons), dtype=object)]
    pyogrio.raw.write(
        path,
        np.array([shapely.to_wkb(p) for p in polygons], dtype=object),
        columns,
        ["class"],
        geometry_type="Unknown",
        crs=crs,
        driver="GPKG",
        layer=layer,
        append=append,
    )


def test_a_geopackage(tmp_path: Path) -> None:
    make(tmp_path, collection(), name="unused.txt")
    path = tmp_path / "train" / "labels.gpkg"
    corners = world(QUAD, TURNED, "EPSG:32633", "EPSG:3857")
    hole = [corners[0], corners[1], corners[2]]
    package(path, "EPSG:3857", shapely.Polygon(corners), shapely.Polygon(corners, [hole]), shapely.Point(1, 1))
    with pytest.raises(DataError, match=r"labels\.gpkg: feature 2: geometry is Point: label polygons"):
        open_dataset(tmp_path, "train")
    dataset = open_dataset(tmp_path, "train", skip_bad_labels=True)
    assert np.abs(dataset.quads - np.array(QUAD)).max() < 1e-2
    assert len(dataset.quads) == 2


def test_layers_of_a_geopackage(tmp_path: Path) -> None:
    make(tmp_path, collection(), name="unused.txt")
    path = tmp_path / "train" / "labels.gpkg"
    corners = world(QUAD, TURNED, "EPSG:32633")
    package(path, "EPSG:4326", shapely.Polygon(corners), layer="a")
    package(path, "EPSG:4326", shapely.Polygon(corners), shapely.Polygon(corners), layer="b", append=True)
    with pytest.raises(DataError, match=r"2 layers: .*labels\.gpkg: a, b: call the one to use labels"):
        open_dataset(tmp_path, "train")
    package(path, "EPSG:4326", shapely.Polygon(corners), layer="labels", append=True)
    assert len(open_dataset(tmp_path, "train").quads) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", r"not json: .*0\.geojson:1"),
        ("[]", r"not GeoJSON: .*0\.geojson: it is no FeatureCollection"),
        (collection(crs={"properties": {"name": "/etc/passwd"}}), r"unknown crs: .*0\.geojson"),
        (collection(crs={"properties": {"name": "https://example.org/crs"}}), r"unknown crs: .*0\.geojson"),
        (collection(crs="EPSG:4326"), "unknown crs"),
        (collection(crs={"properties": {"name": "EPSG:999999"}}), "unknown crs"),
        (collection(7), r"0\.geojson: feature 0: geometry is None: label polygons"),
        (collection({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}), "geometry is Point"),
        (collection(feature([[1.0, 2.0], [3.0, 4.0]])), "the polygon has 2 corners"),
        (collection(feature([[1.0], [3.0, 4.0], [5.0, 6.0]])), "a corner is no pair of numbers"),
        (collection(feature([[math.nan, 2.0], [3.0, 4.0], [5.0, 6.0]])), "a corner is no pair of numbers"),
        (collection(feature([[1e300, 2.0], [3.0, 4.0], [5.0, 6.0]])), "a corner is no pair of numbers"),
        (collection(feature([[15.0, 200.0], [15.0, 41.0], [15.1, 41.0]])), "feature 0: it lies nowhere near the image"),
        (collection(feature([[15.0, 41.0], [15.0, 41.0], [15.0, 41.0]])), "feature 0: .*no area|outside|nowhere"),
        (collection(feature(world(QUAD, TURNED, "EPSG:32633"), **{"class": ""})), "feature 0: no class: add"),
        (collection(feature(world(QUAD, TURNED, "EPSG:32633"), difficult=3)), "feature 0: difficult is '3'"),
    ],
)
def test_bad_labels(tmp_path: Path, content: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        open_dataset(make(tmp_path, content), "train")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_images_without_a_place(tmp_path: Path) -> None:
    content = collection(feature(world(QUAD, TURNED, "EPSG:32633")))
    image(make(tmp_path / "png", content) / "train" / "images" / "0.png")
    (tmp_path / "png" / "train" / "images" / "0.tif").unlink()
    with pytest.raises(DataError, match=r"no georeference: .*0\.png: a PNG file: labels in the world need GeoTIFF"):
        open_dataset(tmp_path / "png", "train")
    image(make(tmp_path / "plain", content) / "train" / "images" / "0.tif")
    with pytest.raises(DataError, match=r"no georeference: .*0\.tif: it has no reference system and transform: warp"):
        open_dataset(tmp_path / "plain", "train")
    make(tmp_path / "points", content)
    points = [rasterio.control.GroundControlPoint(row=r, col=c, x=c, y=r) for r in (0, 9) for c in (0, 9)]
    path, layout = tmp_path / "points" / "train" / "images" / "0.tif", {"driver": "GTiff", "dtype": "uint8"}
    with rasterio.open(path, "w", width=9, height=9, count=1, gcps=points, crs="EPSG:32633", **layout) as file:
        file.write(np.zeros((1, 9, 9), np.uint8))
    with pytest.raises(DataError, match=r"0\.tif: it has only ground control points: warp it with gdalwarp"):
        open_dataset(tmp_path / "points", "train")


def test_missing_and_orphaned_label_files(tmp_path: Path) -> None:
    geo(tmp_path)
    labels = tmp_path / "train" / "labels"
    (labels / "a1.geojson").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images have no label file: .*labels: a1\.tif"):
        open_dataset(tmp_path, "train")
    text(labels / "z9.geojson", collection())
    with pytest.raises(DataError, match=r"1 label files have no image: .*labels: z9"):
        open_dataset(tmp_path, "train")


def test_damaged_geopackages(tmp_path: Path) -> None:
    """Bytes overwritten anywhere: read, or refused by name; a file that is none is not opened at all."""
    make(tmp_path, collection(), name="unused.txt")
    path = tmp_path / "train" / "labels.gpkg"
    package(path, "EPSG:4326", shapely.Polygon(world(QUAD, TURNED, "EPSG:32633")))
    whole = path.read_bytes()
    refused = 0

    @settings(max_examples=30, derandomize=True, deadline=None)
    @given(st.integers(0, len(whole)), st.binary(min_size=1, max_size=400), st.booleans())
    def check(start: int, noise: bytes, cut: bool) -> None:
        nonlocal refused
        path.write_bytes(whole[:start] if cut else whole[:start] + noise + whole[start + len(noise) :])
        message = str(path)
        try:
            open_dataset(tmp_path, "train")
        except DataError as error:
            refused += 1
            message = str(error)
        assert str(path) in message

    check()
    assert refused >= 5
    path.write_bytes(b"GIF89a" * 20)
    with pytest.raises(DataError, match=r"not a GeoPackage: .*labels\.gpkg: its first bytes are others"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize("name", ["EPSG:32633", "urn:ogc:def:crs:EPSG::32633", "urn:ogc:def:crs:EPSG:9.8.1:32633"])
def test_names_of_reference_systems(name: str) -> None:
    found = named_crs(name)
    assert found is not None
    assert found.to_epsg() == 32633


@pytest.mark.parametrize("name", ["", None, "WGS84", "+proj=longlat", "EPSG:32633 ", "/vsicurl/http://x", "x.prj"])
def test_other_names_are_not_looked_up(name: object) -> None:
    assert named_crs(name) is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample data are not beside the checkout")
def test_real_buildings_over_a_real_mosaic(tmp_path: Path) -> None:
    """206 polygons in longitude and latitude over a drone mosaic in Web Mercator: the boxes of the sample, which were
    made from the same polygons by other means, are found again."""
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "train" / "images" / "mosaic.tif").symlink_to(SHARED / "mosaic_z21_A.tif")
    content = json.loads((SHARED / "labels.geojson").read_text())
    for entry in content["features"]:
        entry["properties"] = {"class": "building"}
    text(tmp_path / "train" / "labels.geojson", json.dumps(content))
    dataset = open_dataset(tmp_path, "train")
    lines = (SHARED / "mosaic_z21_A.dota.txt").read_text().splitlines()
    expected = np.array([[float(v) for v in line.split()[:8]] for line in lines]).reshape(-1, 4, 2)
    found = [shapely.Polygon(corners) for corners in open_corners(dataset.boxes)]
    best = [
        max(shapely.Polygon(quad).intersection(f).area / shapely.Polygon(quad).union(f).area for f in found)
        for quad in expected
    ]
    # One building has two rectangles whose areas differ by less than a ten thousandth.
    assert (sorted(best)[0] > 0.9, sorted(best)[1] > 0.99) == (True, True)
    assert (len(expected), len(found)) == (101, 103)


def open_corners(boxes: np.ndarray[Any, np.dtype[np.float32]]) -> list[list[tuple[float, float]]]:
    """The corners of boxes cx, cy, w, h, angle, one by one."""
    result = []
    for cx, cy, w, h, angle in boxes.tolist():
        cos, sin = math.cos(angle), math.sin(angle)
        half = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
        result.append([(cx + u * cos - v * sin, cy + u * sin + v * cos) for u, v in half])
    return result
