"""Conversion: every format through its reader, what was lost, and folders that are whole or not there."""

from __future__ import annotations

import itertools
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon, box
from tests.data.made import dota_folder, line, noise, rectangle

from fledge.cli.tile import LabelFormat
from fledge.data.conversion import convert_dataset
from fledge.data.datasets import FORMATS as READERS
from fledge.data.datasets import detect_format, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.data.splits import open_splits
from fledge.data.writers import WRITERS
from fledge.errors import DataError, ResourceError, UsageError

# Not a rectangle, beyond the left edge, and turned.
KITE: list[list[float]] = [[10, 20], [30, 12], [52.5, 22], [31, 40.25]]
EDGE = rectangle(4, 50, 20, 8, 10)
SHIP = rectangle(60, 40, 31.25, 10, 130)
READ_AS = {"yolo": "yolo_obb"}
UPRIGHT, RECTANGLES = ("voc", "yolo"), ("hit_uav", "hit_uav_xml", "rsdd")
CORNERS = {"dota": 1e-2, "coco": 1e-2, "yolo_obb": 1e-4, "dior_r": 1e-4, "fair1m": 1e-4, "ohd_sjtu": 1e-2, "ssdd": 1e-4}
# Those that take any class; the others are in test_public_writers.
FIXED = ("hrsc2016", "shiprsimagenet", "nwpu_vhr10", "ucas_aod")
FORMATS = tuple(form for form in WRITERS if READ_AS.get(form, form) in READERS and form not in FIXED)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    text = line(KITE, "plane", 1) + line(EDGE, "ship") + line(SHIP, "storage-tank", 1)
    scenes = {"b": (noise(64, 96), text), "a": (noise(80, 80, 1), ""), "c": (noise(50, 90, 2), line(SHIP, "ship"))}
    return dota_folder(tmp_path / "source", {"train": scenes, "valid": {"d": (noise(64, 96, 3), line(EDGE, "ship"))}})


def objects(dataset: DetectionDataset) -> dict[str, list[tuple[str, NDArray[Any], bool, bool]]]:
    """By image: class name, corners, difficult, ignore."""
    found = {}
    for i, name in enumerate(dataset.ids):
        t = dataset.targets(i)
        assert t.quads is not None
        names = [dataset.classes[k] for k in t.labels.tolist()]
        found[name] = list(zip(names, t.quads.numpy(), t.difficult.tolist(), t.ignore.tolist(), strict=True))
    return found


def overlap(one: NDArray[Any], two: NDArray[Any]) -> float:
    a, b = Polygon(one), Polygon(two)
    return float(a.intersection(b).area / a.union(b).area)


def through(form: str, quad: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """What a format makes of corners in an image of (height, width), by shapely."""
    shape = Polygon(quad)
    if form in UPRIGHT:
        shape = shape.envelope
    if form == "yolo":
        shape = shape.intersection(box(0, 0, size[1], size[0]))
    if form in RECTANGLES:
        shape = shape.minimum_rotated_rectangle
    return np.array(shape.exterior.coords[:4]) if form in UPRIGHT + RECTANGLES else quad


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMATS, FORMATS)))
def test_round_trip_of_every_pair(source: Path, tmp_path: Path, first: str, second: str) -> None:
    convert_dataset(source, tmp_path / "one", first)
    convert_dataset(tmp_path / "one", tmp_path / "two", second)
    assert detect_format(tmp_path / "one") == READ_AS.get(first, first)
    assert detect_format(tmp_path / "two") == READ_AS.get(second, second)
    plain = {"yolo", "yolo_obb", "fair1m"} & {first, second}
    for split in ("train", "valid"):
        before, after = open_dataset(source, split), open_dataset(tmp_path / "two", split)
        meant, found = objects(before), objects(after)
        assert sorted(meant) == sorted(found)
        assert set(before.classes) == set(after.classes)
        for image, size in zip(before.ids, before.sizes.tolist(), strict=True):
            for (name, quad, difficult, _), (name2, quad2, difficult2, ignore2) in zip(
                meant[image], found[image], strict=True
            ):
                assert (name2, ignore2) == (name, False)
                assert difficult2 == (difficult and not plain)
                if {first, second} & set(UPRIGHT + RECTANGLES):
                    assert overlap(through(second, through(first, quad, size), size), quad2) > 0.99
                else:
                    assert np.allclose(quad, quad2, atol=max(CORNERS[first], CORNERS[second]), rtol=0)


@pytest.mark.parametrize("form", FORMATS)
def test_images_are_copied_byte_for_byte(source: Path, tmp_path: Path, form: str) -> None:
    convert_dataset(source, tmp_path / "out", form)
    for dataset in open_splits(tmp_path / "out"):
        for path in dataset.paths:
            original = source / dataset.split / "images" / path.name
            assert path.read_bytes() == original.read_bytes()
            assert not path.is_symlink()


