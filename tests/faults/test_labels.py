"""Faults in labels and datasets, and what must happen: one function a fault."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.miniatures import HEIGHT, MINIATURES, WIDTH, image, text
from tests.data.public_sets import geo_image

from fledge.data.datasets import FORMATS, open_dataset
from fledge.data.labels import DetectionDataset, without_duplicates
from fledge.errors import DataError

GOOD = "10 10 30 10 30 20 10 20 plane 0"
QUAD = "10 10 30 10 30 20 10 20"
TEXT_FORMATS = ("dota", "yolo_obb")
FILE_PER_IMAGE = ("dota", "yolo_obb", "dior_r", "hrsc2016", "hit_uav_xml")


def dota(root: Path, *labels: str | bytes, split: str = "train") -> Path:
    """A split with one image of 96 × 64 pixels for each label file."""
    for k, content in enumerate(labels):
        image(root / split / "images" / f"i{k}.png")
        path = root / split / "labelTxt" / f"i{k}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def refusal(root: Path, **options: Any) -> list[str]:
    """The lines of the message with which a dataset's training split is refused."""
    with pytest.raises(DataError) as caught:
        open_dataset(root, "train", **options)
    assert caught.value.exit_code == 3
    return str(caught.value).split("\n")


def label_files(root: Path) -> dict[str, Path]:
    found = [*root.rglob("*.xml"), *root.rglob("labels/*/*.txt"), *root.rglob("labelTxt/*.txt")]
    return {path.stem: path for path in sorted(found) if "Horizontal" not in path.parent.name}


@pytest.mark.parametrize("form", FILE_PER_IMAGE)
def test_empty_and_missing_label_files(form: str, tmp_path: Path) -> None:
    """Empty label file, header only, missing file: a valid image without objects, counted; a missing file is an error
    unless unlabelled images are allowed."""
    MINIATURES[form](tmp_path)
    if form == "dota":
        text(tmp_path / "train" / "labelTxt" / "a2.txt", "")
        text(tmp_path / "train" / "labelTxt" / "a3.txt", "imagesource:GoogleEarth\ngsd:null\n")
    assert open_dataset(tmp_path, "train").summary().empty == (2 if form == "dota" else 1)
    label_files(tmp_path)["a1"].unlink()
    [line] = refusal(tmp_path)
    assert line.startswith("1 of 3 images have no label file: ")
    assert "--allow-unlabelled" in line
    assert len(refusal(tmp_path, skip_bad_labels=True)) == 1, "a missing file is no bad label"
    allowed = open_dataset(tmp_path, "train", allow_unlabelled=True)
    assert len(allowed) == 3
    assert allowed.summary().empty == (3 if form == "dota" else 2)
    assert "1 images without a label file, taken as images without objects" in allowed.notes


BAD_FIELDS = [
    b"10 10 30 10 30 20 10 plane",
    b"10 10 30 10 30 20 10 20 plane 0 1",
    b"10 1O 30 10 30 20 10 20 plane 0",
    b"10 nan 30 10 30 20 10 20 plane 0",
    b"10 -inf 30 10 30 20 10 20 plane 0",
    b"10,5 10 30 10 30 20 10 20 plane 0",
    b"10 10 30 10 30 20 10 20 pl\xe4ne 0",
    b"10 10 30 10 30 20 10 20 pl\0ne 0",
]


def test_lines_that_cannot_be_read(tmp_path: Path) -> None:
    """Wrong field count, text in number, nan, inf, decimal comma, non-UTF-8, NUL: refused as file:line: reason, the
    first 20 shown; skipping them is a choice, and their count is reported. Tabs, BOM and CRLF are no faults."""
    fine = b"\xef\xbb\xbf" + GOOD.replace(" ", "\t").encode() + b"\r\n"
    dota(tmp_path, fine, fine + b"\r\n".join(BAD_FIELDS * 3) + b"\r\n" + GOOD.encode())
    head, *lines = refusal(tmp_path)
    assert head.startswith("24 problems in the labels (12 number, 6 fields, 6 encoding): ")
    assert len(lines) == 21
    for k, line in enumerate(lines[:20]):
        assert line.startswith(f"  {tmp_path}/train/labelTxt/i1.txt:{k + 2}: ")
    assert lines[20] == "  … and 4 more"
    skipping = open_dataset(tmp_path, "train", skip_bad_labels=True)
    assert np.diff(skipping.offsets).tolist() == [1, 2]
    assert [problem.where.rpartition(":")[2] for problem in skipping.skipped] == [str(k) for k in range(2, 26)]
    assert skipping.notes == ("24 bad labels skipped (12 number, 6 fields, 6 encoding)",)


