"""FAIR1M: five points as text, names with spaces, numbers that begin anew in each part."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import fair1m, image, text

from fledge.data.catalogue.fair1m import FAIR1M_CLASSES
from fledge.data.conversion import convert_dataset
from fledge.data.datasets import find_splits, open_dataset
from fledge.errors import DataError

RING = ("10,10", "30, 12", " 29.0,22.5", "9,20", "10,10")


def thing(name: str = "Boeing737", ring: tuple[str, ...] = RING, result: str = "possibleresult") -> str:
    points = "".join(f"<point>{point}</point>" for point in ring)
    return f"<object><{result}><name>{name}</name></{result}>\n<points>{points}</points></object>\n"


def make(root: Path, *objects: str, part: str = "train/part1", labels: str = "labelXml") -> Path:
    image(root / part / "images" / "0.tif")
    text(root / part / labels / "0.xml", f"<annotation>\n<objects>\n{''.join(objects)}</objects></annotation>")
    return root


def test_the_fifth_point_repeats_the_first(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, thing(), thing(ring=RING[:4])), "train")
    assert dataset.quads.tolist() == [[[10, 10], [30, 12], [29, 22.5], [9, 20]]] * 2
    assert (dataset.classes, dataset.difficult.tolist(), dataset.notes) == (("Boeing737",), [False] * 2, ())


def test_parts_of_a_split_use_the_same_numbers(tmp_path: Path) -> None:
    make(tmp_path, thing("Van"))
    make(tmp_path, thing("other-ship"), part="train/part2", labels="labelXmls")
    make(tmp_path, thing("Bus"), part="validation")
    (tmp_path / "test" / "images").mkdir(parents=True)
    assert find_splits(tmp_path) == {"train": "train", "val": "validation"}
    dataset = open_dataset(tmp_path, "train")
    assert dataset.ids == ("part1_0", "part2_0")
    assert [dataset.classes[dataset.targets(i).labels[0]] for i in range(2)] == ["Van", "other-ship"]
    assert open_dataset(tmp_path, "validation").ids == ("0",)


def test_names_are_matched_with_spaces_hyphens_and_underscores(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, thing("Dry_Cargo_Ship"), thing("other vehicle"), thing("c919")), "train")
    assert dataset.classes == ("Dry Cargo Ship", "other-vehicle", "C919")
    assert open_dataset(tmp_path, "train", FAIR1M_CLASSES).labels.tolist() == [7, 13, 24]
    assert len(FAIR1M_CLASSES) == 37


def test_conversion_keeps_the_images_of_both_parts(tmp_path: Path) -> None:
    fair1m(tmp_path / "in")
    (tmp_path / "in" / "train" / "part1" / "images" / "a1.tif").rename(
        tmp_path / "in" / "train" / "part1" / "images" / "a3.tif"
    )
    (tmp_path / "in" / "train" / "part1" / "labelXml" / "a1.xml").rename(
        tmp_path / "in" / "train" / "part1" / "labelXml" / "a3.xml"
    )
    before = open_dataset(tmp_path / "in", "train")
    convert_dataset(tmp_path / "in", tmp_path / "out", "dota", ["train"])
    after = open_dataset(tmp_path / "out", "train")
    assert before.ids == after.ids == ("part1_a2", "part1_a3", "part2_a3")
    assert before.offsets.tolist() == after.offsets.tolist()


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (thing(ring=RING[:3]), "3 corners instead of 4"),
        (thing(ring=(*RING[:4], "11,10")), "5 corners instead of 4"),
        (thing(ring=("10 10", *RING[1:])), "point is '10 10': write four corners"),
        (thing(ring=("10,ten", *RING[1:])), "'ten' is not a number"),
        (thing(ring=("1,2,3", *RING[1:])), "point is '1,2,3'"),
        (thing(result="result"), "object has no possibleresult"),
        (thing(name=""), "object has no name"),
    ],
)
def test_a_bad_object_is_named_by_file_and_line(tmp_path: Path, bad: str, what: str) -> None:
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*part1/labelXml/0\.xml:5: {what}"):
        open_dataset(make(tmp_path, thing(), bad), "train")


def test_a_missing_label_file(tmp_path: Path) -> None:
    image(make(tmp_path, thing()) / "train" / "part1" / "images" / "1.tif")
    with pytest.raises(DataError, match=r"1 of 2 images have no label file: .*part1/labelXml: 1\.tif"):
        open_dataset(tmp_path, "train")
