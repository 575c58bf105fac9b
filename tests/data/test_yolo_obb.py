"""YOLO labels, oriented and horizontal: folders, data.yaml, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.data.miniatures import image, text

from fledge.data.datasets import detect_format, find_splits, open_dataset
from fledge.errors import DataError

GOOD = "1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"
NAMES = "names: [plane, ship]\n"


def make(root: Path, label: str = GOOD, split: str = "train", nested: bool = False, yaml: str = NAMES) -> Path:
    """One split with one image of 96 × 64 pixels."""
    pictures, labels = (f"{split}/images", f"{split}/labels") if nested else (f"images/{split}", f"labels/{split}")
    image(root / pictures / "a.jpg")
    text(root / labels / "a.txt", label)
    text(root / "data.yaml", yaml)
    return root


@pytest.mark.parametrize("nested", [False, True])
def test_both_trees(tmp_path: Path, nested: bool) -> None:
    make(tmp_path, nested=nested)
    make(tmp_path, split="valid", nested=nested)
    assert detect_format(tmp_path) == "yolo_obb"
    assert find_splits(tmp_path) == {"train": "train", "val": "valid"}
    dataset = open_dataset(tmp_path, "train")
    assert dataset.quads[0].tolist() == [[24, 16], [48, 16], [48, 32], [24, 32]]
    assert (dataset.classes, dataset.labels.tolist()) == (("plane", "ship"), [1])


def test_corners_scale_with_width_and_height(tmp_path: Path) -> None:
    """A square of fractions is no square of pixels."""
    dataset = open_dataset(make(tmp_path, "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"), "train")
    assert dataset.quads[0].tolist() == [[48, 16], [72, 32], [48, 48], [24, 32]]


def test_horizontal_boxes(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, f"0 0.5 0.5 0.25 0.25\n{GOOD}\n1 0.5 0.5 0.125 0.5"), "train")
    assert np.allclose(dataset.boxes[[0, 2]], [[48, 32, 24, 16, 0.0], [48, 32, 32, 12, -math.pi / 2]])
    assert dataset.quads[0].tolist() == [[36, 24], [60, 24], [60, 40], [36, 40]]
    assert dataset.notes == ("2 horizontal boxes (class cx cy w h)",)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1 0.25 0.25 0.5 0.25 0.5 0.5 0.25", "8 fields instead of 9 or 5"),
        ("1 0.25 0.25 0.5 0.25 0.5 0.5", "7 fields instead of 9 or 5"),
        ("1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5 0.1 0.2", "11 fields .*polygons of other than four corners"),
        ("1", "1 fields"),
        ("ship 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5", "class index is 'ship'"),
        ("-1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5", "class index is '-1'"),
        ("1.5 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5", "class index is '1.5'"),
        ("2 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5", "class index 2 is out of range: data.yaml has 2 names, 0 to 1"),
        ("999999 0.5 0.5 0.25 0.25", "class index 999999 is out of range"),
        ("1 24 16 48 16 48 32 24 32", "coordinate 48 is no fraction of the image"),
        ("1 0.5 0.5 -3 0.1", "coordinate -3 is no fraction"),
        ("1 0,5 0.5 0.1 0.1", "'0,5' is not a number: write decimals with a point"),
        ("1 nan 0.5 0.1 0.1", "coordinate nan is not finite"),
        ("1 1e999 0.5 0.1 0.1", "coordinate 1e999 is beyond"),
        ("1 0.5 0.5 0 0.1", "the box has no area"),
        ("1 0.5 0.5 -0.1 0.1", "the box has no area"),
        ("1 1.5 0.5 0.1 0.1", "outside the image of 96x64 pixels, a.jpg"),
        ("1 0.5 0.5 0.1\0 0.1", "NUL"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: str, what: str) -> None:
    make(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}")
    with pytest.raises(DataError, match=rf"^1 problem in the labels: .*\n  .*/a\.txt:3: .*{what}"):
        open_dataset(tmp_path, "train")


def test_indices_written_as_decimals_are_taken(tmp_path: Path) -> None:
    assert open_dataset(make(tmp_path, GOOD.replace("1 ", "1.000000 ", 1)), "train").labels.tolist() == [1]


@pytest.mark.parametrize("names", ["names:\n  0: plane\n  1: ship\n", "nc: 2\nnames:\n- plane\n- ship\n"])
def test_names_as_list_or_mapping(tmp_path: Path, names: str) -> None:
    assert open_dataset(make(tmp_path, yaml=names), "train").classes == ("plane", "ship")


@pytest.mark.parametrize(
    ("yaml", "what"),
    [
        ("names: [plane, ship\n", r"not YAML: .*data\.yaml:2: "),
        ("names: {0: plane, 2: ship}\n", r"class indices have gaps: .*data\.yaml"),
        ("names: {a: plane, b: ship}\n", "class indices have gaps"),
        ("train: images/train\n", "no class names"),
        ("names: []\n", "no class names"),
        ("names: [[plane], ship]\n", "no class names"),
        ("nc: 3\nnames: [plane, ship]\n", "nc is 3 but there are 2 names"),
        ("- plane\n- ship\n", "no settings"),
        ("", "no settings"),
        ("names: !!python/object/apply:os.system ['touch pwned']\n", "not YAML"),
        ("[" * 2_000, "not YAML"),
        ("names: [plane, ship]\n#" + "x" * 200_001, "data.yaml too large"),
        ("names: [plane, Plane]\n", r"a class is named twice: .*/train: plane, Plane"),
    ],
)
def test_a_wrong_data_yaml_is_refused(tmp_path: Path, yaml: str, what: str) -> None:
    make(tmp_path, GOOD, yaml=yaml)
    with pytest.raises(DataError, match=what):
        open_dataset(tmp_path, "train")


def test_a_missing_data_yaml_is_asked_for(tmp_path: Path) -> None:
    (make(tmp_path) / "data.yaml").unlink()
    with pytest.raises(DataError, match=r'no data\.yaml: .*: write one with the class names, "names: \[plane, ship\]"'):
        open_dataset(tmp_path, "train")
    text(tmp_path / "ships.yaml", NAMES)
    assert open_dataset(tmp_path, "train").classes == ("plane", "ship")


def test_folders_named_in_data_yaml(tmp_path: Path) -> None:
    """The keys hold in the dataset, below its ``path``; Roboflow begins them with ``../``."""
    image(tmp_path / "sets" / "one" / "images" / "big" / "a.jpg")
    text(tmp_path / "sets" / "one" / "labels" / "big" / "a.txt", GOOD)
    text(tmp_path / "data.yaml", NAMES + "path: sets\ntrain: ../one/images/big\nval: one/images/absent\n")
    assert find_splits(tmp_path) == {"train": "train"}
    assert open_dataset(tmp_path, "train").paths == (tmp_path / "sets" / "one" / "images" / "big" / "a.jpg",)


def test_a_key_does_not_rename_a_split_found_by_its_folder(tmp_path: Path) -> None:
    make(tmp_path, split="valid", nested=True, yaml=NAMES + "val: ../valid/images\n")
    assert find_splits(tmp_path) == {"val": "valid"}


@pytest.mark.parametrize("stated", ["{}/outside/images", "images/../../outside/images", "../../outside/images"])
def test_folders_outside_are_never_read(tmp_path: Path, stated: str) -> None:
    image(tmp_path / "outside" / "images" / "a.jpg")
    text(tmp_path / "outside" / "labels" / "a.txt", GOOD)
    root = tmp_path / "deep" / "dataset"
    make(root, yaml=NAMES + f"val: {stated.format(tmp_path)}\npath: {tmp_path}\ntest: [1, 2]\n")
    assert find_splits(root) == {"train": "train"}
    assert len(open_dataset(root, "train")) == 1


def test_the_class_list_of_an_annotation_tool_is_no_label_file(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "labels" / "train" / "classes.txt", "plane\nship\n")
    assert len(open_dataset(tmp_path, "train")) == 1
    text(tmp_path / "labels" / "train" / "b.txt", GOOD)
    with pytest.raises(DataError, match=r"1 label files have no image: .*: b: "):
        open_dataset(tmp_path, "train")


def test_a_missing_label_file_is_an_error_unless_allowed(tmp_path: Path) -> None:
    image(make(tmp_path) / "images" / "train" / "b.jpg")
    with pytest.raises(DataError, match=r"1 of 2 images have no label file: .*labels/train: b\.jpg: .*--allow-unlab"):
        open_dataset(tmp_path, "train")
    dataset = open_dataset(tmp_path, "train", allow_unlabelled=True)
    assert dataset.summary().empty == 1
    assert dataset.notes == ("1 images without a label file, taken as images without objects",)


def test_classes_of_a_checkpoint_are_matched_by_name(tmp_path: Path) -> None:
    assert open_dataset(make(tmp_path), "train", ["Ship", "tree"]).labels.tolist() == [0]