def test_unknown_classes_and_difficult(tmp_path: Path) -> None:
    """Unknown class refused, difficult that is not 0 or 1 refused, missing difficult taken as 0 with one note."""
    dota(tmp_path, f"{GOOD}\n{QUAD} plane\n{QUAD} plane\n{QUAD} boat 0\n{QUAD} plane 7")
    head, unknown, difficult, hint = refusal(tmp_path, classes=["plane", "ship"])
    assert head.startswith("2 problems in the labels (1 class, 1 difficult)")
    assert "i0.txt:4: unknown class 'boat'" in unknown
    assert "i0.txt:5: difficult is '7'" in difficult
    assert hint.startswith("class lists differ: the labels name boat, plane; the classes are plane, ship")
    left = open_dataset(tmp_path, "train", ["plane", "ship"], skip_bad_labels=True)
    assert left.difficult.tolist() == [False] * 3
    assert left.notes[0] == "2 labels without a difficult field, taken as 0"


POLYGONS: list[tuple[str, str, str]] = [
    ("counter-clockwise", "10 20 30 20 30 10 10 10", "with their corners counter-clockwise, kept so"),
    ("bow-tie", "10 10 30 20 30 10 10 20", "with crossing sides, put in order"),
    ("bow-tie the other way", "10 10 30 20 10 20 30 10", "with crossing sides, put in order"),
    ("bow-tie of a trapezium", "10 10 50 10 20 30 40 30", "with crossing sides, put in order"),
    ("repeated corner, a triangle", "10 10 30 10 30 30 30 30", "with a repeated corner, kept as triangles"),
    ("first corner repeated", "10 10 10 10 30 10 30 30", "with a repeated corner, kept as triangles"),
    ("corner visited twice", "10 10 40 10 10 10 30 30", "with crossing sides, put in order"),
    ("concave", "10 10 40 10 20 14 10 40", "that fill less than half of their rectangle"),
    ("zero area, a point", "10 10 10 10 10 10 10 10", ""),
    ("zero area, a line", "10 10 20 20 30 30 40 40", ""),
    ("five corners", "10 10 30 10 35 15 30 20 10 20", ""),
    ("three corners", "10 10 30 10 30 20", ""),
]


@pytest.mark.parametrize(("kind", "corners", "note"), POLYGONS, ids=[kind for kind, _, _ in POLYGONS])
def test_polygons(kind: str, corners: str, note: str, tmp_path: Path) -> None:
    """Repeated point, zero area, bow-tie, counter-clockwise, more than four points, triangle: mended where there is one
    way to do so, refused where not; counted by kind."""
    dota(tmp_path, f"{corners} plane 0")
    if not note:
        head, line = refusal(tmp_path)
        assert head.startswith("1 problem")
        assert "i0.txt:1: " in line
        assert ("no area" if "zero" in kind else "fields instead of 9 or 10") in line
        return
    dataset = open_dataset(tmp_path, "train")
    assert any(sentence.startswith("1 ") and sentence.endswith(note) for sentence in dataset.notes)
    given = sorted({(float(x), float(y)) for x, y in zip(corners.split()[::2], corners.split()[1::2], strict=True)})
    assert sorted({(x, y) for x, y in dataset.quads[0].tolist()}) == given, "no corner is moved"


def test_polygons_that_are_no_rectangles(tmp_path: Path) -> None:
    """The quadrilateral is kept for evaluation, training uses the rectangle of least area around it; noted where it
    fills less than half of that."""
    dota(tmp_path, "10 10 50 10 45 20 15 20 plane 0\n10 10 40 10 20 14 10 40 plane 0")
    dataset = open_dataset(tmp_path, "train")
    assert dataset.quads[0].tolist() == [[10, 10], [50, 10], [45, 20], [15, 20]]
    assert dataset.boxes[0].tolist() == pytest.approx([30, 15, 40, 10, 0], abs=1e-4)
    assert dataset.notes == ("1 quadrilaterals that fill less than half of their rectangle",)


