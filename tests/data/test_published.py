"""Datasets beside the figures published of them, and class names that may be one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.made import dota_folder, indexed, line, noise, rectangle

from fledge.data import published
from fledge.data.catalogue import CATALOGUE, Count, KnownDataset
from fledge.data.class_names import alike, alike_between, alike_within, differences
from fledge.data.conversion import convert_dataset
from fledge.data.findings import findings
from fledge.data.health import check_dataset, health_record
from fledge.data.labels import DetectionDataset
from fledge.data.published import Comparison, compare, known_dataset, recognise
from fledge.errors import UsageError
from fledge.visualize.health_page import health_page

NAMES = ("ship", "plane", "car", "court", "dock")
KNOWN = KnownDataset(
    key="five-v1.0",
    title="Five",
    task="detection",
    page="https://example.org/five",
    terms="",
    format="dota",
    tree="",
    classes=NAMES,
    counts=(
        Count("", 5, 9),
        Count("train", 2, 3),
        Count("train", None, 4, verified=False, note="elsewhere"),
        Count("val", 3, 6, verified=False),
        Count("trainval", 5),
    ),
    class_counts={"ship": 4, "plane": 5},
)


def split(name: str, objects: list[int], images: int = 2, **changes: Any) -> DetectionDataset:
    """A split without files: ``objects`` of each class."""
    labels = np.repeat(np.arange(len(objects)), objects)
    quads = [[rectangle(50, 50, 20, 10)] * len(labels), *[[] for _ in range(images - 1)]]
    fields = {"split": name, "classes": NAMES[: len(objects)], "labels": labels} | changes
    return indexed([(100, 100)] * images, quads, **fields)


def slow_alike(one: str, two: str) -> bool:
    """One edit: every string that one letter added, taken, changed or exchanged with the next makes."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = {one[:k] + c + one[k:] for k in range(len(one) + 1) for c in letters}
    made |= {one[:k] + one[k + 1 :] for k in range(len(one))}
    made |= {one[:k] + c + one[k + 1 :] for k in range(len(one)) for c in letters}
    made |= {one[:k] + one[k + 1] + one[k] + one[k + 2 :] for k in range(len(one) - 1)}
    return two in made - {one} and min(len(one), len(two)) >= 4


@given(st.text("abc", min_size=3, max_size=7), st.text("abc", min_size=3, max_size=7))
@settings(max_examples=300)
def test_alike_is_one_edit(one: str, two: str) -> None:
    assert alike(one, two) == alike(two, one) == slow_alike(one, two)


def test_alike_by_hand() -> None:
    for one, two in [("harbor", "harbour"), ("Ship", "ships"), ("storage tank", "StorageTanks"), ("brigde", "bridge")]:
        assert alike(one, two)
    for one, two in [("Boeing737", "Boeing787"), ("car", "bar"), ("ship", "SHIP"), ("A220", "A330"), ("", "")]:
        assert not alike(one, two)
    assert alike_within(["ship", "ships", "plane"]) == (("ship", "ships"),)
    assert alike_within(["ship", "ships"], ["Ships", "SHIP"]) == (), "both are official"
    assert alike_between(["ship", "court"], ["courts", "plane"]) == (("court", "courts"),)
    assert differences(["ship", "A-b"], ["a b", "car"]) == (("ship",), ("car",))


@pytest.mark.parametrize("key", list(CATALOGUE))
def test_no_catalogue_list_is_suspect_to_itself(key: str) -> None:
    known = CATALOGUE[key]
    assert alike_within(known.classes, known.classes) == ()
    assert known_dataset(key.upper()) is known


def test_comparisons_by_hand() -> None:
    train, val = split("train", [1, 2, 1]), split("val", [3, 3, 0], 3)
    found = compare(KNOWN, [train, val])
    assert found == (
        Comparison("train", "images", 2, (2,), True, True),
        Comparison("train", "objects", 4, (3, 4), True, False),
        Comparison("val", "images", 3, (3,), True, False),
        Comparison("val", "objects", 6, (6,), True, False),
        Comparison("trainval", "images", 5, (5,), True, True),
        Comparison("", "images", 5, (5,), True, True),
        Comparison("", "objects", 10, (9,), False, True),
        Comparison("", "ship", 4, (4,), True, True),
        Comparison("", "plane", 5, (5,), True, True),
    )
    alone = compare(KNOWN, [val])
    assert {c.split for c in alone} == {"val"}, "a part is not compared with the whole"
    assert {c.split for c in compare(KNOWN, [split("all", [1])])} == {""}, "nothing is known of a split of that name"
    ignored = split("val", [5, 2], 3, ignore=np.arange(7) == 0)
    assert [c.found for c in compare(KNOWN, [ignored]) if c.what == "objects"] == [6]
    with_ignored = split("val", [4, 2], 3, ignore=np.arange(6) == 0)
    assert [(c.found, c.agrees) for c in compare(KNOWN, [with_ignored]) if c.what == "objects"] == [(6, True)]


