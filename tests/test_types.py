from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch

from fledge.errors import NumericError, UsageError
from fledge.types import Batch, Detections, Frame, Targets, flatten_levels

NASTY = ('a"b', "</script>\n", "naïve \u2028 ship", "back\\slash")


def found(frame: Frame | None = None, classes: tuple[str, ...] = ("plane", "ship")) -> Detections:
    boxes = torch.tensor([[10.0, 20.0, 8.0, 4.0, 0.0], [50.0, 40.0, 20.0, 10.0, -math.pi / 2]])
    return Detections(
        boxes, torch.tensor([0.75, 0.5]), torch.tensor([1, 0]), classes, frame or Frame("scene", (100, 200))
    )


def targets() -> Targets:
    return Targets(
        boxes=torch.arange(15.0).reshape(3, 5),
        labels=torch.tensor([2, 0, 1]),
        ignore=torch.tensor([True, False, False]),
        difficult=torch.tensor([False, True, False]),
        quads=torch.arange(24.0).reshape(3, 4, 2),
        image_id="x",
    )


def test_corners_names_and_length() -> None:
    d = found()
    assert (len(d), d.names) == (2, ["ship", "plane"])
    assert d.corners.shape == (2, 4, 2)
    assert d.corners[0].tolist() == [[6, 18], [14, 18], [14, 22], [6, 22]]


def test_dota_lines_by_hand() -> None:
    assert found().to_dota() == {
        "plane": ["scene 0.5000 45.00 50.00 45.00 30.00 55.00 30.00 55.00 50.00"],
        "ship": ["scene 0.7500 6.00 18.00 14.00 18.00 14.00 22.00 6.00 22.00"],
    }


def test_every_class_has_a_dota_entry() -> None:
    assert found().above(0.9).to_dota() == {"plane": [], "ship": []}


def test_coco_records_by_hand() -> None:
    ship, plane = found().to_coco()
    assert ship == {
        "image_id": "scene",
        "category_id": 2,
        "score": 0.75,
        "bbox": [6.0, 18.0, 8.0, 4.0],
        "segmentation": [[6.0, 18.0, 14.0, 18.0, 14.0, 22.0, 6.0, 22.0]],
    }
    assert (plane["category_id"], plane["bbox"]) == (1, [45.0, 30.0, 10.0, 20.0])
    assert [r["image_id"] for r in found().to_coco(7)] == [7, 7]
    assert [r["image_id"] for r in found().to_coco(0)] == [0, 0]


def test_geojson_of_pixels_is_refused() -> None:
    for frame in (Frame("scene"), Frame("scene", None, (2.0, 0.0, 0.0, 0.0, 2.0, 0.0), None)):
        with pytest.raises(UsageError, match=r"no longitude and latitude: scene: .* write pixels instead"):
            found(frame).to_geojson()


def signed_area(ring: list[list[float]]) -> float:
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in pairwise(ring)) / 2


def test_georeferenced_geojson() -> None:
    # north up: 1e-5 degrees a pixel, y downwards
    frame = Frame("scene", (100, 200), (1e-5, 0.0, 8.5, 0.0, -1e-5, 47.0), "EPSG:4326")
    collection = found(frame).to_geojson()
    assert list(collection) == ["type", "features"]
    (ring,) = collection["features"][0]["geometry"]["coordinates"]
    assert sorted(map(tuple, ring[:-1])) == [
        (8.50006, 46.99978),
        (8.50006, 46.99982),
        (8.50014, 46.99978),
        (8.50014, 46.99982),
    ]
    assert ring[0] == ring[-1]
    assert signed_area(ring) > 0  # counter-clockwise, as RFC 7946 asks


def test_a_turned_transform_uses_all_six_numbers() -> None:
    frame = Frame("scene", None, (0.0, 2.0, 1.0, 3.0, 0.0, -5.0), "EPSG:4326")
    (ring,) = found(frame).to_geojson()["features"][0]["geometry"]["coordinates"]
    assert {tuple(p) for p in ring} == {(2 * y + 1.0, 3 * x - 5.0) for x in (6, 14) for y in (18, 22)}


