from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from numpy.typing import NDArray

from fledge.errors import NumericError, ResourceError, UsageError
from fledge.inference.found import Found
from fledge.inference.writers import FORMS, form_of, targets, write_found
from fledge.types import Frame

CLASSES = ("plane", "ship")
PLAIN = Frame("a", (64, 80))
# half a metre a pixel in UTM zone 36 N, turned by 30 degrees: columns go to 30 degrees south of east
TURN = np.deg2rad(30)
TURNED = Frame(
    "a",
    (64, 80),
    (0.5 * np.cos(TURN), -0.5 * np.sin(TURN), 450_000.0, -0.5 * np.sin(TURN), -0.5 * np.cos(TURN), 33_000.0),
    "EPSG:32636",
)


def found(name: str = "a", n: int = 3, frame: Frame = PLAIN) -> Found:
    boxes = np.array([[30.0 + 5 * i, 20.0, 16.0, 6.0, 0.3 * i] for i in range(n)]).reshape(-1, 5)
    scores = np.array([0.9 - 0.1 * i for i in range(n)], np.float32)
    labels = np.arange(n, dtype=np.int32) % 2
    place = Frame(name, frame.size, frame.transform, frame.crs)
    return Found(boxes, scores, labels, np.tile(np.array([[56, 0]], np.int32), (n, 1)), CLASSES, place)