def test_images_can_be_links(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "coco", images="link")
    path = tmp_path / "out" / "train" / "b.png"
    assert path.is_symlink()
    assert path.resolve() == (source / "train" / "images" / "b.png").resolve()
    assert open_dataset(tmp_path / "out", "train").read(0).shape == (80, 80, 3)


def test_yolo_to_a_millionth_of_the_image(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "yolo_obb")
    fields = (tmp_path / "out" / "labels" / "train" / "c.txt").read_text().split()
    shares = np.array(fields[1:], dtype=np.float64).reshape(4, 2)
    stated = np.round(SHIP, 2)
    assert np.allclose(shares, stated / [90, 50], rtol=1e-6, atol=1e-7)
    assert (tmp_path / "out" / "data.yaml").read_text().splitlines() == [
        'train: "images/train"',
        'val: "images/valid"',
        "names:",
        '  0: "plane"',
        '  1: "ship"',
        '  2: "storage-tank"',
    ]


def test_coco_file(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "coco", ["train"])
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert content["categories"] == [{"id": k, "name": n} for k, n in enumerate(("plane", "ship", "storage-tank"), 1)]
    assert content["images"][1] == {"id": 2, "file_name": "b.png", "width": 96, "height": 64}
    kite = content["annotations"][0]
    assert (kite["image_id"], kite["category_id"], kite["bbox"]) == (2, 1, [10, 12, 42.5, 28.25])
    assert kite["segmentation"] == [[10, 20, 30, 12, 52.5, 22, 31, 40.25]]
    assert kite["area"] == pytest.approx(Polygon(KITE).area)
    assert not (tmp_path / "out" / "annotations" / "valid.json").exists()


def test_hit_uav_file(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "hit_uav")
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    cx, cy, w, h, angle = content["annotations"][2]["bbox"]
    assert [cx, cy, w, h] == pytest.approx([60, 40, 31.25, 10], abs=0.02)
    assert np.rad2deg(angle) == pytest.approx(130, abs=0.1)
    assert content["categories"][-1]["name"] == "DontCare"


def test_what_is_lost_is_said(source: Path, tmp_path: Path) -> None:
    lost = {form: convert_dataset(source, tmp_path / form, form).lost for form in FORMATS}
    assert lost["coco"] == {}
    assert lost["dota"] == {}
    assert lost["hit_uav"] == {"quadrilateral, now the rectangle of least area around it": 1}
    assert lost["dior_r"] == {}
    assert lost["hit_uav_xml"] == lost["hit_uav"]
    assert lost["rsdd"] == lost["hit_uav"]
    assert lost["ssdd"] == {}
    assert lost["ohd_sjtu"] == {"head point not known, set to the middle of corners 1 and 2": 5}
    assert lost["fair1m"] == {"difficult object, now a plain one": 2}
    assert lost["yolo"] == {
        "difficult object, now a plain one": 2,
        "turned box, now the upright one around it": 5,
        "box beyond the image, cut at its edge": 3,
    }
    assert [(key.split(",")[0], count) for key, count in lost["yolo_obb"].items()] == [
        ("difficult object", 2),
        ("object with corners beyond the image", 3),
    ]
    record = json.loads((tmp_path / "yolo_obb" / "valid" / "converted.json").read_text())
    assert record["lost"] == {"object with corners beyond the image, kept: Ultralytics passes over such images": 1}


@pytest.mark.parametrize("form", ["dota", "coco", "hit_uav", "hit_uav_xml"])
def test_ignored_objects_stay_ignored(source: Path, tmp_path: Path, form: str) -> None:
    convert_dataset(source, tmp_path / "hit", "hit_uav")
    path = tmp_path / "hit" / "annotations" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["category_id"] = 3  # DontCare
    path.write_text(json.dumps(content))
    report = convert_dataset(tmp_path / "hit", tmp_path / "out", form)
    assert report.splits["train"].ignored == 1
    assert open_dataset(tmp_path / "out", "train").ignore.tolist() == [False, True, False, False]


@pytest.mark.parametrize("form", ["yolo_obb", "yolo", "dior_r", "fair1m", "ohd_sjtu", "ssdd", "rsdd"])
def test_ignored_objects_are_left_out(source: Path, tmp_path: Path, form: str) -> None:
    path = source / "train" / "labelTxt" / "b.txt"
    path.write_text(path.read_text().replace("ship 0", "ship 2"))
    (source / "train" / "tiles.json").write_text('{"difficult_2": "ignored"}')
    report = convert_dataset(source, tmp_path / "out", form)
    assert report.lost["ignored object, left out"] == 1
    assert len(open_dataset(tmp_path / "out", "train").labels) == 3


