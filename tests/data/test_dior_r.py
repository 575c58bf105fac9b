"""DIOR-R: corners by tag, official lists and folders, and the XML rules all XML readers share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import dior_r, image, text

from fledge.data.catalogue.dior import DIOR_CLASSES as DIOR
from fledge.data.datasets import detect_format, find_splits, open_dataset
from fledge.errors import DataError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "dota_samples" / "dior_sample"
NAMES = ("left_top", "right_top", "right_bottom", "left_bottom")
QUAD = ((20, 10), (40, 20), (35, 30), (15, 20))


def thing(name: str = "dam", quad: tuple[tuple[object, object], ...] = QUAD, extra: str = "") -> str:
    tags = [f"<x_{n}>{x}</x_{n}><y_{n}>{y}</y_{n}>" for n, (x, y) in zip(NAMES, quad, strict=True)]
    return f"<object><name>{name}</name>{extra}\n<robndbox>{''.join(tags)}</robndbox></object>\n"


def make(root: Path, *objects: str | bytes, size: str = "") -> Path:
    """One image of 96 × 64 pixels in the list ``train``, with its label file."""
    image(root / "JPEGImages-trainval" / "00001.jpg")
    text(root / "ImageSets" / "Main" / "train.txt", "00001\n")
    folder = root / "Annotations" / "Oriented Bounding Boxes"
    text(folder / "00000.xml", f"<annotation>{thing()}</annotation>")  # not listed; keeps the form recognisable
    body = b"".join(o if isinstance(o, bytes) else o.encode() for o in objects)
    (folder / "00001.xml").write_bytes(b"<annotation>\n" + size.encode() + body + b"</annotation>\n")
    return root


def test_corners_are_read_by_tag_in_any_order(tmp_path: Path) -> None:
    shuffled = "".join(
        f"<{axis}_{NAMES[k]}>{QUAD[k]['xy'.index(axis)]}</{axis}_{NAMES[k]}>" for k in (2, 0, 3, 1) for axis in "yx"
    )
    other = f"<object><angle>3</angle><robndbox>{shuffled}</robndbox><name>dam</name></object>"
    dataset = open_dataset(make(tmp_path, thing(), other), "train")
    assert dataset.quads.tolist() == [[list(map(float, point)) for point in QUAD]] * 2


def test_official_names_and_order(tmp_path: Path) -> None:
    """The order is that of the papers' tools, not the alphabet; case is as in the files; absent ones left out."""
    assert len(DIOR) == 20
    assert DIOR.index("Expressway-Service-area") < DIOR.index("Expressway-toll-station") < DIOR.index("dam")
    names = ("dam", "expressway-service-area", "Expressway-toll-station", "Airplane")
    dataset = open_dataset(make(tmp_path, *map(thing, names)), "train")
    assert dataset.classes == ("airplane", "Expressway-Service-area", "Expressway-toll-station", "dam")
    assert dataset.labels.tolist() == [3, 1, 2, 0]
    assert open_dataset(tmp_path, "train", DIOR).labels.tolist() == [8, 6, 7, 0]


def test_names_of_ones_own(tmp_path: Path) -> None:
    assert open_dataset(make(tmp_path, thing("tent"), thing("barn")), "train").classes == ("barn", "tent")


@pytest.mark.parametrize("lists", ["ImageSets/Main", "ImageSets"])
def test_one_folder_for_all(tmp_path: Path, lists: str) -> None:
    image(tmp_path / "JPEGImages" / "7.jpg")
    text(tmp_path / lists / "trainval.txt", "\ufeff7.jpg\r\n\r\n")
    text(tmp_path / lists / "test.txt", "7\n")
    text(tmp_path / "Annotations" / "7.xml", f"<annotation>{thing()}</annotation>")
    assert detect_format(tmp_path) == "dior_r"
    assert find_splits(tmp_path) == {"train": "trainval", "val": "test"}
    assert open_dataset(tmp_path, "trainval").ids == ("7",)


def test_with_a_trainval_list_only_the_test_split_is_held_out(tmp_path: Path) -> None:
    make(tmp_path, thing())
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    text(lists / "val.txt", "00001\n")
    assert find_splits(tmp_path) == {"train": "trainval"}


def test_lists_decide_and_name_what_is_missing(tmp_path: Path) -> None:
    make(tmp_path, thing())
    image(tmp_path / "JPEGImages-test" / "00009.jpg")
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "00001\n00002\n00001\n../00009\n")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "train")
    head, *lines = str(caught.value).split("\n")
    assert head.startswith("3 problems in the labels: ")
    assert [line.split("train.txt:")[1].split(": correct")[0] for line in lines] == [
        "2: '00002' has no image file",
        "3: '00001' is listed twice",
        "4: '../00009' has no image file",
    ]
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "\n")
    with pytest.raises(DataError, match=r"no images: .*train\.txt: the list is empty"):
        open_dataset(tmp_path, "train")


