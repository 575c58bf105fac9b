"""Results read again, and the map that shows them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from fledge.errors import DataError, FledgeError, ResourceError, UsageError
from fledge.inference.found import Found
from fledge.inference.map_files import write_geojson, write_geopackage
from fledge.inference.results import read_results
from fledge.inference.scene_map import write_map
from fledge.types import Frame
from fledge.visualize.map_page import ground, map_page

UTM, MERCATOR = "EPSG:32636", "EPSG:3857"
Transform = tuple[float, float, float, float, float, float]


def placed(crs: str | None = UTM, turn: float = 20, flip: bool = False) -> Frame:
    """A frame of 400 x 300 pixels, half a unit each, turned by some degrees; with ``flip`` rows go north."""
    c, s = np.cos(np.radians(turn)) / 2, np.sin(np.radians(turn)) / 2
    transform: Transform = (c, s, 450_000, s, -c, 36_000) if not flip else (c, -s, 450_000, s, c, 36_000)
    return Frame("scene", (300, 400), transform if crs else None, crs)


def some(frame: Frame, count: int = 30, classes: Sequence[str] = ("ship", "car", "never")) -> Found:
    """Random boxes, best first."""
    rng = np.random.default_rng(count)
    long = rng.uniform(8, 40, count)
    columns = [rng.uniform(0, 400, count), rng.uniform(0, 300, count), long, long * rng.uniform(0.2, 0.9, count),
               rng.uniform(-1.57, 1.57, count)]  # fmt: skip
    scores = np.sort(rng.uniform(0.1, 1, count))[::-1].astype(np.float32)
    labels = rng.integers(0, 2, count).astype(np.int32)
    return Found(np.stack(columns, axis=1), scores, labels, np.zeros((count, 2), np.int32), tuple(classes), frame)


def embedded(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="scene">(.*?)</script>', page)
    return json.loads(text)


def scene_file(path: Path, frame: Frame, dtype: str = "uint8", bands: int = 3) -> Path:
    place = {"transform": Affine(*frame.transform), "crs": frame.crs} if frame.transform else {}
    pixels: NDArray[Any] = np.random.default_rng(0).integers(0, 200, (bands, 300, 400)).astype(dtype)
    profile = {"driver": "GTiff", "width": 400, "height": 300, "count": bands, "dtype": dtype, **place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels)
    return path


@pytest.mark.parametrize("form", ["gpkg", "geojson"])
@pytest.mark.parametrize("frame", [placed(), placed(MERCATOR, -100), placed(flip=True)], ids=["utm", "mercator", "up"])
def test_boxes_come_back_to_their_pixels(form: str, frame: Frame, tmp_path: Path) -> None:
    """Written on the ground, read and brought back: within a hundredth of a pixel, whatever the transform."""
    found = some(frame)
    (write_geopackage if form == "gpkg" else write_geojson)(found, tmp_path / f"r.{form}")
    count = write_map(tmp_path / f"r.{form}", tmp_path / "map.html", scene_file(tmp_path / "scene.tif", frame))
    assert count == 30
    data = embedded((tmp_path / "map.html").read_text())
    assert (data["width"], data["height"]) == (400, 300)
    assert [row["name"] for row in data["classes"]] == ["car", "ship"]  # those that occur
    assert [data["classes"][i]["name"] for i in data["labels"]] == [found.classes[i] for i in found.labels]
    np.testing.assert_allclose(data["scores"], found.scores, atol=6e-4)
    boxes = np.array(data["boxes"]).reshape(-1, 5)
    tolerance = 0.012 if form == "gpkg" else 0.05  # GeoJSON has 7 decimals of a degree
    np.testing.assert_allclose(boxes[:, :4], found.boxes[:, :4], atol=tolerance)
    np.testing.assert_allclose(np.abs(np.sin(boxes[:, 4] - found.boxes[:, 4])), 0, atol=0.01)


@pytest.mark.parametrize("west", [179.8, -180.2])
def test_over_the_180th_meridian(west: float, tmp_path: Path) -> None:
    frame = Frame("scene", (300, 400), (0.001, 0, west, 0, -0.001, 10), "EPSG:4326")
    found = some(frame, 60)
    write_geojson(found, tmp_path / "r.geojson")
    assert "MultiPolygon" in (tmp_path / "r.geojson").read_text()
    write_map(tmp_path / "r.geojson", tmp_path / "map.html", scene_file(tmp_path / "scene.tif", frame))
    boxes = np.array(embedded((tmp_path / "map.html").read_text())["boxes"]).reshape(-1, 5)
    np.testing.assert_allclose(boxes[:, :4], found.boxes[:, :4], atol=0.02)


def test_pixels_of_a_scene_without_a_place(tmp_path: Path) -> None:
    frame = placed(None)
    found = some(frame)
    write_geopackage(found, tmp_path / "r.gpkg")
    for image in (scene_file(tmp_path / "scene.tif", frame), None):
        write_map(tmp_path / "r.gpkg", tmp_path / "map.html", image)
        data = embedded((tmp_path / "map.html").read_text())
        np.testing.assert_allclose(np.array(data["boxes"]).reshape(-1, 5)[:, :4], found.boxes[:, :4], atol=0.011)
        assert data["bearings"] is None
        assert "transform" not in data
        np.testing.assert_allclose(np.array(data["sizes"]).reshape(-1, 2), found.boxes[:, 2:4], atol=0.011)


def test_plain_ground_keeps_shapes(tmp_path: Path) -> None:
    """Without its scene, lengths and bearings are still those on the ground."""
    found = some(placed())
    for write, name in ((write_geopackage, "r.gpkg"), (write_geojson, "r.geojson")):
        write(found, tmp_path / name)
        write_map(tmp_path / name, tmp_path / "map.html")
        data = embedded((tmp_path / "map.html").read_text())
        sizes = np.array(data["sizes"]).reshape(-1, 2)
        np.testing.assert_allclose(sizes, found.boxes[:, 2:4] / 2, rtol=2e-2)  # half a metre a pixel
        assert data["north"] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("turn", "flip"), [(0, False), (90, False), (-30, False), (180, False), (30, True)])
def test_north_and_scale(turn: float, flip: bool) -> None:
    """North as a walk of one pixel in its direction finds it, and true metres, also at 60 degrees in Mercator."""
    frame = placed(turn=turn, flip=flip)
    told = ground(frame)
    a, b, _, d, e, _ = frame.transform or (0,) * 6
    step = np.array([np.sin(told["north"]), -np.cos(told["north"])])  # right and down
    east, north = a * step[0] + b * step[1], d * step[0] + e * step[1]
    assert east == pytest.approx(0, abs=0.01)  # grid north is within a degree of true north here
    assert north > 0.49
    high = Frame("x", (100, 100), (1.0, 0, 0, 0, -1.0, 8_399_737.9), MERCATOR)
    assert ground(high)["metres_per_pixel"] == pytest.approx(0.5, rel=5e-3)


def test_no_objects(tmp_path: Path) -> None:
    found = some(placed(), 0)
    for write, name in ((write_geopackage, "r.gpkg"), (write_geojson, "r.geojson")):
        write(found, tmp_path / name)
        for image in (scene_file(tmp_path / "scene.tif", placed()), None):
            assert write_map(tmp_path / name, tmp_path / "map.html", image) == 0
            assert embedded((tmp_path / "map.html").read_text())["boxes"] == []


def test_many_bands_and_bits(tmp_path: Path) -> None:
    found = some(placed())
    write_geopackage(found, tmp_path / "r.gpkg")
    image = scene_file(tmp_path / "scene.tif", placed(), "uint16", 5)
    write_map(tmp_path / "r.gpkg", tmp_path / "map.html", image, bands=(4, 3, 2))
    assert 'id="picture"' in (tmp_path / "map.html").read_text()
    with pytest.raises(DataError, match="too few bands"):
        write_map(tmp_path / "r.gpkg", tmp_path / "map.html", image, bands=(9, 3, 2))


def test_hostile_names_stay_text() -> None:
    name = '</script><script>alert(1)</script>"&<img src=x>'
    detections = replace(some(placed(), 5).detections(), classes=(name, name + "2", "x"))
    page = map_page(detections, None, name, [name])
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert embedded(page)["classes"][0]["name"].startswith(name)
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)


BAD: dict[str, bytes] = {
    "neither": b"hello",
    "empty": b"",
    "database of another kind": b"SQLite format 3\0" + bytes(500),
    "damaged GeoPackage": b"SQLite format 3\0" + bytes(52) + b"GPKG" + bytes(500),
    "nested": b'{"features":' + b"[" * 100_000,
    "no class": b'{"features": [{"geometry": {}, "properties": {"score": 1}}]}',
    "no score": b'{"features": [{"geometry": {}, "properties": {"class": "a"}}]}',
    "no number": b'{"features": [{"geometry": {}, "properties": {"class": "a", "score": "x"}}]}',
    "point": b'{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties":'
             b' {"class": "a", "score": 1}}]}',
    "not finite": b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1],[0,1e999],[0,0]]'
                  b']}, "properties": {"class": "a", "score": 1}}]}',
    "flat": b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1,1],[2,2],[0,0]]]}, "properties":'
            b' {"class": "a", "score": 1}}]}',
    "list": b"[1]",
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_files_that_are_no_results(kind: str, tmp_path: Path) -> None:
    (tmp_path / "r.gpkg").write_bytes(BAD[kind])
    with pytest.raises(DataError) as caught:
        read_results(tmp_path / "r.gpkg")
    assert str(tmp_path / "r.gpkg") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    write_geopackage(some(placed()), tmp_path / "r.gpkg")
    bare = scene_file(tmp_path / "bare.tif", placed(None))
    far = scene_file(tmp_path / "far.tif", Frame("far", (300, 400), (1e-6, 0, -70, 0, -1e-6, 50), "EPSG:4326"))
    with pytest.raises(UsageError, match="no coordinates: bare"):
        write_map(tmp_path / "r.gpkg", tmp_path / "map.html", bare)
    with pytest.raises(DataError, match="not one lies in far"):
        write_map(tmp_path / "r.gpkg", tmp_path / "map.html", far)
    with pytest.raises(DataError, match="cannot open results"):
        write_map(tmp_path / "no.gpkg", tmp_path / "map.html")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError):
        write_map(tmp_path / "r.gpkg", tmp_path / "file" / "map.html")
    assert not (tmp_path / "map.html").exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fledge.cli import main

    write_geopackage(some(placed()), tmp_path / "r.gpkg")
    out = str(tmp_path / "map.html")
    monkeypatch.setattr("sys.argv", ["fledge", "map", str(tmp_path / "r.gpkg"), "--out", out, "--title", "Harbour"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert capsys.readouterr().out == f"30 objects; written: {out}\n"
    assert "<title>Harbour</title>" in Path(out).read_text()
    monkeypatch.setattr("sys.argv", ["fledge", "map", str(tmp_path / "r.gpkg"), "--bands", "red"])
    with pytest.raises((SystemExit, FledgeError)) as refused:
        main()
    assert getattr(refused.value, "code", 2) == 2
