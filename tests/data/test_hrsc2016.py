"""HRSC2016: lists decide, one class, angles in radians clockwise on screen."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.data.miniatures import HEIGHT, WIDTH, hrsc2016, image, text

from fledge.data.datasets import detect_format, find_splits, open_dataset
from fledge.errors import DataError

TAGS = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


def ship(*box: object, extra: str = "") -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(TAGS, box, strict=False))
    return f"<HRSC_Object><Class_ID>100000006</Class_ID>{extra}{tags}</HRSC_Object>\n"


def make(root: Path, *ships: str, width: int = WIDTH, height: int = HEIGHT) -> Path:
    image(root / "FullDataSet" / "AllImages" / "1.bmp")
    text(root / "ImageSets" / "test.txt", "1\n")
    content = (
        f"<HRSC_Image>\n<Img_SizeWidth>{width}</Img_SizeWidth>\n<Img_SizeHeight>{height}</Img_SizeHeight>"
        f"<HRSC_Objects>\n{''.join(ships)}</HRSC_Objects></HRSC_Image>"
    )
    text(root / "FullDataSet" / "Annotations" / "1.xml", content)
    return root


def test_a_box_is_turned_clockwise_on_screen(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, ship(48, 32, 40, 10, 0.5)), "test")
    assert dataset.boxes[0].tolist() == pytest.approx([48, 32, 40, 10, 0.5], abs=1e-5)
    bow = dataset.quads[0, 1:3].mean(axis=0)
    assert bow == pytest.approx([48 + 20 * math.cos(0.5), 32 + 20 * math.sin(0.5)], abs=1e-4), "y grows downwards"


def test_lists_decide_not_the_folders(tmp_path: Path) -> None:
    """The archive holds images that no list names, and a list trainval that repeats train and val."""
    hrsc2016(tmp_path)
    assert find_splits(tmp_path) == {"train": "train", "val": "val"}
    assert open_dataset(tmp_path, "train").ids == ("a1", "a2", "a3")
    assert len(open_dataset(tmp_path, "trainval")) == 5
    for name in ("train", "val"):
        (tmp_path / "ImageSets" / f"{name}.txt").unlink()
    assert find_splits(tmp_path) == {"train": "trainval", "val": "test"}
    assert len(open_dataset(tmp_path, "trainval")) == 5


@pytest.mark.parametrize("images", ["AllImages", "JPEGImages"])
def test_folders_train_and_test(tmp_path: Path, images: str) -> None:
    for base, stem in (("Train", "1"), ("Test", "2")):
        image(tmp_path / base / images / f"{stem}.bmp")
        text(tmp_path / base / "Annotations" / f"{stem}.xml", f"<HRSC_Image>{ship(48, 32, 40, 10, 0)}</HRSC_Image>")
        text(tmp_path / "ImageSets" / f"{'trainval' if stem == '1' else 'test'}.txt", f"{stem}.bmp\n")
    assert detect_format(tmp_path) == "hrsc2016"
    for split in ("trainval", "test"):
        assert len(open_dataset(tmp_path, split).labels) == 1


def test_an_image_without_ships(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "FullDataSet" / "Annotations" / "9.xml", f"<HRSC_Image>{ship(1, 1, 1, 1, 0)}</HRSC_Image>")
    dataset = open_dataset(tmp_path, "test")
    assert (dataset.classes, dataset.summary().empty) == (("ship",), 1)


def test_width_and_height_are_not_confused(tmp_path: Path) -> None:
    open_dataset(make(tmp_path, ship(48, 32, 40, 10, 0)), "test")
    with pytest.raises(DataError, match=r"1\.xml:2: it states 64x96 pixels, .*1\.bmp has 96x64"):
        open_dataset(make(tmp_path, ship(48, 32, 40, 10, 0), width=HEIGHT, height=WIDTH), "test")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (ship(48, 32, 40, 10), "HRSC_Object lacks mbox_ang"),
        (ship(48, 32, 40, 10, 30), "angle 30 is more than a full turn, so not in radians"),
        (ship(48, 32, 40, 0, 0), "the box has no area"),
        (ship(48, 32, -40, 10, 0), "the box has no area"),
        (ship(148, 32, 40, 10, 0), "outside the image"),
        (ship(48, 32, 40, 10, 0, extra="<difficult>yes</difficult>"), "difficult is 'yes'"),
    ],
)
def test_a_bad_ship_is_named_by_file_and_line(tmp_path: Path, bad: str, what: str) -> None:
    make(tmp_path, ship(48, 32, 40, 10, 0), bad)
    with pytest.raises(DataError, match=rf"^1 problem in.*\n  .*Annotations/1\.xml:5: .*{what}"):
        open_dataset(tmp_path, "test")
    assert len(open_dataset(tmp_path, "test", skip_bad_labels=True).labels) == 1


def test_a_checkpoint_of_another_kind_is_refused_and_a_renaming_helps(tmp_path: Path) -> None:
    make(tmp_path, ship(48, 32, 40, 10, 0))
    with pytest.raises(DataError, match="the labels name ship; the classes are plane, vessel"):
        open_dataset(tmp_path, "test", ["plane", "vessel"])
    assert open_dataset(tmp_path, "test", ["plane", "vessel"], remap={"ship": "vessel"}).labels.tolist() == [1]


def test_types_of_ships_by_the_last_digits_of_their_id(tmp_path: Path) -> None:
    """There is no 21 and no 23, so a list by position goes wrong from there on: these go by the number."""
    ships = [ship(48, 32, 40, 10, 0).replace("100000006", f"1000000{number}") for number in ("22", "01", "33")]
    dataset = open_dataset(make(tmp_path, *ships), "test", form="hrsc2016_types")
    assert (dataset.format, dataset.classes) == ("hrsc2016_types", ("ship", "Hovercraft", "Invincible-class"))
    assert dataset.labels.tolist() == [1, 0, 2]
    assert open_dataset(tmp_path, "test").classes == ("ship",)
    bad = ["100000021", "100000000", "22", "ship", ""]
    make(tmp_path, *(ship(48, 32, 40, 10, 0).replace("100000006", number) for number in bad))
    with pytest.raises(DataError, match=r"^5 problems in.*\n  .*1\.xml:4: Class_ID is '100000021': write 1000000"):
        open_dataset(tmp_path, "test", form="hrsc2016_types")


def test_a_renaming_names_the_classes(tmp_path: Path) -> None:
    """Without a class list the renamed one counts; that of a format with fixed classes, too."""
    dataset = open_dataset(make(tmp_path, ship(48, 32, 40, 10, 0)), "test", remap={"ship": "vessel"})
    assert (dataset.classes, dataset.labels.tolist()) == (("vessel",), [0])
    ignored = open_dataset(tmp_path, "test", remap={"ship": ""})
    assert (ignored.classes, ignored.ignore.tolist()) == ((), [True])