def test_a_folder_that_is_one_split_becomes_all(source: Path, tmp_path: Path) -> None:
    for form in FORMATS:
        convert_dataset(source / "train", tmp_path / form, form)
        assert objects(open_dataset(tmp_path / form, "all")).keys() == {"a", "b", "c"}


def test_class_names_with_spaces(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "one", "coco")
    for path in (tmp_path / "one" / "annotations").iterdir():
        path.write_text(path.read_text().replace("storage-tank", "storage tank (small)"))
    report = convert_dataset(tmp_path / "one", tmp_path / "two", "dota")
    assert report.lost == {"class name with spaces, now hyphens": 1}
    assert "storage-tank-(small)" in open_dataset(tmp_path / "two", "train").classes


@pytest.mark.parametrize("form", ["hit_uav_xml", "dior_r", "voc", "rsdd", "yolo", "yolo_obb"])
def test_two_images_of_one_name_in_a_common_folder(source: Path, tmp_path: Path, form: str) -> None:
    for folder, suffix in (("images", ".png"), ("labelTxt", ".txt")):
        (source / "valid" / folder / f"d{suffix}").rename(source / "valid" / folder / f"a{suffix}")
    if "yolo" in form:
        convert_dataset(source, tmp_path / "out", form)
        return
    with pytest.raises(DataError, match=rf"two images called a: .*in train and valid, and {form} has one folder"):
        convert_dataset(source, tmp_path / "out", form)
    assert not list(tmp_path.glob("out*"))
    convert_dataset(source, tmp_path / "out", form, ["valid"])


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "yolo"])
@pytest.mark.parametrize("name", ["a\nb", "a\x01", os.fsdecode(b"\xff"), " a", "a.png", "a\u2028b", "Größe 2 (空)"])
def test_odd_names_of_images_come_back_or_are_refused(source: Path, tmp_path: Path, form: str, name: str) -> None:
    """Nothing is written that cannot be read again, and nothing but the file's own name is asked to change."""
    for folder, suffix in (("images", ".png"), ("labelTxt", ".txt")):
        (source / "valid" / folder / f"d{suffix}").rename(source / "valid" / folder / f"{name}{suffix}")
    if WRITERS[form].as_text and name not in ("a.png", "Größe 2 (空)"):
        with pytest.raises(DataError, match=rf"^image name {re.escape(ascii(name))}: .*: rename it$"):
            convert_dataset(source, tmp_path / "out", form, ["valid"])
        assert not list(tmp_path.glob("out*"))
    else:
        convert_dataset(source, tmp_path / "out", form, ["valid"])
        assert open_dataset(tmp_path / "out", "valid").ids == (name,)