def test_a_missing_label_file(tmp_path: Path) -> None:
    dior_r(tmp_path)
    (tmp_path / "Annotations" / "Oriented Bounding Boxes" / "a1.xml").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images have no label file: .*Oriented Bounding Boxes: a1\.jpg"):
        open_dataset(tmp_path, "train")
    assert open_dataset(tmp_path, "train", allow_unlabelled=True).summary().empty == 2
    assert len(open_dataset(tmp_path, "val")) == 2, "another split does not suffer"


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (thing(extra="<difficult>2</difficult>"), "difficult is '2'"),
        (thing(quad=((20, "x"), *QUAD[1:])), "'x' is not a number"),
        (thing(quad=((20, ""), *QUAD[1:])), "robndbox lacks y_left_top: write all of"),
        (thing(quad=((20, "nan"), *QUAD[1:])), "y_left_top nan is not finite"),
        (thing(quad=((20, "1,5"), *QUAD[1:])), "write decimals with a point"),
        (thing(quad=((9, 9),) * 4), "the box has no area"),
        (thing(quad=((100, 9), (120, 9), (120, 19), (100, 19))), "outside the image of 96x64 pixels"),
        (thing(name=""), "object has no name"),
        (thing(name="a//b"), "'a//b' is not a class name"),
        (thing(name="../b"), "'../b' is not a class name"),
        (
            "<object><name>dam</name><bndbox><xmin>1</xmin></bndbox></object>\n",
            "object has no robndbox: label oriented",
        ),
    ],
)
def test_a_bad_object_is_named_by_file_and_line(tmp_path: Path, bad: str, what: str) -> None:
    make(tmp_path, thing(), bad, thing())
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path, "train")
    head, line = str(caught.value).split("\n")
    assert head.startswith("1 problem in the labels")
    assert line.startswith(f"  {tmp_path}/Annotations/Oriented Bounding Boxes/00001.xml:4: ")
    assert what in line
    assert len(open_dataset(tmp_path, "train", skip_bad_labels=True).labels) == 2


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"", 1, "no element found"),
        (b"<annotation>\n<object>\n", 3, "no element found"),
        (b"<annotation>\n<object></annotation>", 2, "mismatched tag"),
        (b"<annotation>\n\0</annotation>", 2, "not well-formed"),
        (b"<annotation>\n\xff</annotation>", 2, "not well-formed"),
        (b"<?xml version='1.0' encoding='nonsense'?>\n<annotation/>", 1, "unknown encoding"),
        (b"<annotation/><annotation/>", 1, "junk after document element"),
        (b"<a>" * 40, 1, "elements nested more than 32 deep"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]>\n<annotation>&x;</annotation>", 1, "a document type is not allowed"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>\n<annotation/>", 1, "a document type is not allowed"),
    ],
)
def test_damaged_xml_is_named_by_line_and_never_skipped(tmp_path: Path, content: bytes, line: int, what: str) -> None:
    make(tmp_path)
    path = tmp_path / "Annotations" / "Oriented Bounding Boxes" / "00001.xml"
    path.write_bytes(content)
    for skip in (False, True):
        with pytest.raises(DataError, match=rf"1 problem.*\n.*00001\.xml:{line}: not XML: {what}"):
            open_dataset(tmp_path, "train", skip_bad_labels=skip)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    make(tmp_path)
    head = f"<?xml version='1.0' encoding='{encoding.removesuffix('-sig')}'?>"
    content = f"{head}<annotation>{thing('hangar-é')}</annotation>"
    (tmp_path / "Annotations" / "Oriented Bounding Boxes" / "00001.xml").write_bytes(content.encode(encoding))
    assert open_dataset(tmp_path, "train").classes == ("hangar-é",)


def test_sizes_must_agree_where_they_are_stated(tmp_path: Path) -> None:
    size = "<size>\n<width>800</width><height>64</height></size>"
    with pytest.raises(DataError, match=r"00001\.xml:3: it states 800x64 pixels, .*00001\.jpg has 96x64: restore"):
        open_dataset(make(tmp_path, thing(), size=size), "train")


def test_a_difficult_tag_may_be_missing(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, thing(), thing(extra="<difficult>1</difficult>")), "train")
    assert dataset.difficult.tolist() == [False, True]
    assert dataset.notes == ("1 labels without a difficult field, taken as 0",)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample data are not beside the checkout")
def test_the_real_sample(tmp_path: Path) -> None:
    for folder in ("JPEGImages-trainval", "Annotations/Oriented Bounding Boxes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "JPEGImages-trainval" / "00001.jpg").symlink_to(SHARED / "00001.jpg")
    (tmp_path / "Annotations" / "Oriented Bounding Boxes" / "00001.xml").symlink_to(SHARED / "00001_obb.xml")
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "00001\n")
    dataset = open_dataset(tmp_path, "train", DIOR)
    assert dataset.read(0).shape == (800, 800, 3)
    assert [dataset.classes[label] for label in dataset.labels] == ["golffield"]
    assert dataset.quads[0].tolist() == [[133, 237], [684, 237], [684, 672], [133, 672]]
    assert dataset.boxes[0].tolist() == pytest.approx([408.5, 454.5, 551, 435, 0], abs=1e-3)
