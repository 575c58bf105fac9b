"""UCAS-AOD: thirteen numbers, the class by the folder, names that both folders use."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import image, text

from fledge.data.datasets import find_splits, open_dataset
from fledge.errors import DataError

LINE = "1.0e+01 1.0e+01\t3.0e+01 1.2e+01 2.9e+01 2.2e+01 9 20 5.7e+00 9 10 21 12"


def make(root: Path, content: str = LINE) -> Path:
    for part in ("CAR", "PLANE", "Neg"):
        image(root / part / "P0001.png")
    text(root / "CAR" / "P0001.txt", LINE)
    text(root / "PLANE" / "P0001.txt", content)
    return root


def test_the_folder_is_the_class_and_airplanes_are_numbered_on(tmp_path: Path) -> None:
    assert find_splits(make(tmp_path)) == {"all": ""}
    dataset = open_dataset(tmp_path, "")
    assert dataset.ids == ("P0001", "P0511", "Neg_P0001")
    assert (dataset.classes, dataset.labels.tolist(), dataset.offsets.tolist()) == (
        ("car", "airplane"),
        [0, 1],
        [0, 1, 2, 2],
    )
    assert dataset.quads[1].tolist() == [[10, 10], [30, 12], [29, 22], [9, 20]]


def test_lists_in_the_numbering_that_circulates(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "ImageSets" / "train.txt", "P0511.png\n")
    text(tmp_path / "ImageSets" / "test.txt", "P0001\nP0002\n")
    dataset = open_dataset(tmp_path, "train")
    assert (dataset.ids, dataset.paths[0].parent.name) == (("P0511",), "PLANE")
    with pytest.raises(DataError, match=r"test\.txt:2: 'P0002' has no image file"):
        open_dataset(tmp_path, "test")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (" ".join(LINE.split()[:12]), "12 numbers instead of 13"),
        (f"{LINE} airplane", "14 numbers instead of 13"),
        (LINE.replace("5.7e+00", "nan"), "number nan is not finite"),
        (LINE.replace("9 20", "9 1e9"), r"number 1e9 is beyond"),
    ],
)
def test_a_bad_line(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*PLANE/P0001\.txt:2: {what}"):
        open_dataset(make(tmp_path, f"{LINE}\n{line}"), "")


def test_an_image_of_an_airplane_needs_labels(tmp_path: Path) -> None:
    (make(tmp_path) / "PLANE" / "P0001.txt").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images have no label file: .*PLANE: P0001\.png"):
        open_dataset(tmp_path, "")