@pytest.mark.parametrize("form", FORMATS)
def test_boxes_outside_the_image(form: str, tmp_path: Path) -> None:
    """Wholly outside: refused. Partly outside, negative coordinates: kept as labelled. The image is never dropped."""
    MINIATURES[form](tmp_path)
    whole = open_dataset(tmp_path, "train", form=form)
    assert whole.quads.min() < -1, "the miniature has a box that leaves the image"
    assert len(whole) == 3
    shrink(tmp_path, whole.paths[2], form)
    if form == "yolo_obb":  # fractions follow the image
        text(tmp_path / "labels" / "train" / "a3.txt", "0 1.2 0.2 1.4 0.2 1.4 0.4 1.2 0.4\n1 0 0 0.5 0 0.5 0.5 0 0.5")
    head, *lines = refusal(tmp_path, form=form)
    assert head.startswith("1 problem")
    assert f"lies outside the image of 40x64 pixels, {whole.paths[2].name}: " in lines[0]
    left = open_dataset(tmp_path, "train", skip_bad_labels=True, form=form)
    assert (len(left), len(left.skipped)) == (3, 1)


def shrink(root: Path, picture: Path, form: str) -> None:
    """Make the third image 40 pixels wide, and say so: its object at x = 80 is then outside, the others are not."""
    if form == "geo":
        geo_image(picture, width=40)
    else:
        assert cv2.imwrite(str(picture), np.zeros((HEIGHT, 40, 3), np.uint8))
    for path in root.rglob("*"):
        if path.stem == picture.stem and path.suffix == ".xml":
            text(path, path.read_text().replace(f">{WIDTH}<", ">40<"))
        if path.match("*train.json"):
            content = json.loads(path.read_text())
            content["images"][2]["width"] = 40
            text(path, json.dumps(content))


def test_identical_objects(tmp_path: Path) -> None:
    """Two identical boxes of one class: training keeps one and counts the other; evaluation sees both."""
    dota(tmp_path, f"{GOOD}\n{GOOD}\n{QUAD} ship 0\n30 10 30 20 10 20 10 10 plane 0", GOOD)
    dataset = open_dataset(tmp_path, "train")
    assert len(dataset.targets(0)) == 4
    single, dropped = without_duplicates(dataset)
    assert (dropped, single.labels.tolist()) == (2, [0, 1, 0])


@pytest.mark.parametrize("form", ["coco", "hit_uav", "hit_uav_xml", "dior_r", "hrsc2016"])
def test_stated_size_and_image_disagree(form: str, tmp_path: Path) -> None:
    """The size in the label file is not that of the image: an error that names both."""
    MINIATURES[form](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".xml", ".json"):
            content = path.read_text().replace(f'"width": {WIDTH}', '"width": 640').replace(f">{WIDTH}<", ">640<")
            text(path, content)
    head, *lines = refusal(tmp_path)
    assert head.startswith("3 problems in the labels: ")
    for line, stem in zip(lines, ("a1", "a2", "a3"), strict=True):
        assert "it states 640x64 pixels, " in line
        assert f"{stem}." in line
        assert " has 96x64: restore the image that was labelled" in line
    assert len(refusal(tmp_path, skip_bad_labels=True)) == 4, "this is no bad label to skip"


def test_class_lists_differ(tmp_path: Path) -> None:
    """The classes of a checkpoint are not those of the dataset: refused with both lists and a few places; a renaming
    mends it, explicitly."""
    dota(tmp_path, f"{QUAD} car 0\n" * 4, f"{QUAD} boat 0\n{GOOD}")
    head, car, boat, hint = refusal(tmp_path, classes=["plane", "vehicle", "ship"])
    assert head.startswith("5 problems in the labels: ")
    places = "i0.txt:1: unknown class 'car' (4 objects, also at "
    assert places in car
    assert car.count("i0.txt:") == 3
    assert "i1.txt:1: unknown class 'boat'" in boat
    lists = "class lists differ: the labels name boat, car, plane; the classes are plane, vehicle, ship: "
    assert hint.startswith(lists)
    names = ["plane", "vehicle", "ship"]
    dataset = open_dataset(tmp_path, "train", names, remap={"Car": "vehicle", "boat": ""})
    assert dataset.labels.tolist() == [1, 1, 1, 1, 0, 0]
    assert dataset.ignore.tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("change", ["touched", "longer", "replaced", "removed"])
