"""HIT-UAV json: angles, ignored objects, and bad entries by their id."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.data.miniatures import image, text

from fledge.data.catalogue.hit_uav import HIT_UAV_CLASSES as CLASSES
from fledge.data.datasets import detect_format, find_splits, open_dataset
from fledge.errors import DataError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "hit_uav"


def content_of(*boxes: list[Any]) -> dict[str, Any]:
    names = [*CLASSES, "DontCare"]
    return {
        "images": [
            {"id": 5, "width": 64, "height": 48, "filename": "a.png"},
            {"id": 9, "width": 64, "height": 48, "filename": "b.png"},
        ],
        "annotations": [
            {"id": 100 + k, "image_id": 9, "category_id": 1, "difficult": False, "bbox": box}
            for k, box in enumerate(boxes)
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }


def make(root: Path, content: object, upstream: bool = False) -> Path:
    folder = root / "rotate_json" / "train" if upstream else root / "images"
    path = root / "rotate_json" / "annotations" / "train.json" if upstream else root / "train.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        assert cv2.imwrite(str(folder / name), np.full((48, 64), 77, np.uint8))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


@pytest.mark.parametrize("upstream", [False, True])
def test_both_trees(tmp_path: Path, upstream: bool) -> None:
    make(tmp_path, content_of([20, 20, 10, 6, 0.3]), upstream)
    assert detect_format(tmp_path) == "hit_uav"
    assert find_splits(tmp_path) == {"train": "train"}
    dataset = open_dataset(tmp_path, "train")
    assert dataset.classes == CLASSES
    assert dataset.ids == ("a", "b")
    assert [len(dataset.targets(i)) for i in range(2)] == [0, 1]
    assert dataset.read(0).tolist()[0][0] == [77, 77, 77]


def test_a_box_that_is_higher_than_wide_is_turned_and_its_corners_stay(tmp_path: Path) -> None:
    """Centre (20, 22), 6 along the angle 0.5, 16 across: le90 has 16 along 0.5 - pi/2."""
    targets = open_dataset(make(tmp_path, content_of([20, 22, 6, 16, 0.5], [20, 22, 16, 6, 3.0])), "train").targets(1)
    assert targets.boxes[0].tolist() == pytest.approx([20, 22, 16, 6, 0.5 - math.pi / 2], abs=1e-5)
    assert targets.boxes[1].tolist() == pytest.approx([20, 22, 16, 6, 3.0 - math.pi], abs=1e-5)
    assert targets.quads is not None
    x, y = 20 - 3 * math.cos(0.5) + 8 * math.sin(0.5), 22 - 3 * math.sin(0.5) - 8 * math.cos(0.5)
    assert targets.quads[0, 0].tolist() == pytest.approx([x, y], abs=1e-4)


def test_dont_care_is_ignored_and_no_class(tmp_path: Path) -> None:
    content = content_of([20, 20, 10, 6, 0], [30, 20, 10, 6, 0])
    content["annotations"][0] |= {"category_id": 4}
    content["annotations"][1] |= {"category_id": 3, "difficult": True}
    dataset = open_dataset(make(tmp_path, content), "train")
    assert dataset.ignore.tolist() == [True, False]
    assert dataset.labels.tolist() == [0, 3]
    assert dataset.difficult.tolist() == [False, True]
    assert dataset.summary().objects == {"Person": 0, "Car": 0, "Bicycle": 0, "OtherVehicle": 1}
    assert dataset.summary().ignored == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bbox": [20, 20, 10, 6]}, "bbox has 4 numbers instead of 5"),
        ({"bbox": None}, "bbox has no numbers instead of 5"),
        ({"bbox": [20, 20, 10, "6", 0]}, "not a number"),
        ({"bbox": [20, 20, True, 6, 0]}, "not a number"),
        ({"bbox": [20, 20, float("nan"), 6, 0]}, "not finite"),
        ({"bbox": [20, float("inf"), 5, 6, 0]}, "not finite"),
        ({"bbox": [20, 20, 0, 6, 0]}, "has no area"),
        ({"bbox": [20, 20, 5, -6, 0]}, "has no area"),
        ({"bbox": [20, 20, 10, 6, 90]}, "angle 90 is more than a full turn, so not in radians"),
        ({"bbox": [90, 20, 10, 6, 0]}, "the box lies outside the image of 64x48 pixels, b.png"),
        ({"image_id": 77}, "unknown image_id 77"),
        ({"image_id": None}, "unknown image_id None"),
        ({"category_id": 12}, "unknown category_id 12"),
        ({"difficult": 2}, "difficult is 2"),
        ({"difficult": None}, "difficult is None"),
        ({"difficult": "0"}, "difficult is '0'"),
    ],
)
def test_a_bad_annotation_is_named_by_its_id(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    content = content_of([20, 20, 10, 6, 0], [20, 20, 10, 6, 0])
    content["annotations"][1] |= change
    with pytest.raises(DataError) as caught:
        open_dataset(make(tmp_path, content), "train")
    head, line = str(caught.value).split("\n")
    assert head.startswith("1 problem in the labels")
    assert line.strip().startswith(f"{tmp_path}/train.json: annotation id 101: ")
    assert what in line


def test_size_in_json_and_size_of_image_must_agree(tmp_path: Path) -> None:
    content = content_of()
    content["images"][1]["width"] = 640
    with pytest.raises(DataError, match=r"image id 9: it states 640x48 pixels, .*b\.png has 64x48"):
        open_dataset(make(tmp_path, content), "train")


@pytest.mark.parametrize("name", ["../b.png", "/etc/passwd", "x\\y.png", "..", "", None, 3])
def test_a_filename_cannot_leave_the_folder(tmp_path: Path, name: object) -> None:
    content = content_of()
    content["images"][1]["filename"] = name
    with pytest.raises(DataError, match=r"image id 9: filename is .*: write the plain name of a file"):
        open_dataset(make(tmp_path, content), "train")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    make(tmp_path, content_of())
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: cannot open image"):
        open_dataset(tmp_path, "train")


def test_damaged_json_is_named_by_line(tmp_path: Path) -> None:
    make(tmp_path, '{"images": [{"filename": "a.png"},\n 1,,\n')
    with pytest.raises(DataError, match=r"not json: .*train\.json:2: "):
        open_dataset(tmp_path, "train")


def test_the_horizontal_files_are_recognised_as_such(tmp_path: Path) -> None:
    content = content_of()
    content["annotation"] = content.pop("annotations")
    with pytest.raises(DataError, match="no list 'annotations': use the files of rotate_json"):
        open_dataset(make(tmp_path, content), "train")


def test_repeated_ids_and_unknown_categories_are_refused(tmp_path: Path) -> None:
    content = content_of([20, 20, 10, 6, 0])
    content["categories"][1]["name"] = "Submarine"
    with pytest.raises(DataError, match=r"1 problem in.*\n.*annotation id 100: unknown class 'Submarine'"):
        open_dataset(make(tmp_path, content), "train")
    content["images"][1]["id"] = 5
    content["categories"][0]["id"] = 1
    found = r"2 problems in(.|\n)*category 1: no unique id and name(.|\n)*image 1: no unique id"
    with pytest.raises(DataError, match=found):
        open_dataset(make(tmp_path, content), "train")


def test_coco_files_are_not_taken_for_it(tmp_path: Path) -> None:
    make(tmp_path, json.dumps(content_of()).replace("filename", "file_name"))
    assert detect_format(tmp_path) == "coco"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample data are not beside the checkout")
def test_the_real_files() -> None:
    assert find_splits(SHARED) == {"train": "train", "val": "val"}
    train, val = open_dataset(SHARED, "train"), open_dataset(SHARED, "val")
    assert (len(train), len(train.boxes), int(train.ignore.sum())) == (1130, 8852, 15)
    assert (len(val), len(val.boxes), int(val.ignore.sum())) == (127, 806, 2)
    assert train.summary().objects == {"Person": 4849, "Car": 2218, "Bicycle": 1733, "OtherVehicle": 37}
    assert val.read(0).shape == (512, 640, 3)
    cx, cy, w, h, angle = train.boxes[0].tolist()  # written as [153.6859, 96.4812, 33.9051, 69.7615, 0.167141]
    assert (cx, cy, w, h) == pytest.approx((153.6859, 96.4812, 69.7615, 33.9051), abs=1e-4)
    assert angle == pytest.approx(0.167141 - math.pi / 2, abs=1e-6)


def xml(*objects: str) -> str:
    return f"<annotation>\n<filename>a</filename>\n{''.join(objects)}</annotation>"


def thing(name: str, *box: object) -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("cx", "cy", "w", "h", "angle"), box, strict=False))
    return f"<object><name>{name}</name><difficult>0</difficult>\n<robndbox>{tags}</robndbox></object>\n"


def make_xml(root: Path, content: str, base: str = "") -> Path:
    image(root / base / "JPEGImages" / "a.jpg")
    text(root / base / "ImageSets" / "Main" / "train.txt", "a\n")
    text(root / base / "Annotations" / "a.xml", content)
    return root


@pytest.mark.parametrize("base", ["", "rotate_xml"])
def test_xml(tmp_path: Path, base: str) -> None:
    """The angle is that of w, whichever side is longer; DontCare is ignored and no class."""
    objects = [thing("Car", 30, 20, 6, 16, 0.5), thing("DontCare", 60, 30, 20, 9, 1), thing("Person", 50, 40, 9, 4, 3)]
    dataset = open_dataset(make_xml(tmp_path, xml(*objects), base), "train")
    assert (dataset.format, dataset.classes) == ("hit_uav_xml", ("Person", "Car"))
    assert dataset.boxes[0].tolist() == pytest.approx([30, 20, 16, 6, 0.5 - math.pi / 2], abs=1e-5)
    assert dataset.ignore.tolist() == [False, True, False]
    assert dataset.labels.tolist() == [1, 0, 0]
    assert open_dataset(tmp_path, "train", CLASSES).classes == CLASSES


def test_xml_of_the_labelling_tool_with_other_classes(tmp_path: Path) -> None:
    content = xml(thing("tree", 30, 20, 6, 16, 0.5), thing("Barn", 30, 20, 6, 16, 0.5))
    assert open_dataset(make_xml(tmp_path, content), "train").classes == ("Barn", "tree")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (thing("Car", 30, 20, 6, 16), "robndbox lacks angle"),
        (thing("Car", 30, 20, 6, 16, 45), "angle 45 is more than a full turn"),
        (thing("Car", 30, 20, 0, 16, 1), "the box has no area"),
        (thing("Car", 30, 20, "six", 16, 1), "'six' is not a number"),
    ],
)
def test_bad_xml_objects_are_named_by_file_and_line(tmp_path: Path, bad: str, what: str) -> None:
    make_xml(tmp_path, xml(thing("Car", 30, 20, 6, 16, 0.5), bad))
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*Annotations/a\.xml:5: {what}"):
        open_dataset(tmp_path, "train")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample data are not beside the checkout")
def test_the_original_xml_files_say_the_same_as_the_json(tmp_path: Path) -> None:
    stems = sorted(path.stem for path in (SHARED / "xml_sample").glob("*.xml"))
    assert len(stems) == 20
    (tmp_path / "JPEGImages").symlink_to((SHARED / "images").resolve())
    (tmp_path / "Annotations").symlink_to((SHARED / "xml_sample").resolve())
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "\n".join(stems))
    from_xml = open_dataset(tmp_path, "train", CLASSES)
    compared = 0
    for split in ("train", "val"):
        from_json = open_dataset(SHARED, split)
        for i, stem in enumerate(from_xml.ids):
            if stem in from_json.ids:
                a, b = from_xml.targets(i), from_json.targets(from_json.ids.index(stem))
                assert torch.equal(a.labels, b.labels)
                assert torch.equal(a.boxes, b.boxes)
                assert torch.equal(a.ignore, b.ignore)
                assert torch.equal(a.difficult, b.difficult)
                compared += len(a)
    assert compared == len(from_xml.labels) > 100
