"""OHD-SJTU: twelve fields, the head point among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.miniatures import dota, image, text

from fledge.data.catalogue.ohd_sjtu import OHD_L_CLASSES, OHD_S_CLASSES
from fledge.data.datasets import detect_format, open_dataset
from fledge.errors import DataError

QUAD = "10 10 30 12 29 22 9 20"
GOOD = f"{QUAD} 20 11 plane 0"


def make(root: Path, content: str, folder: str = "rotation_txt") -> Path:
    image(root / "test" / "images" / "P30.jpg")
    text(root / "test" / folder / "P30.txt", content)
    return root


def test_the_class_is_the_eleventh_field_and_the_corners_keep_their_order(tmp_path: Path) -> None:
    """A reader made for DOTA would call the class 20. The head is at corners 1 and 2."""
    turned = "29 22 9 20 10 10 30 12 19 21 ship 1"
    dataset = open_dataset(make(tmp_path, f"{GOOD}\n{turned}"), "test")
    assert dataset.classes == ("ship", "plane")
    assert (dataset.labels.tolist(), dataset.difficult.tolist()) == ([1, 0], [False, True])
    assert dataset.quads[0].reshape(-1).tolist() == [float(v) for v in QUAD.split()]
    for quad, head in zip(dataset.quads, ([20, 11], [19, 21]), strict=True):
        assert quad[:2].mean(axis=0).tolist() == head


def test_orders_of_s_and_l(tmp_path: Path) -> None:
    lines = [GOOD.replace("plane", name) for name in ("harbor", "small-vehicle", "plane")]
    dataset = open_dataset(make(tmp_path, "\n".join(lines)), "test")
    assert dataset.classes == ("plane", "small-vehicle", "harbor")
    assert OHD_L_CLASSES[:2] == OHD_S_CLASSES == ("ship", "plane")


def test_eleven_fields_are_not_difficult(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, GOOD[:-2]), "test")
    assert (dataset.difficult.tolist(), dataset.notes) == ([False], ("1 labels without a difficult field, taken as 0",))


def test_dota_labels_here_and_these_labels_in_dota(tmp_path: Path) -> None:
    """Ten and twelve fields are never taken for each other; the message says what they are."""
    make(tmp_path / "a", f"{QUAD} plane 0")
    with pytest.raises(DataError, match=r"P30\.txt:1: 10 fields instead of 11 or 12 \(9 or 10 are DOTA's form"):
        open_dataset(tmp_path / "a", "test")
    make(tmp_path / "b", GOOD, folder="labelTxt")
    assert detect_format(tmp_path / "b") == "dota"
    with pytest.raises(DataError, match=r"P30\.txt:1: 12 fields instead of 9 or 10 \(11 or 12 are OHD-SJTU's form"):
        open_dataset(tmp_path / "b", "test")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"{QUAD} 20 head plane 0", "'head' is not a number"),
        (f"{QUAD} 20 nan plane 0", "coordinate nan is not finite"),
        (f"{GOOD} 0", "13 fields instead of 11 or 12"),
        (f"{GOOD[:-1]}3", "difficult is '3'"),
    ],
)
def test_a_bad_line(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(DataError, match=rf"P30\.txt:2: {what}"):
        open_dataset(make(tmp_path, f"{GOOD}\n{line}"), "test")


def test_horizontal_dota(tmp_path: Path) -> None:
    """Task 2: the least and greatest coordinates of the corners, also of a quadrilateral that is no rectangle."""
    dota(tmp_path)
    text(tmp_path / "train" / "labelTxt" / "a1.txt", "10 10 50 12 45 20 15 25 plane 0\n-5 1 9 1 9 9 -5 9 ship 1")
    dataset = open_dataset(tmp_path, "train", form="dota_hbb")
    assert dataset.quads[0].tolist() == [[10, 10], [50, 10], [50, 25], [10, 25]]
    assert dataset.boxes[:2].tolist() == [pytest.approx([30, 17.5, 40, 15, 0]), pytest.approx([2, 5, 14, 8, 0])]
    assert open_dataset(tmp_path, "train").quads[0, 3].tolist() == [15, 25]
