"""COCO json: which box an annotation has, where its files are, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.miniatures import HEIGHT, WIDTH, image

from fledge.data.datasets import detect_format, find_splits, open_dataset
from fledge.errors import DataError

QUAD = [20.0, 10, 40, 20, 35, 30, 15, 20]


def content_of(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.jpg", "b.jpg")) -> dict[str, Any]:
    """Two images and some annotations of the second; ids are texts and numbers, categories neither dense nor sorted."""
    return {
        "info": {"description": "x" * 5000},
        "licenses": [],
        "categories": [{"id": 90, "name": "ship"}, {"id": 7, "name": "plane"}],
        "annotations": [{"id": f"n{k}", "image_id": "b", "category_id": 7} | a for k, a in enumerate(annotations)],
        "images": [
            {"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for key, name in zip((0, "b"), names, strict=True)
        ],
    }


def make(root: Path, content: object, at: str = "annotations/instances_train.json", folder: str = "train") -> Path:
    path = root / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for name in ("a.jpg", "b.jpg"):
        image(root / folder / name)
    return root


def boxes_of(root: Path, *annotations: dict[str, Any]) -> np.ndarray:
    return open_dataset(make(root, content_of(*annotations)), "train").boxes


@pytest.mark.parametrize(
    ("at", "folder", "split"),
    [
        ("annotations/instances_train.json", "train", "train"),
        ("annotations/instances_train2017.json", "train2017", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017", "train2017"),
        ("annotations/train.json", "images", "train"),
        ("train.json", "train/images", "train"),
        ("train.json", "images", "train"),
        ("train.json", ".", "train"),
        ("train/_annotations.coco.json", "train", "train"),
    ],
)
def test_trees(tmp_path: Path, at: str, folder: str, split: str) -> None:
    make(tmp_path, content_of({"segmentation": [QUAD]}), at, folder)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(content_of()))
    assert detect_format(tmp_path) == "coco"
    assert find_splits(tmp_path) == {"train": split}
    dataset = open_dataset(tmp_path, split)
    assert [len(dataset.targets(i)) for i in range(2)] == [0, 1]
    assert dataset.paths[0] == tmp_path / folder / "a.jpg"


def test_a_folder_that_is_itself_a_split(tmp_path: Path) -> None:
    make(tmp_path, content_of({"segmentation": [QUAD]}), "_annotations.coco.json", ".")
    assert find_splits(tmp_path) == {"all": ""}
    assert len(open_dataset(tmp_path, "").labels) == 1


def test_four_corners_are_kept_and_win_over_the_bbox(tmp_path: Path) -> None:
    annotations: list[dict[str, Any]] = [{"segmentation": [QUAD], "bbox": [0, 0, 5, 5]}, {"segmentation": QUAD}]
    closed = {"segmentation": [[*QUAD, *QUAD[:2]]], "bbox": [30, 30, 20, 8, 0.5]}
    dataset = open_dataset(make(tmp_path, content_of(*annotations, closed)), "train")
    assert dataset.quads.reshape(-1, 8).tolist() == [QUAD] * 3
    assert dataset.notes == ()


def test_five_numbers_are_centre_sides_and_radians(tmp_path: Path) -> None:
    """PaddleDetection up to 2.4; written with an empty segmentation. Clockwise on screen: +x turns towards +y."""
    bbox = {"bbox": [40, 30, 20, 8, 0.5], "segmentation": []}
    dataset = open_dataset(make(tmp_path, content_of(bbox, {"bbox": [40, 30, 8, 20, 0.5 - math.pi / 2]})), "train")
    assert np.allclose(dataset.boxes, [[40, 30, 20, 8, 0.5]] * 2, atol=1e-5)
    right = dataset.quads[0, 1:3].mean(axis=0)  # the middle of the side at +w/2
    assert right == pytest.approx([40 + 10 * math.cos(0.5), 30 + 10 * math.sin(0.5)], abs=1e-4)


def test_a_plain_bbox_is_an_upright_box_from_its_corner(tmp_path: Path) -> None:
    mask = {"segmentation": {"counts": "x", "size": [1, 1]}, "bbox": [10, 20, 8, 12]}
    dataset = open_dataset(make(tmp_path, content_of({"bbox": [10, 20, 30, 12]}, mask)), "train")
    assert np.allclose(dataset.boxes, [[25, 26, 30, 12, 0.0], [14, 26, 12, 8, -math.pi / 2]])
    assert dataset.quads[0].tolist() == [[10, 20], [40, 20], [40, 32], [10, 32]]
    assert dataset.notes == ("2 horizontal boxes (bbox of four numbers, no polygon)",)


def test_other_polygons_become_the_smallest_rectangle_around_them(tmp_path: Path) -> None:
    """An octagon within a turned rectangle that it touches on all sides, a triangle, and an object in two parts."""
    angle, centre = 0.4, np.array([48.0, 32])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    local = np.array([[-18, -8], [18, -8], [20, -6], [20, 6], [18, 8], [-18, 8], [-20, 6], [-20, -6]])
    octagon = {"segmentation": [(local @ turn + centre).ravel().tolist()]}
    triangle = {"segmentation": [[10, 10, 40, 10, 10, 30]]}
    parts = {"segmentation": [[10, 10, 14, 10, 14, 14, 10, 14], [40, 10, 44, 10, 44, 14, 40, 14]]}
    dataset = open_dataset(make(tmp_path, content_of(octagon, triangle, parts)), "train")
    assert np.allclose(dataset.boxes[0], [48, 32, 40, 16, angle], atol=1e-3)
    assert dataset.boxes[1, 2] * dataset.boxes[1, 3] == pytest.approx(600, rel=1e-4), "twice the triangle's area"
    assert np.allclose(dataset.boxes[2], [27, 12, 34, 4, 0], atol=1e-3)
    assert dataset.notes[0].startswith("3 polygons of other than four corners")


def test_crowds_are_ignored_and_difficult_is_kept(tmp_path: Path) -> None:
    flags: list[dict[str, Any]] = [{"iscrowd": 1}, {"ignore": 1}, {"iscrowd": 0, "difficult": 1}, {"difficult": False}]
    dataset = open_dataset(make(tmp_path, content_of(*({"bbox": [10, 20, 30, 12]} | f for f in flags))), "train")
    assert dataset.ignore.tolist() == [True, True, False, False]
    assert dataset.difficult.tolist() == [False, False, True, False]


def test_categories_are_in_the_order_of_their_ids_in_every_split(tmp_path: Path) -> None:
    make(tmp_path, content_of({"segmentation": [QUAD], "category_id": 90}))
    other = content_of()
    other["categories"].append({"id": 1, "name": "tree"})
    make(tmp_path, other, "annotations/instances_val.json", "val")
    for split in ("train", "val"):
        assert open_dataset(tmp_path, split).classes == ("plane", "ship", "tree")
    assert open_dataset(tmp_path, "train").labels.tolist() == [1]


def test_the_category_above_all_others_is_no_class(tmp_path: Path) -> None:
    """Exports put the project's name first, as id 0, over the others."""
    content = content_of({"segmentation": [QUAD]})
    content["categories"] = [
        {"id": 0, "name": "harbour-ships", "supercategory": "none"},
        {"id": 7, "name": "plane", "supercategory": "harbour-ships"},
    ]
    assert open_dataset(make(tmp_path, content), "train").classes == ("plane",)