def by_hand(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners (4, 2) of one box, in no particular order."""
    x, y, w, h, a = box
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    return np.array((turn @ (signs * [w / 2, h / 2]).T).T + np.array([x, y]))


def same_points(a: Any, b: Any, within: float) -> None:
    a, b = (np.array(sorted(map(tuple, np.asarray(v).reshape(-1, 2).round(9).tolist()))) for v in (a, b))
    np.testing.assert_allclose(a, b, atol=within)


BOTH = [found("a", 3), found("b", 1), found("empty", 0)]


def test_dota_files_parse_back(tmp_path: Path) -> None:
    written = write_found(BOTH, tmp_path / "new" / "out", "dota")
    assert [p.name for p in written] == ["Task1_plane.txt", "Task1_ship.txt"]
    lines = [line.split() for line in written[0].read_text().splitlines()]
    assert [line[0] for line in lines] == ["a", "a", "b"]
    for line, box in zip(lines, (*BOTH[0].boxes[[0, 2]], *BOTH[1].boxes), strict=True):
        same_points([float(v) for v in line[2:]], by_hand(box), 0.006)
    assert [float(line[1]) for line in lines] == [0.9, 0.7, 0.9]
    assert len(written[1].read_text().splitlines()) == 1


def test_coco_file_parses_back(tmp_path: Path) -> None:
    (path,) = write_found(BOTH, tmp_path / "x.json", "coco")
    records = json.loads(path.read_text())
    assert [(r["image_id"], r["category_id"]) for r in records] == [("a", 1), ("a", 2), ("a", 1), ("b", 1)]
    same_points(records[1]["segmentation"][0], by_hand(BOTH[0].boxes[1]), 0.001)
    quad = np.array(records[1]["segmentation"][0]).reshape(4, 2)
    x, y, w, h = records[1]["bbox"]
    np.testing.assert_allclose([quad.min(0), quad.max(0)], [[x, y], [x + w, y + h]], atol=0.002)


def test_yolo_files_parse_back(tmp_path: Path) -> None:
    write_found(BOTH, tmp_path, "yolo")
    assert {p.name for p in tmp_path.iterdir()} == {"classes.txt", "a.txt", "b.txt", "empty.txt"}
    assert (tmp_path / "classes.txt").read_text() == "plane\nship\n"
    rows = [[float(v) for v in line.split()] for line in (tmp_path / "a.txt").read_text().splitlines()]
    assert [(row[0], round(row[-1], 6)) for row in rows] == [(0, 0.9), (1, 0.8), (0, 0.7)]
    same_points(np.reshape(rows[2][1:9], (4, 2)) * [80, 64], by_hand(BOTH[0].boxes[2]), 1e-6)
    assert (tmp_path / "empty.txt").read_text() == ""


def test_csv_parses_back_and_runs_nothing(tmp_path: Path) -> None:
    """CSV: a name that begins as a formula does is neutralised, numbers are untouched, quotes and line ends survive."""
    names = ("=cmd|' /C calc'!A0", 'a"b,\nc', "@x", "-y")
    boxes = np.array([[30.0, 20.0, 16.0, 6.0, -0.5]] * 4)
    labels = np.arange(4, dtype=np.int32)
    hostile = Found(boxes, np.ones(4, np.float32), labels, np.zeros((4, 2), np.int32), names, Frame("+scene", (64, 80)))
    (path,) = write_found([hostile], tmp_path / "x.csv", "csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["'=cmd|' /C calc'!A0", 'a"b,\nc', "'@x", "'-y"]
    assert {row["image"] for row in rows} == {"'+scene"}
    assert {float(row["angle"]) for row in rows} == {-0.5}
    assert {(row["crs"], row["lon"], row["length_m"], row["bearing"]) for row in rows} == {("pixels", "", "", "")}
    for row in rows:
        same_points([float(row[k]) for k in ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")], by_hand(boxes[0]), 0.001)


def test_csv_of_several_scenes_has_one_head(tmp_path: Path) -> None:
    (path,) = write_found([*BOTH, found("c", 2, TURNED)], tmp_path, "csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a"] * 3 + ["b"] + ["c"] * 2
    assert [row["crs"] for row in rows] == ["pixels"] * 4 + ["EPSG:32636"] * 2


def test_geopackage_in_the_scenes_own_system(tmp_path: Path) -> None:
    (path,) = write_found([found(frame=TURNED)], tmp_path / "x.gpkg", "gpkg")
    meta, _, shapes, values = pyogrio.raw.read(path)
    table = dict(zip(meta["fields"], values, strict=True))
    assert meta["crs"] == "EPSG:32636"
    assert table["class"].tolist() == ["plane", "ship", "plane"]
    assert set(table["window_x"].tolist()) == {56}
    # the long side of the first box runs along the rows: 30 degrees south of east
    np.testing.assert_allclose(table["length_px"], 16)
    np.testing.assert_allclose(table["length_m"], 8, rtol=1e-3)
    np.testing.assert_allclose(table["width_m"], 3, rtol=1e-3)
    np.testing.assert_allclose(table["bearing"], 120 + np.rad2deg([0, 0.3, 0.6]), atol=0.5)  # grid against true north
    a, b, c, d, e, f = TURNED.transform or (0.0,) * 6
    for shape, box in zip(shapely.from_wkb(shapes), found().boxes, strict=True):
        world = [[a * x + b * y + c, d * x + e * y + f] for x, y in by_hand(box)]
        same_points(shapely.get_coordinates(shape)[:4], world, 1e-6)


def test_geopackage_without_a_system_lies_on_the_picture(tmp_path: Path) -> None:
    """Rows go downwards from 0, where GIS programs put an image without a reference; the system is undefined."""
    (path,) = write_found([found()], tmp_path / "x.gpkg", "gpkg")
    meta, _, shapes, _ = pyogrio.raw.read(path)
    assert "Undefined" in meta["crs"]
    assert "length_m" not in list(meta["fields"])
    same_points(shapely.get_coordinates(shapely.from_wkb(shapes[1]))[:4], by_hand(found().boxes[1]) * [1, -1], 1e-6)
    assert pyogrio.read_info(path)["layer_metadata"]["coordinates"].startswith("pixels")
    with sqlite3.connect(path) as base:
        assert base.execute("select srs_id from gpkg_contents").fetchall() == [(-1,)]


def test_geojson_parses_back_strictly(tmp_path: Path) -> None:
    def refuse(value: str) -> None:
        raise AssertionError(value)

    (path,) = write_found([found(frame=TURNED)], tmp_path / "x.geojson", "geojson")
    collection = json.loads(path.read_text(), parse_constant=refuse)
    assert (collection["type"], len(collection["features"])) == ("FeatureCollection", 3)
    for feature in collection["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw
        assert all(len(str(v).split(".")[1]) <= 7 for point in ring for v in point)
        assert 32 < ring[0][0] < 33
        assert 0 < ring[0][1] < 1
    assert collection["features"][0]["properties"]["class"] == "plane"


def test_geojson_of_pixels_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no longitude and latitude: a"):
        write_found([found()], tmp_path / "out" / "x.geojson", "geojson")
    assert not list((tmp_path).rglob("*.*"))


def test_an_object_on_the_antimeridian_is_cut_in_two(tmp_path: Path) -> None:
    frame = Frame("fiji", (64, 80), (1e-4, 0.0, 179.9965, 0.0, -1e-4, -17.0), "EPSG:4326")
    (path,) = write_found([found(frame=frame, n=1)], tmp_path / "x.geojson", "geojson")
    (feature,) = json.loads(path.read_text())["features"]
    west, east = (shapely.Polygon(rings[0]) for rings in feature["geometry"]["coordinates"])
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert west.bounds[2] == 180
    assert east.bounds[0] == -180
    np.testing.assert_allclose(west.area + east.area, 16e-4 * 6e-4, rtol=1e-3)
    assert shapely.LinearRing(west.exterior.coords).is_ccw
    assert feature["properties"]["length_m"] == pytest.approx(16e-4 * 111_320 * np.cos(np.deg2rad(17.002)), rel=2e-3)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_objects_give_the_same_bytes(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fledge.inference.map_files.CHUNK", 2)
    scenes = [found(frame=TURNED)] if not FORMS[form].joint else [found(frame=TURNED), found("b", 5, TURNED)]
    one, two = (write_found(scenes, tmp_path / name, form) for name in ("one", "two"))
    assert len(one) == len(two) > 0
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert {p.name for p in (tmp_path / "one").iterdir()} == {p.name for p in one}, "nothing else is left"


@pytest.mark.parametrize("form", FORMS)
def test_no_objects_are_a_whole_file(form: str, tmp_path: Path) -> None:
    for path in write_found([found(n=0, frame=TURNED)], tmp_path, form):
        assert path.is_file()
        if form in ("gpkg", "geojson"):
            assert pyogrio.read_info(path)["features"] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["score", "box"])
def test_a_number_that_is_not_finite_is_never_written(form: str, where: str, tmp_path: Path) -> None:
    """NaN score or coordinate: exit 4 and no file, in every format."""
    bad = found(frame=TURNED)
    (bad.scores if where == "score" else bad.boxes[:, 1])[1] = np.nan
    with pytest.raises(NumericError, match="not finite: a"):
        write_found([bad], tmp_path, form)
    assert not [p for p in tmp_path.iterdir() if p.name != "classes.txt"]


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_behind_where_writing_fails(form: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(ResourceError, match="cannot write"):
        write_found([found(frame=TURNED)], tmp_path / "out", form)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_name_decides_the_format() -> None:
    names = {"a.gpkg": "gpkg", "a.GeoJSON": "geojson", "a.csv": "csv", "a.json": "coco", "folder": "gpkg"}
    assert {name: form_of(Path(name), None) for name in names} == names
    assert form_of(Path("folder"), "dota") == "dota"
    with pytest.raises(UsageError, match="which format"):
        form_of(Path("a.csv"), "gpkg")


def test_where_results_go(tmp_path: Path) -> None:
    def names(out: str, form: str, scenes: list[str]) -> list[str]:
        return [str(p) for p in targets(Path(out), form, scenes, CLASSES)]

    assert names("o", "gpkg", ["a", "b"]) == ["o/a.gpkg", "o/b.gpkg"]
    assert names("o", "csv", ["a", "b"]) == ["o/detections.csv"]
    assert names("o.csv", "csv", ["a", "b"]) == ["o.csv"]
    assert names("o", "dota", ["a", "b"]) == ["o/Task1_plane.txt", "o/Task1_ship.txt"]
    assert names("o", "yolo", ["a", "b"]) == ["o/classes.txt", "o/a.txt", "o/b.txt"]
    with pytest.raises(UsageError, match="one file for 2 scenes"):
        names("o.gpkg", "gpkg", ["a", "b"])


def test_every_format_of_the_command_has_a_writer() -> None:
    from fledge.cli.detect import Format

    assert {f.value for f in Format} == set(FORMS)