def test_the_dataset_changes_during_the_run(change: str, tmp_path: Path) -> None:
    """The index carries size and time of every image; one that changed is an error with its name."""
    dataset: DetectionDataset = open_dataset(dota(tmp_path, GOOD, GOOD), "train")
    path = dataset.paths[0]
    before = path.stat()
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    if change == "replaced":
        image(path, seed=1)
    later = 0 if change == "longer" else 1000
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    if change == "removed":
        path.unlink()
    with pytest.raises(DataError, match=r"image changed: .*i0\.png: .*: do not change a dataset while"):
        dataset.read(0)
    dataset.read(1)


class BadFile(NamedTuple):
    """A label file for the second of two images: its faults by place, and how many good objects it has."""

    form: str
    content: str | bytes
    faults: tuple[str, ...]
    good: int = 0


YOLO = "0 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4"
TAGS = [f"{a}_{c}" for c in ("left_top", "right_top", "right_bottom", "left_bottom") for a in "xy"]


def dior(*values: object, name: str = "ship", tail: str = "") -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(TAGS, values, strict=False))
    return f"<object><name>{name}</name><difficult>0</difficult><robndbox>{tags}</robndbox>{tail}</object>\n"


def hrsc(*values: object) -> str:
    names = ("cx", "cy", "w", "h", "ang")
    tags = "".join(f"<mbox_{tag}>{value}</mbox_{tag}>" for tag, value in zip(names, values, strict=False))
    return f"<HRSC_Object>{tags}</HRSC_Object>\n"


def voc(*objects: str) -> str:
    return f"<annotation>\n{''.join(objects)}</annotation>"


