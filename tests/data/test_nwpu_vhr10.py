"""NWPU VHR-10: brackets, blanks, and two folders with the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import image, text

from fledge.data.datasets import find_splits, open_dataset
from fledge.errors import DataError


def make(root: Path, content: str = "(10,5),(40,25),1") -> Path:
    image(root / "positive image set" / "001.jpg")
    image(root / "negative image set" / "001.jpg")
    text(root / "ground truth" / "001.txt", content)
    return root


def test_without_lists_the_whole_set_is_one_split(tmp_path: Path) -> None:
    assert find_splits(make(tmp_path)) == {"all": ""}
    dataset = open_dataset(tmp_path, "")
    assert (dataset.ids, dataset.offsets.tolist()) == (("001", "negative_001"), [0, 1, 1])
    assert len(dataset.classes) == 10
    assert dataset.notes == ()


def test_blanks_and_numbers_of_classes(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, " ( 10 , 5 ) , ( 40 , 25 ) , 10 \r\n\r\n(1,1),(9,9),2"), "")
    assert [dataset.classes[label] for label in dataset.labels] == ["vehicle", "ship"]
    assert dataset.quads[0].tolist() == [[10, 5], [40, 5], [40, 25], [10, 25]]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("10,5,40,25,1", "'10,5,40,25,1' is no object: write"),
        ("(10,5),(40,25)", "is no object"),
        ("(10,5),(40,25),0", "class is 0: write a number from 1 to 10"),
        ("(10,5),(40,25),11", "class is 11"),
        ("(40,5),(10,25),1", r"the box from \(40, 5\) to \(10, 25\) has no area"),
        ("(10,5),(4\0,25),1", "contains a NUL byte"),
    ],
)
def test_a_bad_line(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*ground truth/001\.txt:2: .*{what}"):
        open_dataset(make(tmp_path, f"(10,5),(40,25),1\n{line}"), "")


def test_a_positive_image_needs_labels(tmp_path: Path) -> None:
    image(make(tmp_path) / "positive image set" / "002.jpg")
    with pytest.raises(DataError, match=r"1 of 3 images have no label file: .*ground truth: 002\.jpg"):
        open_dataset(tmp_path, "")
    text(tmp_path / "ImageSets" / "train.txt", "001\nnegative_001\nnegative_002\n")
    with pytest.raises(DataError, match=r"train\.txt:3: 'negative_002' has no image file"):
        open_dataset(tmp_path, "train")