def test_recognised_by_all_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(KNOWN, key="five-boxes", title="Five boxes", format="coco")
    few = replace(KNOWN, key="two", classes=NAMES[:2], counts=(Count("train", 7),), class_counts={})
    monkeypatch.setattr(published, "CATALOGUE", {"five-boxes": other, "five-v1.0": KNOWN, "two": few})
    five = split("train", [1, 1, 1, 1, 1])
    assert recognise([five]) is KNOWN, "of two with these classes, the one in this format"
    assert recognise([replace(five, format="coco")]) is other
    assert recognise([replace(five, format="yolo_obb")]) is other
    assert recognise([split("train", [1, 1, 1, 1])]) is None
    assert recognise([]) is None
    assert recognise([split("train", [1, 1])]) is None, "two common names say too little"
    assert recognise([split("train", [1, 1], images=7)]) is few, "with its number of images they do"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(published, "CATALOGUE", {KNOWN.key: KNOWN})
    text = "".join(line(rectangle(20 + 10 * k, 40, 8, 5, 20), name) for k, name in enumerate((*NAMES[:4], "docks")))
    scenes = {"a": (noise(80, 100), text), "b": (noise(80, 100, 1), line(rectangle(50, 50, 20, 10), "ship"))}
    return dota_folder(tmp_path / "data", {"train": scenes})


def test_checked_as_a_named_dataset(folder: Path) -> None:
    health = check_dataset(folder, name="FIVE v1.0".replace(" ", "-"))
    texts = {(f.kind, f.where, f.text) for f in findings(health)}
    assert ("note", "all", "as published of Five: train 2 images") in texts
    assert ("note", "train", "6 objects, 3 or 4 published of Five (not verified)") in texts
    assert ("warning", "all", "Five has no class docks") in texts
    assert ("warning", "all", "classes of Five that are not here: dock") in texts
    assert ("warning", "all", "docks and dock may be one class: rename on reading (--remap)") in texts
    record = health_record(health)
    assert (record["known as"], record["named so"]) == ("five-v1.0", True)
    assert record["published"][0] == {
        "split": "train",
        "what": "images",
        "found": 2,
        "published": (2,),
        "agrees": True,
        "verified": True,
    }
    page = health_page(health, "fledge check").html()
    assert "Beside Five" in page
    assert "agrees" in page
    assert health.passed, "other counts are no fault of the files"
    with pytest.raises(UsageError, match=r"choose from five-v1\.0"):
        check_dataset(folder, name="six")


def test_a_name_decides_between_two_sets_of_labels(tmp_path: Path) -> None:
    """DIOR and DIOR-R lie in the same folders."""
    names = CATALOGUE["dior"].classes
    text = "".join(line(rectangle(40, 40, 20, 10, 30), name) for name in names)
    root = dota_folder(tmp_path / "data", {"train": {"a": (noise(80, 100), text)}})
    convert_dataset(root, tmp_path / "both", "dior_r")
    convert_dataset(root, tmp_path / "upright", "voc")
    other = tmp_path / "both" / "Annotations" / "Horizontal Bounding Boxes"
    (tmp_path / "upright" / "Annotations").rename(other)
    assert check_dataset(tmp_path / "both").splits["train"].dataset.format == "dior_r"
    for name, form in (("dior", "dior"), ("dior-r", "dior_r")):
        health = check_dataset(tmp_path / "both", name=name)
        assert health.splits["train"].dataset.format == form
        assert health.beside.known is CATALOGUE[name]
        assert (health.beside.unlisted, health.beside.unfound) == ((), ())


def test_recognised_it_is_only_noted(folder: Path) -> None:
    path = folder / "train" / "labelTxt" / "a.txt"
    path.write_text(path.read_text().replace("docks", "dock"))
    (folder / "train" / "images" / "b.png").unlink()
    (folder / "train" / "labelTxt" / "b.txt").unlink()
    health = check_dataset(folder)
    texts = {(f.kind, f.text) for f in findings(health)}
    assert ("note", "the classes are those of Five") in texts
    assert ("note", "1 image, 2 published of Five") in texts
    assert health_record(health)["named so"] is False


def test_images_in_common_with_another_are_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = replace(KNOWN, overlaps={"dior": "two test images"})
    monkeypatch.setattr(published, "CATALOGUE", {KNOWN.key: twin})
    texts = [f.text for f in findings(check_dataset(folder, name=KNOWN.key))]
    assert "Five has images in common with DIOR: two test images" in texts
    for known in CATALOGUE.values():
        assert set(known.overlaps) <= set(CATALOGUE)


def test_two_spellings_in_one_dataset(folder: Path) -> None:
    path = folder / "train" / "labelTxt" / "b.txt"
    path.write_text(path.read_text().replace("ship", "ships"))
    texts = [f.text for f in findings(check_dataset(folder))]
    assert "ship and ships may be one class: rename on reading (--remap)" in texts


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import fledge.cli

    monkeypatch.setattr(sys, "argv", ["fledge", "check", str(folder), "--as", "five-v1.0"])
    with pytest.raises(SystemExit) as stop:
        fledge.cli.main()
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "note: all: as published of Five: train 2 images" in out
    assert "angle, −90° to 90°" in out
