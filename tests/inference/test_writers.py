from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fledge.data.raster import read_size
from fledge.errors import DataError, ResourceError, UsageError
from fledge.inference.writers import WRITERS, draw_pictures, image_files, write_detections
from fledge.types import Detections, Frame

CLASSES = ("plane", "ship")


def found(name: str, n: int) -> Detections:
    boxes = torch.tensor([[30.0 + 5 * i, 20.0, 16.0, 6.0, 0.3 * i] for i in range(n)]).reshape(-1, 5)
    scores = torch.tensor([0.9 - 0.1 * i for i in range(n)])
    return Detections(boxes, scores, torch.arange(n) % 2, CLASSES, Frame(name, (64, 80)))


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((64, 80, 3), np.uint8))
    return path


BOTH = [found("a", 3), found("b", 1), found("empty", 0)]


def test_dota_files_parse_back(tmp_path: Path) -> None:
    written = write_detections(BOTH, tmp_path / "new" / "out", "dota")
    assert [p.name for p in written] == ["Task1_plane.txt", "Task1_ship.txt"]
    lines = [line.split() for line in written[0].read_text().splitlines()]
    assert [line[0] for line in lines] == ["a", "a", "b"]
    expected = torch.cat([BOTH[0].corners[[0, 2]], BOTH[1].corners]).flatten(1)
    np.testing.assert_allclose([[float(v) for v in line[2:]] for line in lines], expected, atol=0.006)
    assert [float(line[1]) for line in lines] == [0.9, 0.7, 0.9]
    assert len(written[1].read_text().splitlines()) == 1


def test_coco_file_parses_back(tmp_path: Path) -> None:
    (path,) = write_detections(BOTH, tmp_path, "coco")
    records = json.loads(path.read_text())
    assert [(r["image_id"], r["category_id"]) for r in records] == [("a", 1), ("a", 2), ("a", 1), ("b", 1)]
    quad = np.array(records[1]["segmentation"][0]).reshape(4, 2)
    x, y, w, h = records[1]["bbox"]
    np.testing.assert_allclose([quad.min(0), quad.max(0)], [[x, y], [x + w, y + h]], atol=0.002)


def test_geojson_files_parse_back_strictly(tmp_path: Path) -> None:
    written = write_detections(BOTH, tmp_path, "geojson")
    assert [p.name for p in written] == ["a.geojson", "b.geojson", "empty.geojson"]

    def refuse(value: str) -> None:
        raise AssertionError(value)

    for path, detections in zip(written, BOTH, strict=True):
        collection = json.loads(path.read_text(), parse_constant=refuse)
        assert collection["type"] == "FeatureCollection"
        assert len(collection["features"]) == len(detections)
        for feature, quad in zip(collection["features"], detections.corners.tolist(), strict=True):
            (ring,) = feature["geometry"]["coordinates"]
            assert len(ring) == 5
            assert ring[0] == ring[-1]
            assert {(round(x, 4), round(y, 4)) for x, y in ring} == {(round(x, 4), round(y, 4)) for x, y in quad}


def test_every_format_of_the_command_has_a_writer() -> None:
    from fledge.cli.detect import Format

    assert {f.value for f in Format} == set(WRITERS)


def test_pictures(tmp_path: Path) -> None:
    files = [image(tmp_path / "in" / f"{n}.png") for n in ("a", "b", "empty")]
    written = draw_pictures(BOTH, files, tmp_path / "out")
    assert [p.name for p in written] == [f"{n}.detections.jpg" for n in ("a", "b", "empty")]
    assert {read_size(p) for p in written} == {(64, 80)}
    shown = cv2.imread(str(written[0]))
    assert shown is not None
    assert shown.max() > 100


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(ResourceError, match="cannot write"):
        write_detections(BOTH, tmp_path / "out", "coco")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_value_that_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    bad = found("a", 1)
    bad.boxes[0, 0] = math.nan
    with pytest.raises(ValueError, match="JSON"):
        write_detections([bad], tmp_path, "geojson")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_expanded_in_order_without_their_subfolders(tmp_path: Path) -> None:
    names = ("b.png", "a.JPG", "c.tif")
    for name in names:
        image(tmp_path / "folder" / name)
    (tmp_path / "folder" / "notes.txt").write_text("")
    image(tmp_path / "folder" / "deeper" / "d.png")
    alone = image(tmp_path / "z.png")
    files = image_files([alone, tmp_path / "folder"])
    assert [p.name for p in files] == ["z.png", "a.JPG", "b.png", "c.tif"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = image(tmp_path / "x" / "a.png"), image(tmp_path / "y" / "a.jpg")
    with pytest.raises(UsageError, match="two images named a"):
        image_files([one, two])


def test_missing_paths_and_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        image_files([tmp_path / "absent.png"])
    with pytest.raises(DataError, match="no images"):
        image_files([tmp_path])