BOX = (10, 10, 30, 10, 30, 20, 10, 20)
BAD_FILES = [
    BadFile("dota", b"\xff\xfe1\x000\x00\n\x00", (":1", ":2")),  # UTF-16: its second line is a NUL
    BadFile("dota", GOOD.encode() + b"\n\x80\x81\n", (":2",), 1),
    BadFile("dota", GOOD.encode() + b"\n\0\0\0\0\n" + GOOD.encode(), (":2",), 2),
    BadFile("dota", "%PDF-1.4 not labels at all", (":1",)),
    BadFile("dota", '{"images": []}', (":1",)),
    BadFile("dota", f"{QUAD} plane 0 0\n" * 7, tuple(f":{k}" for k in range(1, 8))),
    BadFile("dota", f"{QUAD}\n{GOOD}", (":1",), 1),
    BadFile("dota", f"{GOOD}\r\n\r\n{QUAD} plane 5\r\n", (":3",), 1),
    BadFile("dota", f"# comment\n{GOOD}", (":1",), 1),
    BadFile("dota", QUAD.replace(" ", ",") + ",plane,0", (":1",)),
    BadFile("dota", "10;10;30;10;30;20;10;20;plane;0", (":1",)),
    BadFile("dota", "10,0 10,0 30,0 10,0 30,0 20,0 10,0 20,0 plane 0", (":1",)),
    BadFile("dota", f"{QUAD.replace('30', 'NaN')} plane 0\n{QUAD.replace('30', 'Infinity')} plane 0", (":1", ":2")),
    BadFile("dota", QUAD.replace("30", "1e400") + " plane 0", (":1",)),
    BadFile("dota", QUAD.replace("30", "9" * 400) + " plane 0", (":1",)),
    BadFile("dota", QUAD.replace("30", "0x1E") + " plane 0", (":1",)),
    BadFile("dota", QUAD.replace("30", "3_0") + " plane 0", (":1",)),
    BadFile("dota", QUAD.replace("30", "٣٠") + " plane 0", (":1",)),
    BadFile("dota", QUAD.replace("30", "--30") + " plane 0", (":1",)),
    BadFile("dota", f"{QUAD} ../../etc/passwd 0\n{QUAD} <script> 0\n{QUAD} {'x' * 99} 0", (":1", ":2", ":3")),
    BadFile("dota", f"{QUAD} plane yes\n{QUAD} plane -1\n{QUAD} plane 0.0", (":1", ":2", ":3")),
    BadFile("dota", "10 10 10 10 10 10 10 10 plane 0\n10 10 20 20 30 30 40 40 plane 0", (":1", ":2")),
    BadFile("dota", "200 10 230 10 230 20 200 20 plane 0\n-90 1 -80 1 -80 9 -90 9 plane 0", (":1", ":2")),
    BadFile("yolo_obb", f"{YOLO}\n{YOLO[2:]}\n", (":2",), 1),
    BadFile("yolo_obb", f"{YOLO} 0.5 0.5\n{YOLO} 0.9", (":1", ":2")),
    BadFile("yolo_obb", YOLO.replace("0 ", "2 ", 1), (":1",)),
    BadFile("yolo_obb", YOLO.replace("0 ", "plane ", 1), (":1",)),
    BadFile("yolo_obb", "0 10 10 30 10 30 20 10 20", (":1",)),
    BadFile("yolo_obb", "0 0.5 0.5 0 0.5\n0 0.5 0.5 0.1 nan\n0 2 2 0.1 0.1\n0 0.5 0.5 0.1 0.1", (":1", ":2", ":3"), 1),
    BadFile("dior_r", voc(dior(*BOX), dior(*BOX[:7]), dior(*BOX)), (":3",), 2),
    BadFile("dior_r", voc(dior(*BOX, tail="\n\n"), dior("nan", *BOX[1:]), dior("ten", *BOX[1:])), (":5", ":6"), 1),
    BadFile("dior_r", voc(dior(*BOX, name=""), dior(*BOX, name="a/../b")), (":2", ":3")),
    BadFile("dior_r", voc(dior(5, 5, 5, 5, 5, 5, 5, 5), dior(*(v + 500 for v in BOX))), (":2", ":3")),
    BadFile("dior_r", voc("<object><name>ship</name></object>", "\n", dior(*BOX)), (":2",), 1),
    BadFile("hrsc2016", voc(hrsc(40, 30, 20, 9, 0.1), hrsc(40, 30, 20, 9)), (":3",), 1),
    BadFile("hrsc2016", voc(hrsc(40, 30, 20, 0, 0.1), hrsc(40, 30, 20, 9, 90)), (":2", ":3")),
    BadFile("hit_uav_xml", voc(dior(*BOX), dior(*BOX)), (":2", ":3")),  # corners where a centre is expected
    BadFile("coco", '{"bbox": [1, 2, 3]}, {"bbox": [5, 5, 9, 9]}', (" annotation id 1",), 1),
    BadFile(
        "coco", '{"bbox": [1, 2, NaN, 4]}, {"bbox": [40, 30, 9, 9, 180]}', (" annotation id 1", " annotation id 2")
    ),
    BadFile("hit_uav", '{"bbox": [5, 5, 9, 9]}, {"bbox": [40, 30, 9, 9, 1]}', (" annotation id 1",), 1),
]