def test_a_projected_system_becomes_longitude_and_latitude() -> None:
    half = 20037508.342789244  # half of the way around the equator in EPSG:3857
    frame = Frame("scene", None, (1.0, 0.0, half / 180, 0.0, -1.0, 0.0), "EPSG:3857")
    (ring,) = found(frame).to_geojson()["features"][0]["geometry"]["coordinates"]
    assert sorted({x for x, _ in ring}) == [round(1 + 180 * x / half, 7) for x in (6, 14)]


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_survive_json(name: str) -> None:
    d = found(Frame(name, None, (1e-5, 0.0, 8.5, 0.0, -1e-5, 47.0), "EPSG:4326"), (name, "ship"))
    text = json.dumps(d.to_geojson(), allow_nan=False)
    back = json.loads(text)["features"][1]["properties"]
    assert (back["class"], back["image"]) == (name, name)
    assert json.loads(json.dumps(d.to_coco()))[0]["image_id"] == name


def test_nothing_found() -> None:
    none = found().select(torch.zeros(2, dtype=torch.bool))
    assert (len(none), none.names, none.to_coco()) == (0, [], [])
    assert none.corners.shape == (0, 4, 2)
    frame = Frame("scene", None, (1e-5, 0.0, 8.5, 0.0, -1e-5, 47.0), "EPSG:4326")
    assert found(frame).select(torch.zeros(2, dtype=torch.bool)).to_geojson()["features"] == []


def test_nan_is_never_written() -> None:
    d = found()
    d.boxes[0, 0] = math.nan
    with pytest.raises(NumericError, match="not finite"):
        d.to_geojson()


def test_above_includes_the_threshold_and_select_keeps_the_frame() -> None:
    d = found()
    assert d.above(0.75).scores.tolist() == [0.75]
    assert len(d.above(0.76)) == 0
    assert d.select(torch.tensor([1])).frame == d.frame
    assert d.to("cpu").scores.tolist() == d.scores.tolist()


@pytest.mark.parametrize("index", [torch.tensor([False, True, True]), torch.tensor([1, 2])])
def test_targets_select_every_field(index: torch.Tensor) -> None:
    t = targets().select(index)
    assert len(t) == 2
    assert t.boxes[0].tolist() == [5, 6, 7, 8, 9]
    assert (t.labels.tolist(), t.ignore.tolist(), t.difficult.tolist()) == ([0, 1], [False, False], [True, False])
    assert t.quads is not None
    assert t.quads[0, 0].tolist() == [8, 9]
    assert t.image_id == "x"


def test_targets_move_every_field() -> None:
    t = targets().to("meta")
    assert t.quads is not None
    assert {x.device.type for x in (t.boxes, t.labels, t.ignore, t.difficult, t.quads)} == {"meta"}
    assert t.image_id == "x"
    assert Targets.empty().to("meta").boxes.device.type == "meta"


def test_empty_targets_have_the_right_types() -> None:
    t = Targets.empty("e")
    assert (len(t), t.image_id, t.boxes.shape) == (0, "e", (0, 5))
    assert (t.labels.dtype, t.ignore.dtype, t.difficult.dtype) == (torch.int64, torch.bool, torch.bool)


def test_a_batch_moves_as_a_whole() -> None:
    batch = Batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([[8, 8]]), (targets(),)).to("meta")
    assert {batch.images.device.type, batch.sizes.device.type, batch.targets[0].boxes.device.type} == {"meta"}


def test_levels_are_flattened_by_level_row_column_anchor() -> None:
    levels = []
    for level, (height, width) in enumerate(((2, 3), (1, 2))):
        x = torch.zeros(2, 4, 5, height, width)
        for b in range(2):
            for a in range(4):
                for d in range(5):
                    for i in range(height):
                        for j in range(width):
                            x[b, a, d, i, j] = 10000 * b + 1000 * level + 100 * (i * width + j) + 10 * a + d
        levels.append(x)
    flat = flatten_levels(levels)
    assert flat.shape == (2, (6 + 2) * 4, 5)
    expected = [
        1000 * level + 100 * cell + 10 * a
        for level, cells in ((0, 6), (1, 2))
        for cell in range(cells)
        for a in range(4)
    ]
    assert flat[0, :, 0].tolist() == expected
    assert flat[1, :, 3].tolist() == [v + 10003 for v in expected]
