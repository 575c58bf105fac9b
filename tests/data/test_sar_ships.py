"""SSDD and RSDD-SAR: degrees, exchanged sides, and which folder or list says what is in a split."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.data.miniatures import MINIATURES, image, text

from fledge.data.datasets import find_splits, open_dataset
from fledge.errors import DataError


def rbox(*corners: object) -> str:
    tags = "".join(f"<{'xy'[k % 2]}{k // 2 + 1}>{v}</{'xy'[k % 2]}{k // 2 + 1}>" for k, v in enumerate(corners))
    inner = f"<rotated_bbox_theta>60</rotated_bbox_theta>{tags}"
    return f"<object><name>ship</name><difficult>0</difficult>\n<rotated_bndbox>{inner}</rotated_bndbox></object>\n"


BBOX = "<object><name>ship</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"


def ssdd(root: Path, *objects: str, split: str = "train", images: str = "JPEGImages") -> Path:
    image(root / images / "000001.jpg")
    text(root / f"Annotations_{split}" / "000001.xml", f"<annotation>\n{''.join(objects)}</annotation>")
    return root


def test_ssdd_reads_the_corners(tmp_path: Path) -> None:
    quad = (10, 10, 30, 12, 29, 22, 9, 20)
    dataset = open_dataset(ssdd(tmp_path, rbox(*quad)), "train")
    assert (dataset.classes, dataset.quads.reshape(-1).tolist()) == (("ship",), [float(v) for v in quad])


@pytest.mark.parametrize("base", ["", "voc_style", "BBox_SSDD/voc_style"])
def test_ssdd_with_horizontal_boxes_and_folders_of_images(tmp_path: Path, base: str) -> None:
    ssdd(tmp_path / base, BBOX, images="JPEGImages_train")
    ssdd(tmp_path / base, BBOX, split="test_inshore")
    assert find_splits(tmp_path) == {"train": "train"}
    assert open_dataset(tmp_path, "train").quads[0].tolist() == [[3, 4], [30, 4], [30, 20], [3, 20]]
    assert open_dataset(tmp_path, "test_inshore").paths[0].parent.name == "JPEGImages"


def test_ssdd_folders_decide(tmp_path: Path) -> None:
    """Of one folder of images, those with labels in the split's folder; labels without an image are named."""
    ssdd(tmp_path, BBOX)
    image(tmp_path / "JPEGImages" / "000002.jpg")
    assert open_dataset(tmp_path, "train").ids == ("000001",)
    text(tmp_path / "Annotations_train" / "000003.xml", f"<annotation>{BBOX}</annotation>")
    with pytest.raises(DataError, match=r"Annotations_train/000003\.xml: it has no image: add 000003\.jpg"):
        open_dataset(tmp_path, "train")


def test_ssdd_bad_corners(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"000001\.xml:3: rotated_bndbox lacks y4"):
        open_dataset(ssdd(tmp_path, BBOX + "\n", rbox(10, 10, 30, 12, 29, 22, 9)), "train")


def rsdd(root: Path, box: str, head: str = "<polarization>VV</polarization>", name: str = "s.jpg") -> Path:
    image(root / "JPEGImages" / "s.jpg")
    listed = {"images": [{"file_name": name}], "annotations": [], "categories": []}
    text(root / "ImageSets" / "train.json", json.dumps(listed))
    thing = f"<object><name>ship</name><difficult>0</difficult>\n<robndbox>{box}</robndbox></object>"
    text(root / "Annotations" / "s.xml", f"<annotation>{head}\n{thing}</annotation>")
    return root


BOX = "<cx>48</cx><cy>32</cy><h>40</h><w>10</w><angle>0.5</angle>"


def test_rsdd_the_angle_belongs_to_h(tmp_path: Path) -> None:
    """Read as roLabelImg's, the same box would be turned by 90 degrees."""
    dataset = open_dataset(rsdd(tmp_path / "a", BOX), "train")
    assert dataset.boxes[0].tolist() == pytest.approx([48, 32, 40, 10, 0.5], abs=1e-5)
    rsdd(tmp_path / "b", BOX, head="")
    text(tmp_path / "b" / "ImageSets" / "Main" / "train.txt", "s\n")
    other = open_dataset(tmp_path / "b", "train")
    assert other.format == "hit_uav_xml"
    assert other.boxes[0, 4] == pytest.approx(0.5 - math.pi / 2, abs=1e-5)


def test_rsdd_lists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json: image 0: '\.\./x\.jpg' has no image file"):
        open_dataset(rsdd(tmp_path, BOX, name="../x.jpg"), "train")
    (tmp_path / "ImageSets" / "train.json").unlink()
    text(tmp_path / "ImageSets" / "test.txt", "s\n")
    assert open_dataset(tmp_path, "test").ids == ("s",)
    text(tmp_path / "ImageSets" / "train.json", "{")
    with pytest.raises(DataError, match=r"not json: .*train\.json:1"):
        open_dataset(tmp_path, "train")


def test_rsdd_with_a_list_of_training_and_validation(tmp_path: Path) -> None:
    MINIATURES["rsdd"](tmp_path)
    text(tmp_path / "ImageSets" / "trainval.json", json.dumps({"images": [], "annotations": [], "categories": []}))
    assert find_splits(tmp_path) == {"train": "train", "val": "val"}
    assert len(open_dataset(tmp_path, "trainval")) == 5


def test_rsdd_degrees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s\.xml:2: angle 60 is more than a full turn, so not in radians"):
        open_dataset(rsdd(tmp_path, BOX.replace("0.5", "60")), "train")