def write_bad(root: Path, bad: BadFile) -> Path:
    """A dataset whose label file (of image ``b``) is the bad one; the other image is in order."""
    content = bad.content if isinstance(bad.content, bytes) else bad.content.encode()
    names = {"dior_r": ("Annotations/Oriented Bounding Boxes", "JPEGImages"), "hrsc2016": ("Annotations", "AllImages")}
    if bad.form in ("coco", "hit_uav"):
        return write_bad_json(root, bad)
    folders = names | {
        "hit_uav_xml": ("Annotations", "JPEGImages"),
        "dota": ("train/labelTxt", "train/images"),
        "yolo_obb": ("labels/train", "images/train"),
    }
    labels, images = folders[bad.form]
    centre = "<cx>40</cx><cy>30</cy><w>9</w><h>5</h><angle>0</angle>"
    good = {
        "dota": GOOD,
        "yolo_obb": YOLO,
        "dior_r": voc(dior(*BOX)),
        "hrsc2016": voc(hrsc(40, 30, 20, 9, 0)),
        "hit_uav_xml": voc(f"<object><name>ship</name><robndbox>{centre}</robndbox></object>"),
    }[bad.form]
    suffix = "txt" if bad.form in TEXT_FORMATS else "xml"
    text(root / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    text(root / "data.yaml", "names: [plane, ship]\n")
    for stem in "ab":
        image(root / images / f"{stem}.png")
    text(root / labels / f"a.{suffix}", good)
    path = root / labels / f"b.{suffix}"
    path.write_bytes(content)
    return path


def write_bad_json(root: Path, bad: BadFile) -> Path:
    key = "file_name" if bad.form == "coco" else "filename"
    assert isinstance(bad.content, str)
    annotations = json.loads(f"[{bad.content}]")
    entries = [{"id": k + 1, "image_id": 1, "category_id": 1} | entry for k, entry in enumerate(annotations)]
    box = {"id": 0, "image_id": 0, "category_id": 1, "bbox": [40, 30, 9, 9, 0.5]}
    images = [{"id": k, key: f"{name}.png", "width": WIDTH, "height": HEIGHT} for k, name in enumerate("ab")]
    content = {"images": images, "annotations": [box, *entries], "categories": [{"id": 1, "name": "Car"}]}
    for name in "ab":
        image(root / "images" / f"{name}.png")
    text(root / "train.json", json.dumps(content))
    return root / "train.json"


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_of_any_kind(form: str, tmp_path: Path) -> None:
    """Bytes that were cut, overwritten or repeated anywhere in a label file or list: read, or refused with its place;
    never another error."""
    MINIATURES[form](tmp_path)
    suffixes = (".txt", ".xml", ".json", ".yaml", ".geojson")
    files = [path for path in sorted(tmp_path.rglob("*")) if path.suffix in suffixes]
    files = [path for path in files if path.stem in ("a1", "P0001", "train", "instances_train", "data")]
    whole = {path: path.read_bytes() for path in files}
    refused = 0

    @settings(max_examples=25, derandomize=True, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        nonlocal refused
        path = data.draw(st.sampled_from(files))
        content = whole[path]
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(start + 40, len(content))))
        noise = data.draw(st.sampled_from([b"", b"\0", b"\xff\xfe", b"1e999", b"[[", b"<a>", content[start:end] * 3]))
        path.write_bytes(content[:start] + noise + content[end:])
        message = str(tmp_path)
        try:
            open_dataset(tmp_path, "train", form=form)
        except DataError as error:
            refused += 1
            message = str(error)
        path.write_bytes(content)
        assert str(tmp_path) in message

    check()
    assert refused >= 5


def test_there_are_forty() -> None:
    assert len(BAD_FILES) == 40


@pytest.mark.parametrize("bad", BAD_FILES, ids=[f"{k:02d}-{bad.form}" for k, bad in enumerate(BAD_FILES)])
def test_bad_label_files(bad: BadFile, tmp_path: Path) -> None:
    """L1, forty bad label files made by hand: each fault is reported with its place, none crashes, counts are exact."""
    path = write_bad(tmp_path, bad)
    head, *lines = refusal(tmp_path)
    count = len(bad.faults)
    assert head.startswith(f"{count} problem{'s' if count > 1 else ''} in the labels")
    shown = [line for line in lines if not line.startswith("class lists differ")]
    assert len(shown) == count
    for line, place in zip(shown, bad.faults, strict=True):
        where, _, reason = line.strip().removeprefix(f"{path}:").partition(": ")
        assert where == place.removeprefix(":")
        assert ": " in reason, "it says what is wrong and what to do"
    left = open_dataset(tmp_path, "train", skip_bad_labels=True)
    assert np.diff(left.offsets).tolist() == [1, bad.good]
    assert [problem.where for problem in left.skipped] == [f"{path}{':' if p[0] == ' ' else ''}{p}" for p in bad.faults]
    assert any(note.startswith(f"{count} bad labels skipped (") for note in left.notes)