def test_images_in_sub_folders(tmp_path: Path) -> None:
    make(tmp_path, content_of({"segmentation": [QUAD]}, names=("a.jpg", "flight 1/c.jpg")))
    image(tmp_path / "train" / "flight 1" / "c.jpg")
    assert open_dataset(tmp_path, "train").ids == ("a", "c")


@pytest.mark.parametrize(
    "name", ["../b.jpg", "/etc/passwd", "x/../../b.jpg", "x\\b.jpg", "C:/b.jpg", "", ".", None, 3, "b\0.jpg"]
)
def test_a_file_name_cannot_leave_the_folder(tmp_path: Path, name: object) -> None:
    content = content_of()
    content["images"][1]["file_name"] = name
    with pytest.raises(DataError, match=r"instances_train\.json: image id b: file_name is .*: write a path inside"):
        open_dataset(make(tmp_path, content), "train")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"segmentation": [[1, 2, 3, 4]]}, "segmentation has 4 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "segmentation has 7 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7, "8"]]}, "holds something that is not a number"),
        ({"segmentation": [["NaN"] * 8]}, "not a number"),
        ({"segmentation": [[float("nan")] * 8]}, "not finite"),
        ({"segmentation": [[10, 10, 10, 10, 10, 10, 10, 10]]}, "the box has no area"),
        ({"segmentation": [[10, 10, 20, 20, 30, 30]]}, "the box has no area"),
        ({"segmentation": [[100, 10, 120, 10, 120, 20, 100, 20]]}, "outside the image of 96x64 pixels, b.jpg"),
        ({}, "bbox has no numbers instead of 5"),
        ({"bbox": [1, 2, 3]}, "bbox has 3 numbers instead of 5"),
        ({"bbox": [1, 2, 3, 4, 5, 6]}, "bbox has 6 numbers instead of 5"),
        ({"bbox": [1, 2, 0, 4]}, "has no area"),
        ({"bbox": [1, 2, 3, -4]}, "has no area"),
        ({"bbox": [1, 2, 3, None]}, "not a number"),
        ({"bbox": [40, 30, 20, 8, 45]}, "angle 45 is more than a full turn, so not in radians"),
        ({"bbox": [1, 2, 10, 4], "image_id": "c"}, "unknown image_id 'c'"),
        ({"bbox": [1, 2, 10, 4], "category_id": 8}, "unknown category_id 8"),
        ({"bbox": [1, 2, 10, 4], "category_id": [7]}, r"unknown category_id [7]"),
        ({"bbox": [1, 2, 10, 4], "difficult": "no"}, "difficult is 'no'"),
    ],
)
def test_a_bad_annotation_is_named_by_its_id(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    content = content_of({"segmentation": [QUAD]}, change, {"segmentation": [QUAD]})
    with pytest.raises(DataError) as caught:
        open_dataset(make(tmp_path, content), "train")
    head, line = str(caught.value).split("\n")
    assert head.startswith("1 problem in the labels")
    assert line.startswith(f"  {tmp_path}/annotations/instances_train.json: annotation id n1: ")
    assert what in line
    left = open_dataset(tmp_path, "train", skip_bad_labels=True)
    assert (len(left.labels), len(left.skipped)) == (2, 1)


def test_sizes_must_agree(tmp_path: Path) -> None:
    content = content_of()
    content["images"][0] |= {"width": HEIGHT, "height": WIDTH}
    content["images"][1] |= {"width": float(WIDTH)}
    with pytest.raises(DataError, match=r"1 problem.*\n.*image id 0: it states 64x96 pixels, .*a\.jpg has 96x64.*EXIF"):
        open_dataset(make(tmp_path, content), "train")
    for entry in content["images"]:
        del entry["width"], entry["height"]
    assert len(open_dataset(make(tmp_path, content), "train")) == 2


def test_missing_images_are_named(tmp_path: Path) -> None:
    make(tmp_path, content_of())
    (tmp_path / "train" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg: cannot open image"):
        open_dataset(tmp_path, "train")
    (tmp_path / "train" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"no image a\.jpg: .*looked in .*/train, .*/images/train, "):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [{"file_name": "a.jpg"},\n 1,,', r"not json: .*instances_train\.json:2: "),
        ('["file_name"]', "not COCO: .*it has no list 'images'"),
        ('{"images": "file_name", "annotations": [], "categories": []}', "it has no list 'images'"),
        ('{"images": [{"file_name": ' + "1" * 5000 + "}]}", "not json"),
        ('{"file_name": ' + "[" * 100_000, "not json"),
    ],
)
def test_damaged_json_is_refused(tmp_path: Path, text: str, what: str) -> None:
    make(tmp_path, {})
    (tmp_path / "annotations" / "instances_train.json").write_text(text)
    with pytest.raises(DataError, match=what):
        open_dataset(tmp_path, "train")
