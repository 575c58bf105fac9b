"""What `fledge check` finds in scenes, masks and images without labels."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.data.made import picture
from tests.data.test_loveda_and_unlabelled import loveda

from fledge.data.catalogue import CATALOGUE
from fledge.data.scenes.findings import image_findings
from fledge.data.scenes.health import check_images, holds_images, image_record
from fledge.data.scenes.loveda import open_loveda
from fledge.visualize.image_page import image_page


def sick(root: Path) -> Path:
    for k, name in enumerate(("train/ship/1.png", "train/ships/2.png", "val/ship/3.png", "val/plane/4.png")):
        picture(root / name, k)
    shutil.copy(root / "train/ship/1.png", root / "train/ships/copy.png")
    shutil.copy(root / "train/ship/1.png", root / "val/ship/leak.png")
    (root / "val/plane/bad.png").write_bytes((root / "val/plane/4.png").read_bytes()[:100])
    return root


def test_a_sick_dataset(tmp_path: Path) -> None:
    health = check_images(sick(tmp_path / "data"))
    assert not health.passed
    assert [(twin.split, twin.path.name, twin.other.name) for twin in health.leaks] == [("val", "leak.png", "1.png")]
    assert [(twin.path.name, twin.other.name) for twin in health.conflicts] == [("copy.png", "1.png")]
    texts = [(f.kind, f.where, f.text) for f in image_findings(health)]
    assert ("warning", "all", "ship and ships may be one class: put them into one folder") in texts
    assert ("warning", "train", "no image of plane") in texts
    assert any(kind == "error" and "bad.png" in text for kind, _, text in texts)
    assert any(kind == "error" and "the same pixels in two classes" in text for kind, _, text in texts)
    record = json.loads(json.dumps(image_record(health), allow_nan=False))
    assert record["same pixels in two classes"][0]["exact"] is True
    assert record["splits"]["val"]["images of classes"] == {"plane": 2, "ship": 2, "ships": 0}
    assert record["splits"]["train"]["image sizes"] == {"24x24": 3}
    page = image_page(health, "fledge check data").html()
    assert page.count("<img") > 8
    assert "Images of val" in page


def test_against_another(tmp_path: Path) -> None:
    root = sick(tmp_path / "data")
    picture(tmp_path / "other" / "harbor" / "x.png", 9)
    picture(tmp_path / "other" / "ship" / "y.png", 2)
    health = check_images(root, tmp_path / "other")
    assert (health.only_here, health.only_there) == (("plane", "ships"), ("harbor",))
    between = [t for t in health.leaks if str(tmp_path / "other") in t.split + t.other_split]
    assert [{t.path.name, t.other.name} for t in between] == [{"y.png", "3.png"}]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import fledge.cli

    def run(*arguments: object) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["fledge", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            fledge.cli.main()
        return stop.value.code or 0, capsys.readouterr().out

    code, out = run(sick(tmp_path / "data"), "--out", tmp_path / "check")
    assert code == 3
    assert "same pixels: " in out
    assert (tmp_path / "check" / "check.html").exists()
    for k in range(2):
        picture(tmp_path / "well" / "aGrass" / f"{k}.jpg", 20 + k)
    code, out = run(tmp_path / "well", "--as", "rsscn7")
    assert code == 0
    assert "warning: all: 2 images, 2,800 published of RSSCN7" in out
    assert "classes of RSSCN7 that are not here: bField" in out


def test_loveda_is_checked(tmp_path: Path) -> None:
    root = loveda(tmp_path / "LoveDA")
    health = check_images(root)
    assert (list(health.splits), list(health.refused), health.passed) == (["train", "val"], ["test"], False)
    assert "no images" in image_findings(health)[0].text
    picture(root / "Test" / "Rural" / "images_png" / "77.png", 77, 16)
    assert holds_images(root)
    health = check_images(root, name="loveda")
    assert health.passed
    pixels = {
        split: np.concatenate([open_loveda(root, split).mask(i).ravel() for i in range(4)])
        for split in ("train", "val")
    }
    for split, values in pixels.items():
        counted = {name: int((values == label).sum()) for label, name in enumerate(CATALOGUE["loveda"].classes)}
        assert health.counts[split] == {**counted, "(no data)": int((values == 255).sum())}
    assert health.counts["test"] == {}
    compared = [(c.split, c.what, c.found) for c in health.beside.comparisons]
    assert compared == [("train", "images", 4), ("val", "images", 4), ("test", "images", 3), ("", "images", 11)]
    cv2.imwrite(str(root / open_loveda(root, "val").masks[0]), np.full((16, 16), 9, np.uint8))
    health = check_images(root)
    assert not health.passed
    assert any("value 9 in a mask" in f.text for f in image_findings(health))
    record = json.loads(json.dumps(image_record(health), allow_nan=False))
    assert record["known as"] == "loveda"
    assert "building" in record["splits"]["train"]["pixels of classes"]
    page = image_page(health, "fledge check LoveDA").html()
    assert page.count("<img") >= 8


def test_images_alone_are_checked(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / "data" / f"{k}.png", k)
    shutil.copy(tmp_path / "data" / "0.png", tmp_path / "data" / "copy.png")
    assert holds_images(tmp_path / "data")
    health = check_images(tmp_path / "data")
    assert health.passed
    assert [f.text for f in image_findings(health)] == [
        "1 image has the same pixels as an earlier one of the same split"
    ]
    assert "Spread evenly over the split" in image_page(health, "fledge check data").html()


@pytest.mark.parametrize("extra", ["labels/0.txt", "annotations/train.json", "0.xml"])
def test_a_detection_dataset_that_lost_something_is_not_taken_for_images(tmp_path: Path, extra: str) -> None:
    for k in range(3):
        picture(tmp_path / "train" / "images" / f"{k}.png", k)
    assert holds_images(tmp_path), "images and nothing else"
    (tmp_path / extra).parent.mkdir(exist_ok=True)
    (tmp_path / extra).write_text("1")
    assert not holds_images(tmp_path)


@pytest.mark.slow
def test_the_pages_in_a_browser(tmp_path: Path, open_page: Any) -> None:
    for root in (loveda(tmp_path / "LoveDA"), sick(tmp_path / "data")):
        path = image_page(check_images(root), "fledge check").write(tmp_path / f"{root.name}.html")
        facts = open_page(path)
        assert (facts.console, facts.requests, facts.broken, facts.overflow, facts.enlarged) == ([], [], [], [], True)
