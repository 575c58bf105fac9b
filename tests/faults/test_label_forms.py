"""Faults in the labels of each form, with the place that the message must name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.miniatures import MINIATURES, text

from fledge.data.conversion import convert_dataset
from fledge.data.datasets import FORMATS, open_dataset
from fledge.errors import DataError

# A word of a label file: a number, a name, or the text between two tags, quotes or commas.
WORD = re.compile(rb"[^\s<>\"',:{}\[\]()]+")
NASTY = [
    b"nan",
    b"inf",
    b"-",
    b"1e999",
    b"9" * 400,
    b"0x1F",
    b"1_0",
    b"",
    b" ",
    b"\xff",
    b"\0",
    b"\xd9\xa3",
    b"&",
    b"<x>",
    b"]",
]
NASTY += [b"null", b"-1e5", b"1,5", b"../../x", b"1e-300", b"true", b'"', b"\n", b"<!--", b"name", b"{", b"0"]


def label_file(root: Path, form: str) -> Path:
    """The label file of the first image of the split ``train``, or of all its images."""
    names, suffixes = ("a1", "P0001", "train", "instances_train"), (".txt", ".xml", ".json", ".geojson")
    found = [path for path in sorted(root.rglob("*")) if path.stem in names and path.suffix in suffixes]
    labels = [path for path in found if "ImageSets" not in path.parts and b"<x_right_top>" in path.read_bytes()]
    return (labels or [path for path in found if "ImageSets" not in path.parts])[0]


@pytest.mark.parametrize("form", FORMATS)
def test_any_word_of_a_label_file_replaced(form: str, tmp_path: Path) -> None:
    """Any word of a label file replaced by something that is no number, name or text: read, or refused with the file
    and the line, annotation or feature; never another error."""
    MINIATURES[form](tmp_path)
    path = label_file(tmp_path, form)
    whole = path.read_bytes()
    words = [found.span() for found in WORD.finditer(whole)]
    place = re.compile(
        rf"{re.escape(str(path))}(:\d+|: (annotation|image|category|feature)[ \w]*|: it has no list.*): "
    )
    unrecognised = re.compile(r"no split 'train'|not a dataset")  # the word by which the form is known was replaced
    refused = 0

    @settings(max_examples=40, derandomize=True, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(words), st.sampled_from(NASTY)), min_size=1, max_size=3))
    def check(changes: list[tuple[tuple[int, int], bytes]]) -> None:
        nonlocal refused
        content = whole
        for (start, end), new in sorted(changes, reverse=True):
            content = content[:start] + new + content[end:]
        path.write_bytes(content)
        message = ""
        try:
            open_dataset(tmp_path, "train", form=form)
        except DataError as error:
            message = str(error)
            refused += 1
        path.write_bytes(whole)
        head, *lines = message.split("\n")
        listed = [line for line in lines if line.startswith(f"  {tmp_path}")] or [head]
        assert not message or unrecognised.match(head) or all(place.search(f"{line}: ") for line in listed), message

    check()
    assert refused >= 10


def test_a_damaged_geopackage(tmp_path: Path) -> None:
    """Bytes of a GeoPackage overwritten or cut off: read, or refused with the file, and the feature where it can be
    told; never another error."""
    MINIATURES["geo"](tmp_path / "geo")
    convert_dataset(tmp_path / "geo", tmp_path / "out", "geopackage")
    path = tmp_path / "out" / "train" / "labels.gpkg"
    whole = path.read_bytes()
    kept = [at for at in range(len(whole)) if whole[at]]  # most of the pages of so small a file are empty
    refused = 0

    @settings(max_examples=60, derandomize=True, deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(kept), st.integers(0, 255)), min_size=1, max_size=40),
        st.none() | st.integers(0, len(whole)),
    )
    def check(changes: list[tuple[int, int]], end: int | None) -> None:
        nonlocal refused
        content = bytearray(whole)
        for at, value in changes:
            content[at] = value
        path.write_bytes(content[:end])
        message = ""
        try:
            open_dataset(tmp_path / "out", "train")
        except DataError as error:
            refused += 1
            message = str(error)
        assert not message or str(path) in message

    check()
    assert refused >= 10


# A label file an image, in a folder of its own or beside the image: where that of the first training image lies.
FILE_PER_IMAGE = {
    "ohd_sjtu": "train/rotation_txt/a1.txt",
    "fair1m": "train/part1/labelXml/a1.xml",
    "nwpu_vhr10": "ground truth/a1.txt",
    "ucas_aod": "CAR/P0001.txt",
    "rsdd": "Annotations/a1.xml",
    "shiprsimagenet": "VOC_Format/annotations/a1.xml",
    "dior": "Annotations/Horizontal Bounding Boxes/a1.xml",
    "hrrsd": "OPT2017/Annotations/a1.xml",
    "voc": "Annotations/a1.xml",
    "geo": "train/labels/a1.geojson",
}
EMPTY = {".txt": "", ".xml": "<annotation></annotation>", ".geojson": '{"type": "FeatureCollection", "features": []}'}


@pytest.mark.parametrize("form", FILE_PER_IMAGE)
def test_empty_and_missing_label_files_of_public_sets(form: str, tmp_path: Path) -> None:
    """A label file without objects is an image without objects; a lost one is an error unless that is allowed."""
    MINIATURES[form](tmp_path)
    path = tmp_path / FILE_PER_IMAGE[form]
    assert open_dataset(tmp_path, "train").summary().empty == 1
    text(path, EMPTY[path.suffix])
    assert open_dataset(tmp_path, "train").offsets.tolist() == [0, 0, 0, 3]
    path.unlink()
    with pytest.raises(DataError, match=rf"^1 of 3 images have no label file: {path.parent}: .*--allow-unlabelled"):
        open_dataset(tmp_path, "train")
    allowed = open_dataset(tmp_path, "train", allow_unlabelled=True)
    assert allowed.offsets.tolist() == [0, 0, 0, 3]
    assert "1 images without a label file, taken as images without objects" in allowed.notes


def corners_of_first(form: str, corners: list[tuple[float, float]], path: Path) -> None:
    """Write a label file of one object with these corners, in one of the forms that know corners."""
    flat = [value for corner in corners for value in corner]
    tags = "".join(f"<{'xy'[k % 2]}{k // 2 + 1}>{v}</{'xy'[k % 2]}{k // 2 + 1}>" for k, v in enumerate(flat))
    points = "".join(f"<point>{x},{y}</point>" for x, y in [*corners, corners[0]])
    levels = "".join(f"<level_{k}>1</level_{k}>" for k in range(4))
    contents = {
        "ohd_sjtu": f"{' '.join(map(str, flat))} 15 10 ship 0",
        "ucas_aod": f"{' '.join(map(str, flat))} 0 1 1 1 1",
        "fair1m": f"<a><object><possibleresult><name>Bus</name></possibleresult><points>{points}</points></object></a>",
        "shiprsimagenet": f"<a><object><name>Dock</name>{levels}<polygon>{tags}</polygon></object></a>",
        "ssdd": f"<a><object><name>ship</name><rotated_bndbox>{tags}</rotated_bndbox></object></a>",
    }
    text(path, contents[form])


CORNERS = {"ssdd": "RBox_SSDD/voc_style/Annotations_train/a1.xml", **FILE_PER_IMAGE}
KINDS = {
    "bow-tie": ([(10, 10), (30, 20), (30, 10), (10, 20)], "with crossing sides, put in order"),
    "counter-clockwise": ([(10, 20), (30, 20), (30, 10), (10, 10)], "with their corners counter-clockwise, kept so"),
    "triangle": ([(10, 10), (30, 10), (30, 30), (30, 30)], "with a repeated corner, kept as triangles"),
    "concave": ([(10, 10), (40, 10), (20, 14), (10, 40)], "that fill less than half of their rectangle"),
    "a line": ([(10, 10), (20, 20), (30, 30), (40, 40)], ""),
    "a point": ([(10, 10)] * 4, ""),
    "outside": ([(100, 10), (120, 10), (120, 20), (100, 20)], ""),
}


@pytest.mark.parametrize("form", ["ohd_sjtu", "ucas_aod", "fair1m", "shiprsimagenet", "ssdd"])
def test_polygons_of_public_sets(form: str, tmp_path: Path) -> None:
    """Corners of any form that knows them: kept where they make an object, mended where there is one way, else refused
    with the line."""
    MINIATURES[form](tmp_path)
    path = tmp_path / CORNERS[form]
    for corners, note in KINDS.values():
        corners_of_first(form, [(float(x), float(y)) for x, y in corners], path)
        if note:
            dataset = open_dataset(tmp_path, "train")
            assert any(sentence.startswith("1 ") and sentence.endswith(note) for sentence in dataset.notes)
            assert sorted(set(map(tuple, dataset.quads[0].tolist()))) == sorted(set(corners)), "no corner is moved"
        else:
            with pytest.raises(DataError, match=rf"^1 problem in .*\n  {path}:1: the box (has no area|lies outside)"):
                open_dataset(tmp_path, "train")


@pytest.mark.slow
def test_two_hundred_thousand_objects_in_one_image(tmp_path: Path) -> None:
    """A label file of 200,000 lines is read like any other, the bad ones counted, the first twenty shown."""
    MINIATURES["dota"](tmp_path)
    lines = [
        f"{x}.5 {y}.5 {x + 1} {y}.5 {x + 1} {y + 1} {x}.5 {y + 1} plane 0" for x in range(80) for y in range(50)
    ] * 50
    path = tmp_path / "train" / "labelTxt" / "a1.txt"
    text(path, "\n".join(lines))
    assert int(open_dataset(tmp_path, "train").offsets[1]) == len(lines) == 200_000
    text(path, "\n".join([*lines[:100], *["bad"] * 20_000]))
    with pytest.raises(DataError, match=r"^20000 problems in the labels") as caught:
        open_dataset(tmp_path, "train")
    assert len(str(caught.value).split("\n")) == 22