def test_voc_file(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "voc")
    assert (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text() == "a\nb\nc\n"
    assert (tmp_path / "out" / "JPEGImages" / "d.png").is_file()
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "b.xml").getroot()
    assert (root.findtext("filename"), root.findtext("size/width"), root.findtext("size/height")) == (
        "b.png",
        "96",
        "64",
    )
    kite = root.findall("object")[0]
    assert (kite.findtext("name"), kite.findtext("difficult")) == ("plane", "1")
    assert [kite.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")] == [
        "10",
        "12",
        "52.5",
        "40.25",
    ]
    assert len(ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").getroot().findall("object")) == 0
    report = convert_dataset(source, tmp_path / "again", "voc")
    assert report.lost == {"turned box, now the upright one around it": 5}


def test_roboxes_and_corners_in_xml(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "hit", "hit_uav_xml")
    ship = ElementTree.parse(tmp_path / "hit" / "Annotations" / "c.xml").getroot().find("object/robndbox")
    assert ship is not None
    values = {child.tag: float(child.text or "nan") for child in ship}
    assert list(values) == ["cx", "cy", "w", "h", "angle"]
    assert [values[key] for key in ("cx", "cy", "w", "h")] == pytest.approx([60, 40, 31.25, 10], abs=0.02)
    assert np.rad2deg(values["angle"]) == pytest.approx(130, abs=0.1)
    convert_dataset(source, tmp_path / "dior", "dior_r")
    path = tmp_path / "dior" / "Annotations" / "Oriented Bounding Boxes" / "b.xml"
    kite = ElementTree.parse(path).getroot().find("object/robndbox")
    assert kite is not None
    assert [(child.tag, child.text) for child in kite] == [
        ("x_left_top", "10"),
        ("y_left_top", "20"),
        ("x_right_top", "30"),
        ("y_right_top", "12"),
        ("x_right_bottom", "52.5"),
        ("y_right_bottom", "22"),
        ("x_left_bottom", "31"),
        ("y_left_bottom", "40.25"),
    ]


def test_fair1m_closes_its_rings(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "fair1m")
    kite = ElementTree.parse(tmp_path / "out" / "train" / "labelXml" / "b.xml").getroot().find("objects/object")
    assert kite is not None
    assert kite.findtext("possibleresult/name") == "plane"
    points = [point.text for point in kite.findall("points/point")]
    assert points == ["10,20", "30,12", "52.5,22", "31,40.25", "10,20"]


def test_names_with_marks_of_xml(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "one", "coco")
    for path in (tmp_path / "one" / "annotations").iterdir():
        path.write_text(path.read_text().replace("storage-tank", "oil & gas"))
    convert_dataset(tmp_path / "one", tmp_path / "two", "dior_r")
    assert "oil & gas" in open_dataset(tmp_path / "two", "train").classes


def test_yolo_file(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "out", "yolo")
    lines = (tmp_path / "out" / "labels" / "train" / "b.txt").read_text().splitlines()
    assert [float(v) for v in lines[0].split()] == pytest.approx([0, 31.25 / 96, 26.125 / 64, 42.5 / 96, 28.25 / 64])
    low, high = np.min(EDGE, axis=0).clip(0), np.max(EDGE, axis=0)
    cx, cy = (low + high) / 2 / [96, 64]
    assert [float(v) for v in lines[1].split()] == pytest.approx([1, cx, cy, *((high - low) / [96, 64])], abs=2e-4)


def test_the_command_offers_every_writer() -> None:
    assert {form.value for form in LabelFormat} == set(WRITERS)


def test_classes_without_objects_do_not_reach_dota(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, tmp_path / "one", "yolo_obb")
    names = tmp_path / "one" / "data.yaml"
    names.write_text(names.read_text() + '  3: "harbor"\n')
    assert convert_dataset(tmp_path / "one", tmp_path / "two", "dota").lost == {"class without an object, left out": 1}
    convert_dataset(tmp_path / "one", tmp_path / "three", "coco")
    assert open_dataset(tmp_path / "three", "valid").classes == ("plane", "ship", "storage-tank", "harbor")


def test_bad_labels_stop_a_conversion_or_are_left_out(source: Path, tmp_path: Path) -> None:
    path = source / "train" / "labelTxt" / "c.txt"
    path.write_text(path.read_text() + "1 2 3 ship 0\n")
    with pytest.raises(DataError, match=r"c\.txt:2"):
        convert_dataset(source, tmp_path / "out", "coco")
    assert not list(tmp_path.glob("out*"))
    report = convert_dataset(source, tmp_path / "out", "coco", skip_bad_labels=True)
    assert any("1 bad label" in note for note in report.notes)


def test_nothing_half_written_has_the_final_name(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(ResourceError, match="No space left"):
            convert_dataset(source, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="unfinished work"):
        convert_dataset(source, tmp_path / "out", "dota")
    convert_dataset(source, tmp_path / "out", "coco")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["annotations", "plan.json", "train", "valid"]
    assert not convert_dataset(source, tmp_path / "out", "coco").made
    with pytest.raises(UsageError, match="output exists"):
        convert_dataset(source, tmp_path / "out", "dota")
    with pytest.raises(UsageError, match="unknown format 'kitti'"):
        convert_dataset(source, tmp_path / "other", "kitti")


SHARE = st.floats(-0.2, 1.2)
QUADS = st.lists(st.tuples(*[SHARE] * 8).map(lambda values: np.reshape(values, (4, 2)) * [90, 70]), max_size=6)


@given(QUADS, st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=8)
def test_any_corners_come_back(quads: list[NDArray[Any]], difficult: list[bool]) -> None:
    """Corners that a reader accepts are written so that it reads the same again, in each format that keeps corners."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.sync"), mock.patch("os.fsync"):
        root = Path(folder)
        # Crossed sides are put in order by the reader, flat quads and those outside refused: that is what is kept.
        text = "".join(line(quad.tolist(), "ship", int(flag)) for quad, flag in zip(quads, difficult, strict=False))
        dota_folder(root / "source", {"train": {"a": (noise(70, 90), text + line(SHIP, "plane"))}})
        before = open_dataset(root / "source", "train", skip_bad_labels=True)
        exact = dict.fromkeys(("coco", "dior_r", "fair1m", "yolo_obb", "ssdd"), 2e-3)
        for form, off in {**exact, "dota": 1.1e-2, "ohd_sjtu": 1.1e-2}.items():
            convert_dataset(root / "source", root / form, form, skip_bad_labels=True)
            after = open_dataset(root / form, "train", before.classes, skip_bad_labels=True)
            assert len(after.labels) == len(before.labels)
            assert np.array_equal(before.labels, after.labels)
            assert form in ("yolo_obb", "fair1m") or np.array_equal(before.difficult, after.difficult)
            assert np.abs(before.quads - after.quads).max(initial=0) <= off
