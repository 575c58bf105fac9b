"""DOTA txt: what is accepted, what is refused and where it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fledge.data.catalogue.dota import DOTA_V10_CLASSES as DOTA_V10
from fledge.data.catalogue.dota import DOTA_V20_CLASSES as DOTA_V20
from fledge.data.datasets import FORMATS, detect_format, find_splits, open_dataset
from fledge.data.datasets.dota import dota_splits
from fledge.data.datasets.draft import order_classes
from fledge.data.datasets.folders import image_stamps
from fledge.data.labels import quad_areas
from fledge.errors import DataError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
GOOD = "10 10 30 10 30 20 10 20 plane 0"


def make(root: Path, labels: dict[str, str | bytes], split: str = "train", folder: str = "labelTxt") -> Path:
    """A split of 100 × 80 images with the given label files."""
    (root / split / "images").mkdir(parents=True)
    (root / split / folder).mkdir(parents=True)
    for name, content in labels.items():
        assert cv2.imwrite(str(root / split / "images" / f"{name}.png"), np.zeros((80, 100, 3), np.uint8))
        data = content if isinstance(content, bytes) else content.encode()
        (root / split / folder / f"{name}.txt").write_bytes(data)
    return root


def test_a_line_becomes_quad_box_label_and_flag(tmp_path: Path) -> None:
    text = "imagesource:GoogleEarth\ngsd:0.25\n10 10 30 10 30 20 10 20 ship 1\n5 5 25.5 5 25.5 65 5 65 plane 0\n"
    targets = open_dataset(make(tmp_path, {"P1": text}), "train").targets(0)
    assert targets.labels.tolist() == [1, 0], "plane comes before ship in DOTA's order"
    assert targets.difficult.tolist() == [True, False]
    assert targets.ignore.tolist() == [False, False]
    assert targets.quads is not None
    assert targets.quads[0].tolist() == [[10, 10], [30, 10], [30, 20], [10, 20]]
    assert torch.allclose(targets.boxes[0], torch.tensor([20.0, 15, 20, 10, 0]))
    assert torch.allclose(targets.boxes[1], torch.tensor([15.25, 35, 60, 20.5, -torch.pi / 2]))
    assert targets.image_id == "P1"


@pytest.mark.parametrize(
    "text",
    [
        b"imagesource:GF\r\ngsd:null\r\n" + GOOD.encode() + b"\r\n",
        b"\xef\xbb\xbfimagesource:GoogleEarth\ngsd:1\n" + GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace(" ", "\t").encode(),
        b"  " + GOOD.replace(" ", "  ").encode() + b"  \n\n",
        GOOD.encode() + b"\n\n   \n",
        b"1e1 10. +30 10.0 30 20 10 20 plane 0",
    ],
)
def test_headers_tabs_spaces_bom_crlf_and_blank_lines_are_tolerated(tmp_path: Path, text: bytes) -> None:
    dataset = open_dataset(make(tmp_path, {"P1": text}), "train")
    assert dataset.quads.tolist() == [[[10, 10], [30, 10], [30, 20], [10, 20]]]
    assert dataset.notes == ()


BAD_LINES: list[tuple[bytes, str]] = [
    (b"10 10 30 10 30 20 10 plane", "8 fields instead of 9 or 10"),
    (b"10 10 30 10 30 20 10 20 plane 0 0", "11 fields instead of 9 or 10"),
    (b"plane", "1 fields instead of 9 or 10"),
    (b"10,10,30,10,30,20,10,20,plane,0", "1 fields instead of 9 or 10"),
    (b"1O 10 30 10 30 20 10 20 plane 0", "'1O' is not a number"),
    (b"10,5 10 30 10 30 20 10 20 plane 0", "'10,5' is not a number: write decimals with a point"),
    (b"1_0 10 30 10 30 20 10 20 plane 0", "'1_0' is not a number"),
    ("１０ 10 30 10 30 20 10 20 plane 0".encode(), "is not a number"),
    (b"0x10 10 30 10 30 20 10 20 plane 0", "'0x10' is not a number"),
    (b"nan 10 30 10 30 20 10 20 plane 0", "coordinate nan is not finite"),
    (b"10 -inf 30 10 30 20 10 20 plane 0", "coordinate -inf is not finite"),
    (b"10 1e999 30 10 30 20 10 20 plane 0", "coordinate 1e999 is beyond"),
    (b"10 10 3e7 10 30 20 10 20 plane 0", "coordinate 3e7 is beyond"),
    (b"10 10 30 10 30 20 10 20 plane 3", "difficult is '3'"),
    (b"10 10 30 10 30 20 10 20 plane -1", "difficult is '-1'"),
    (b"10 10 30 10 30 20 10 20 plane true", "difficult is 'true'"),
    (b"10 10 30 10 30 20 10 20 plane 0.0", "difficult is '0.0'"),
    (b"10 10 30 10 30 20 10 20 ../../etc 0", "'../../etc' is not a class name"),
    (b"10 10 30 10 30 20 10 20 <b> 0", "'<b>' is not a class name"),
    (b"10 10 30 10 30 20 10 20 " + b"x" * 65 + b" 0", "is not a class name"),
    (b"10 10 30 10 30 20 10 20 bicycle 0", "unknown class 'bicycle'"),
    (b"10 10 30 10 30 20 10 20 pl\xe9ne 0", "not UTF-8"),
    (b"\xff\xfe1\x000\x00", "not UTF-8"),
    (b"10 10 30 10 30 20 10 20 pla\0ne 0", "NUL byte"),
    (b"10 10 10 10 10 10 10 10 plane 0", "the box has no area"),
    (b"10 10 30 30 20 20 40 40 plane 0", "the box has no area"),
    (b"10 10 30 10 30 10.001 10 10.001 plane 0", "the box has no area"),
    (b"110 10 130 10 130 20 110 20 plane 0", "the box lies outside the image of 100x80 pixels"),
    (b"10 80 30 80 30 95 10 95 plane 0", "the box lies outside the image of 100x80 pixels"),
    (b"-30 10 -10 10 -10 20 -30 20 plane 0", "the box lies outside the image of 100x80 pixels"),
]


@pytest.mark.parametrize(("line", "what"), BAD_LINES)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: bytes, what: str) -> None:
    text = b"imagesource:GoogleEarth\ngsd:0.5\n" + GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode() + b"\n"
    make(tmp_path, {"P1": GOOD, "P2": text})
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "train", ["plane", "ship"])
    head, *rest = str(caught.value).split("\n")
    assert head.startswith("1 problem in the labels: ")
    hint = ["class lists differ"] if what.startswith("unknown class") else []
    assert [line[:18] for line in rest[1:]] == hint
    where, _, message = rest[0].strip().partition(": ")
    assert where == f"{tmp_path}/train/labelTxt/P2.txt:4"
    assert what in message
    assert ": " in message, "it says what to do"


def test_all_bad_lines_are_counted_and_the_first_twenty_shown(tmp_path: Path) -> None:
    make(tmp_path, {"P1": "bad\n" * 3 + GOOD, "P2": "10 10 30 10 30 20 10 20 plane 9\n" * 30})
    with pytest.raises(DataError, match=r"^33 problems in the labels") as caught:
        open_dataset(tmp_path, "train")
    shown = str(caught.value).split("\n")[1:]
    assert [line.strip().split(": ")[0].rsplit("/")[-1] for line in shown[:4]] == [
        "P1.txt:1",
        "P1.txt:2",
        "P1.txt:3",
        "P2.txt:1",
    ]
    assert len(shown) == 21
    assert shown[-1].strip() == "… and 13 more"


def test_empty_and_header_only_files_are_images_without_objects(tmp_path: Path) -> None:
    labels: dict[str, str | bytes] = {"P1": "", "P2": "imagesource:GoogleEarth\ngsd:0.2\n", "P3": GOOD}
    dataset = open_dataset(make(tmp_path, labels), "train")
    assert [len(dataset.targets(i)) for i in range(3)] == [0, 0, 1]
    assert dataset.summary().empty == 2
    assert dataset.summary().objects == {"plane": 1}


def test_a_split_without_any_object_has_no_classes_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, {"P1": ""})
    assert len(open_dataset(tmp_path, "train", ["plane"]).targets(0)) == 0
    assert open_dataset(tmp_path, "train").classes == ()


def test_missing_difficult_is_zero_and_two_means_cut(tmp_path: Path) -> None:
    line = GOOD[:-2]
    dataset = open_dataset(make(tmp_path, {"P1": f"{line}\n{line}\n{line} 2"}), "train")
    assert dataset.difficult.tolist() == [False, False, True]
    assert dataset.notes == ("2 labels without a difficult field, taken as 0",)


def test_crossing_sides_are_put_in_order(tmp_path: Path) -> None:
    """A bow-tie of the corners of a rectangle has one order that does not cross."""
    dataset = open_dataset(make(tmp_path, {"P1": "10 10 30 20 30 10 10 20 plane 0"}), "train")
    assert sorted(map(tuple, dataset.quads[0].tolist())) == [(10, 10), (10, 20), (30, 10), (30, 20)]
    steps = np.abs(np.diff(np.vstack([dataset.quads[0], dataset.quads[0][:1]]), axis=0))
    assert (steps.min(axis=1) == 0).all(), "neighbours now share an edge of the rectangle"
    assert dataset.boxes[0].tolist() == pytest.approx([20, 15, 20, 10, 0], abs=1e-5)
    assert dataset.notes == ("1 quadrilaterals with crossing sides, put in order",)


def test_every_kind_of_crossing_is_mended(tmp_path: Path) -> None:
    """Bow-ties of a trapezium (lobes of unlike area, both ways of crossing), and a path that visits a corner twice."""
    lines = ["10 10 50 10 20 30 40 30", "10 10 40 30 20 30 50 10", "10 10 40 10 10 10 30 30"]
    dataset = open_dataset(make(tmp_path, {"P1": "\n".join(f"{q} plane 0" for q in lines)}), "train")
    assert np.abs(quad_areas(dataset.quads.astype(np.float64))).tolist() == [600, 600, 300]
    assert dataset.notes[0] == "3 quadrilaterals with crossing sides, put in order"


def test_counter_clockwise_concave_and_triangles_stay_as_labelled(tmp_path: Path) -> None:
    quads = ["10 20 30 20 30 10 10 10", "10 10 30 10 18 16 10 30", "10 10 30 10 30 30 30 30"]
    dataset = open_dataset(make(tmp_path, {"P1": "\n".join(f"{q} plane 0" for q in quads)}), "train")
    assert dataset.quads.reshape(-1, 8).tolist() == [[float(v) for v in q.split()] for q in quads]


def test_a_quad_that_is_no_rectangle_gets_the_smallest_rectangle_around_it(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, {"P1": "10 10 50 10 45 20 15 20 plane 0"}), "train")
    assert dataset.boxes[0].tolist() == pytest.approx([30, 15, 40, 10, 0], abs=1e-4)
    assert dataset.quads[0].tolist() == [[10, 10], [50, 10], [45, 20], [15, 20]]


def test_a_box_partly_outside_is_kept_whole(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, {"P1": "-10 -10 30 -10 30 20 -10 20 plane 0"}), "train")
    assert dataset.quads[0].min() == -10


def test_missing_label_files_and_missing_images_are_refused(tmp_path: Path) -> None:
    make(tmp_path, dict.fromkeys([f"P{k}" for k in range(8)], GOOD))
    for k in range(6):
        (tmp_path / "train" / "labelTxt" / f"P{k}.txt").unlink()
    with pytest.raises(DataError, match=r"6 of 8 images have no label file: .*: P0\.png, .*P4\.png, …: add"):
        open_dataset(tmp_path, "train")
    other = make(tmp_path / "b", {"P1": GOOD, "P2": GOOD})
    (other / "train" / "images" / "P2.png").unlink()
    with pytest.raises(DataError, match=r"1 label files have no image: .*: P2: add the images"):
        open_dataset(other, "train")


def test_unreadable_images_are_listed_beside_bad_lines(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD, "P2": "bad"})
    (tmp_path / "train" / "images" / "P1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 problems(.|\n)*P1\.png: unreadable image \(the file is empty\): replace"):
        open_dataset(tmp_path, "train")


def test_two_images_with_one_stem_are_refused(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD})
    assert cv2.imwrite(str(tmp_path / "train" / "images" / "P1.jpg"), np.zeros((80, 100, 3), np.uint8))
    with pytest.raises(DataError, match=r"occur twice: .*P1\.jpg, P1\.png"):
        open_dataset(tmp_path, "train")


@pytest.mark.parametrize("folder", ["labelTxt", "annfiles", "labelTxt-v1.0", "labelTxt-v1.5", "labelTxt-v2.0"])
def test_label_folders(tmp_path: Path, folder: str) -> None:
    assert len(open_dataset(make(tmp_path, {"P1": GOOD}, folder=folder), "train").boxes) == 1


def test_nested_folders_of_the_official_archives(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD}, folder="labelTxt-v1.5/DOTA-v1.5_train")
    images = tmp_path / "train" / "images"
    (images / "images").mkdir()
    (images / "P1.png").rename(images / "images" / "P1.png")
    assert len(open_dataset(tmp_path, "train").boxes) == 1


def test_two_versions_of_labels_are_not_chosen_between_silently(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD}, folder="labelTxt-v1.0")
    (tmp_path / "train" / "labelTxt-v1.5").mkdir()
    with pytest.raises(DataError, match=r"labelTxt-v1\.5, labelTxt-v1\.0: rename the one to use to labelTxt"):
        open_dataset(tmp_path, "train")


def test_class_orders() -> None:
    assert order_classes(reversed(DOTA_V20), DOTA_V20) == DOTA_V20
    assert (len(DOTA_V10), len(DOTA_V20)) == (15, 18)
    assert order_classes(["ship", "plane", "ship"], DOTA_V20) == ("plane", "ship")
    assert order_classes(["storage tank"], DOTA_V20) == ("storage-tank",)
    assert order_classes(["zebra", "ship", "ant"], DOTA_V20) == ("ant", "ship", "zebra")


def test_classes_are_the_same_in_all_splits(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD.replace("plane", "barn"), "P2": GOOD.replace("plane", "tree")})
    make(tmp_path, {"P3": GOOD.replace("plane", "tree")}, split="val")
    assert open_dataset(tmp_path, "val").classes == ("barn", "tree")
    assert open_dataset(tmp_path, "val").labels.tolist() == [1]
    assert open_dataset(tmp_path, "train").classes == ("barn", "tree")


def test_given_classes_match_without_case_and_separators(tmp_path: Path) -> None:
    make(tmp_path, {"P1": GOOD.replace("plane", "Storage_Tank")})
    assert open_dataset(tmp_path, "train", ["ship", "storage tank"]).labels.tolist() == [1]
    with pytest.raises(DataError, match="named twice"):
        open_dataset(tmp_path, "train", ["storage tank", "Storage-Tank"])


def test_splits_and_roles(tmp_path: Path) -> None:
    for split in ("train", "test", "valid"):
        make(tmp_path, {"P1": GOOD}, split=split)
    assert dota_splits(tmp_path) == ("test", "train", "valid")
    assert find_splits(tmp_path) == {"train": "train", "val": "valid"}
    assert find_splits(tmp_path / "train") == {"all": ""}


def test_an_unknown_folder_shows_the_accepted_trees(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        detect_format(tmp_path)
    assert all(form.tree in str(caught.value) for form in FORMATS.values())
    with pytest.raises(DataError, match="no such folder"):
        detect_format(tmp_path / "absent")
    make(tmp_path, {"P1": GOOD})
    with pytest.raises(DataError, match=r"no split 'val': .*: choose one of 'train'"):
        open_dataset(tmp_path, "val")


def test_a_folder_that_lacks_something_shows_the_trees_most_like_it(tmp_path: Path) -> None:
    for folder in ("DIOR/Annotations/Horizontal Bounding Boxes", "DIOR/JPEGImages-trainval", "set/train/labelXml"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match="not a dataset") as caught:
        detect_format(tmp_path / "DIOR")
    assert [name for name, form in FORMATS.items() if form.tree in str(caught.value)] == ["dior"]
    with pytest.raises(DataError, match="not a dataset") as caught:
        detect_format(tmp_path / "set")
    assert [name for name, form in FORMATS.items() if form.tree in str(caught.value)] == ["fair1m"]


def test_an_image_that_changed_after_indexing_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, {"P1": GOOD}), "train")
    assert cv2.imwrite(str(dataset.paths[0]), np.zeros((80, 101, 3), np.uint8))
    with pytest.raises(DataError, match=r"image changed: .*P1\.png: it (had|was)"):
        dataset.read(0)
    same_stamp = replace(dataset, stamps=image_stamps(dataset.paths))
    with pytest.raises(DataError, match=r"image changed: .*P1\.png: it was 100x80 .* now 101x80"):
        same_stamp.read(0)


def test_subset_keeps_each_images_own_objects(tmp_path: Path) -> None:
    lines = {f"P{k}": "\n".join([GOOD.replace("10", str(k + 1))] * k) for k in range(4)}
    dataset = open_dataset(make(tmp_path, dict(lines)), "train")
    part = dataset.subset([3, 0, 1])
    assert part.ids == ("P3", "P0", "P1")
    assert [len(part.targets(i)) for i in range(3)] == [3, 0, 1]
    assert torch.equal(part.targets(2).boxes, dataset.targets(1).boxes)
    assert len(dataset.subset([])) == 0


@pytest.mark.skipif(not (SHARED / "dota_samples").is_dir(), reason="the sample data are not beside the checkout")
def test_official_samples() -> None:
    dataset = open_dataset(SHARED / "dota_samples", "")
    summary = dataset.summary()
    assert (summary.images, sum(summary.objects.values())) == (8, 671)
    assert dataset.classes == ("plane", "small-vehicle", "large-vehicle", "ship", "harbor")
    assert len(dataset.targets(dataset.ids.index("P0706"))) == 536
    assert dataset.read(dataset.ids.index("P0032__1__0___0")).shape == (1024, 1024, 3)


@pytest.mark.skipif(not (SHARED / "aerial_airport").is_dir(), reason="the sample data are not beside the checkout")
def test_airports() -> None:
    root = SHARED / "aerial_airport"
    assert find_splits(root) == {"train": "train", "val": "valid"}
    train, valid = open_dataset(root, "train"), open_dataset(root, "valid")
    assert (len(train), len(valid)) == (236, 68)
    assert (train.classes, len(train.boxes), len(valid.boxes)) == (("airplane",), 3408, 1018)
    quarter = np.abs(valid.boxes[:, 4]) % (np.pi / 2)
    assert (np.minimum(quarter, np.pi / 2 - quarter) < 1e-4).all(), "axis-aligned boxes"
