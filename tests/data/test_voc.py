"""Horizontal boxes in Pascal VOC XML: DIOR, HRRSD, SAR-AIRcraft-1.0."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import MINIATURES, image, text

from fledge.data.catalogue.dior import DIOR_CLASSES
from fledge.data.catalogue.hrrsd import HRRSD_CLASSES
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT_CLASSES
from fledge.data.datasets import detect_format, open_dataset
from fledge.errors import DataError
from fledge.inference.writers import write_detections
from fledge.types import Detections, Frame


def thing(name: str, *edges: object, extra: str = "") -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=False))
    return f"<object><name>{name}</name>{extra}\n<bndbox>{tags}</bndbox></object>\n"


def make(root: Path, *objects: str, base: str = ".") -> Path:
    image(root / base / "JPEGImages" / "1.jpg")
    text(root / base / "ImageSets" / "Main" / "train.txt", "1\n")
    owner = "<source><owner><name>somebody</name></owner></source>"
    text(root / base / "Annotations" / "1.xml", f"<annotation>{owner}\n{''.join(objects)}</annotation>")
    return root


def test_edges_are_taken_as_they_are(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, thing("dam", 10, 5, 40, 25), thing("dam", -3, 0.5, 9, 70)), "train")
    assert dataset.quads[0].tolist() == [[10, 5], [40, 5], [40, 25], [10, 25]]
    assert dataset.boxes[0].tolist() == pytest.approx([25, 15, 30, 20, 0])
    assert (dataset.quads[1].min(), dataset.quads[1].max()) == (-3, 70), "a box that leaves the image stays whole"


@pytest.mark.parametrize("classes", [DIOR_CLASSES, SAR_AIRCRAFT_CLASSES])
def test_official_order(tmp_path: Path, classes: tuple[str, ...]) -> None:
    names = [classes[k] for k in (6, 0, 2)]
    dataset = open_dataset(make(tmp_path, *(thing(name.upper(), 10, 5, 40, 25) for name in names)), "train")
    assert dataset.classes == (classes[0], classes[2], classes[6])
    assert dataset.labels.tolist() == [2, 0, 1]


def test_hrrsd_has_a_folder_and_an_order_of_its_own(tmp_path: Path) -> None:
    """Its names are joined elsewhere, and T junction has a capital: both are matched, the official spelling stays."""
    names = ("parking lot", "T junction", "ground track field", "harbor")
    make(tmp_path, *(thing(name.lower().replace(" ", "_"), 10, 5, 40, 25) for name in names), base="OPT2017")
    assert detect_format(tmp_path) == "hrrsd"
    dataset = open_dataset(tmp_path, "train")
    assert dataset.classes == ("ground track field", "harbor", "T junction", "parking lot")
    assert open_dataset(tmp_path, "train", HRRSD_CLASSES).labels.tolist() == [12, 11, 2, 8]


def test_dior_and_dior_r_in_one_folder(tmp_path: Path) -> None:
    """The official archive has both: the oriented boxes come first, the horizontal ones are asked for by name."""
    MINIATURES["dior"](tmp_path / "both")
    assert detect_format(tmp_path / "both") == "dior"
    MINIATURES["dior_r"](tmp_path / "r")
    oriented = "Annotations/Oriented Bounding Boxes"
    (tmp_path / "r" / oriented).rename(tmp_path / "both" / oriented)
    assert detect_format(tmp_path / "both") == "dior_r"
    assert abs(open_dataset(tmp_path / "both", "train").boxes[0, 4]) > 0.1
    upright = open_dataset(tmp_path / "both", "train", form="dior")
    assert (upright.format, upright.boxes[0, 4]) == ("dior", 0)


def test_dior_with_all_labels_in_one_folder(tmp_path: Path) -> None:
    MINIATURES["dior"](tmp_path)
    (tmp_path / "Annotations" / "Horizontal Bounding Boxes").rename(tmp_path / "labels")
    (tmp_path / "Annotations").rmdir()
    (tmp_path / "labels").rename(tmp_path / "Annotations")
    dataset = open_dataset(tmp_path, "test")
    assert (dataset.format, dataset.classes) == ("voc", ("Expressway-toll-station", "dam"))
    assert dataset.paths[0].parent.name == "JPEGImages-test"


def test_a_class_with_a_slash(tmp_path: Path) -> None:
    """A320/321 is read as it is, never becomes a folder, and is found again by the name of its file."""
    dataset = open_dataset(make(tmp_path, thing("A320/321", 10, 5, 40, 25), thing("other", 1, 1, 9, 9)), "train")
    assert dataset.classes == ("A320/321", "other")
    frame = Frame("1", (64, 96))
    boxes = dataset.targets(0).boxes
    found = Detections(boxes, boxes[:, 0] / 100, dataset.targets(0).labels, dataset.classes, frame)
    written = write_detections([found], tmp_path / "found", "dota")
    assert sorted(path.name for path in written) == ["Task1_A320_321.txt", "Task1_other.txt"]
    assert open_dataset(tmp_path, "train", ["A320_321", "other"]).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (thing("dam", 40, 5, 10, 25), r"the box from \(40, 5\) to \(10, 25\) has no area: write the top left corner"),
        (thing("dam", 10, 5, 10, 25), "has no area"),
        (thing("dam", 10, 5, 40), "bndbox lacks ymax: write all of xmin, ymin, xmax, ymax"),
        (thing("dam", 10, 5, 40, "1,5"), "write decimals with a point"),
        (thing("", 10, 5, 40, 25), "object has no name"),
        (thing("dam", 10, 5, 40, 25, extra="<difficult>9</difficult>"), "difficult is '9'"),
        (thing("dam", 200, 5, 240, 25), "outside the image of 96x64 pixels"),
        ("<object><name>dam</name></object>\n", "object has no bndbox"),
    ],
)
def test_a_bad_object_is_named_by_file_and_line(tmp_path: Path, bad: str, what: str) -> None:
    make(tmp_path, thing("dam", 10, 5, 40, 25), bad)
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*Annotations/1\.xml:4: .*{what}"):
        open_dataset(tmp_path, "train")
    assert len(open_dataset(tmp_path, "train", skip_bad_labels=True).labels) == 1
