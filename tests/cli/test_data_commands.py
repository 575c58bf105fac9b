"""`fledge tile`, `convert` and `check` as a user meets them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.data.made import dota_folder, line, noise, rectangle

import fledge.cli
from fledge import api
from fledge.data.datasets import open_dataset
from fledge.recipe import load_recipe

RECIPE = """\
backbone = "resnet18_quarter"
neck_channels = 16
head_convs = 1
image_size = 64
overlap = 16
view = "crop"
batch_size = 2
epochs = 1
workers = 0
warmup_steps = 1
device = "cpu"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    text = "".join(line(rectangle(x, y, 24, 12, 20 * x), "ship") for x in (20, 57, 100) for y in (20, 58, 80))
    scenes = {"a": (noise(100, 120), text), "b": (noise(64, 64, 1), "")}
    return dota_folder(
        tmp_path / "data", {"train": scenes, "val": {"c": (noise(64, 70, 2), text.splitlines()[0] + "\n")}}
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``fledge ARGUMENTS`` here: (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["fledge", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            fledge.cli.main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call


def test_tile(data: Path, tmp_path: Path, run: Any) -> None:
    code, out, _ = run("tile", data, "--out", tmp_path / "tiles", "--size", 64, "--overlap", 16)
    assert code == 0
    assert "train: 7 tiles, 1 without; objects: " in out
    assert re.search(r"objects: \d+ kept, \d+ cut and ignored", out)
    assert f"written: {tmp_path / 'tiles'}" in out
    code, out, _ = run("tile", data, "--out", tmp_path / "tiles", "--size", 64, "--overlap", 16, "--workers", 2)
    assert (code, "nothing to do" in out) == (0, True)
    code, _, err = run("tile", data, "--out", tmp_path / "tiles")
    assert code == 2
    assert "output exists" in err


def test_tile_at_several_rates(data: Path, tmp_path: Path, run: Any) -> None:
    rates = ("--rate", 0.5, "--rate", 1, "--image-format", "jpeg")
    assert run("tile", data, "--out", tmp_path / "tiles", "--size", 64, "--overlap", 16, *rates)[0] == 0
    names = {path.name for path in (tmp_path / "tiles" / "val" / "images").iterdir()}
    assert names == {"c__0.5__0___0.jpg", "c__1.0__0___0.jpg", "c__1.0__6___0.jpg"}
    code, _, err = run("tile", data, "--out", tmp_path / "more", "--rate", 0)
    assert (code, "rate is 0.0" in err) == (2, True)


def test_tile_says_what_counts_nowhere(data: Path, tmp_path: Path, run: Any) -> None:
    arguments = ("--size", 48, "--overlap", 0, "--split", "train", "--skip-empty", "--iof", 1, "--format", "yolo_obb")
    code, out, _ = run("tile", data, "--out", tmp_path / "tiles", *arguments)
    assert code == 0
    assert "objects count in no tile" in out
    assert "left out" in out
    assert "changed: " in out
    assert not (tmp_path / "tiles" / "images" / "val").exists()


def test_a_tiled_folder_trains(data: Path, tmp_path: Path, run: Any) -> None:
    assert run("tile", data, "--out", tmp_path / "tiles", "--size", 64, "--overlap", 16)[0] == 0
    assert open_dataset(tmp_path / "tiles", "train").ignore.any()
    (tmp_path / "tiny.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "tiny.toml", data=str(tmp_path / "tiles"))
    out = api.train(recipe, tmp_path / "run")
    assert (out / "metrics.csv").read_text().count("\n") > 1


def test_convert(data: Path, tmp_path: Path, run: Any) -> None:
    code, out, _ = run("convert", data, "--to", "coco", "--out", tmp_path / "coco", "--images", "link")
    assert code == 0
    assert "train: 2 images, 9 objects, 0 ignored" in out
    assert open_dataset(tmp_path / "coco", "val").format == "coco"
    assert run("convert", data, "--to", "kitti", "--out", tmp_path / "kitti")[0] == 2
    code, _, err = run("convert", tmp_path / "nothing", "--to", "coco", "--out", tmp_path / "x")
    assert (code, "no such folder" in err) == (3, True)


@pytest.mark.parametrize("form", ["ohd_sjtu", "hrsc2016", "shiprsimagenet", "ssdd", "rsdd", "nwpu_vhr10", "ucas_aod"])
def test_convert_to_the_form_of_a_public_set(data: Path, tmp_path: Path, run: Any, form: str) -> None:
    """Every form; classes it does not have stop the command, and --remap helps."""
    path = data / "val" / "labelTxt" / "c.txt"
    path.write_text(path.read_text().replace("ship", "ferry-boat"))
    arguments = ("convert", data, "--to", form, "--out", tmp_path / "out")
    new = {"shiprsimagenet": "Ferry", "ucas_aod": "car", "nwpu_vhr10": "ship", "hrsc2016": "ship"}.get(form, "ferry")
    if form == "ucas_aod" or form == "shiprsimagenet":
        code, _, err = run(*arguments)
        assert (code, f"no object can be written: {data}: the labels name ferry-boat, ship; {form} has" in err) == (
            3,
            True,
        )
    code, out, _ = run(*arguments, "--remap", f"ferry boat={new}", "--remap", f"ship={new}")
    assert (code, "train: 2 images, 9 objects, 0 ignored" in out) == (0, True)
    assert ("changed: " in out) == (form not in ("shiprsimagenet", "ssdd", "rsdd", "hrsc2016"))
    dataset = open_dataset(tmp_path / "out", "val")
    assert (dataset.format, dataset.summary().objects[new]) == (form, 1)
    code, _, err = run(*arguments, "--remap", "ship")
    assert (code, "not OLD=NEW: --remap ship" in err) == (2, True)


def test_the_format_to_read_can_be_named(data: Path, tmp_path: Path, run: Any) -> None:
    """The same folder as DOTA's oriented boxes and as the upright ones around them."""
    arguments = ("--to", "yolo", "--split", "val", "--images", "link")
    code, out, _ = run("convert", data, *arguments, "--out", tmp_path / "turned")
    assert (code, "turned box, now the upright one around it" in out) == (0, True)
    code, out, _ = run("convert", data, "--from", "dota_hbb", *arguments, "--out", tmp_path / "upright")
    assert (code, "turned box" in out) == (0, False)
    labels = [(tmp_path / name / "labels" / "val" / "c.txt").read_text() for name in ("turned", "upright")]
    assert labels[0] == labels[1]
    out_option = ("--out", tmp_path / "x")
    for command in (("check", data), ("tile", data, *out_option), ("convert", data, "--to", "coco", *out_option)):
        code, _, err = run(*command, "--from", "kitti")
        assert (code, "no form 'kitti'" in err) == (2, True)
    code, out, _ = run("check", data, "--from", "dota_hbb")
    assert (code, "all boxes are parallel" in out) == (0, True)


def test_check(data: Path, tmp_path: Path, run: Any) -> None:
    code, out, _ = run("check", data)
    assert code == 0
    assert "ship" in out
    path = data / "train" / "labelTxt" / "b.txt"
    path.write_text("1 2 3 ship 0\n")
    code, out, _ = run("check", data, "--out", tmp_path / "health", "--against", data)
    assert code == 3
    assert "b.txt:1: 4 fields" in out or "b.txt:1: 5 fields" in out
    assert "error: train: 1 bad label" in out
    assert "images have the same pixels as one of" in out
    record = json.loads((tmp_path / "health" / "check.json").read_text())
    assert record["passed"] is False
    page = (tmp_path / "health" / "check.html").read_text()
    assert page.count("<img") > 3
    assert "b.txt:1" in page


@pytest.mark.slow
def test_the_page_in_a_browser(data: Path, tmp_path: Path, run: Any, open_page: Any) -> None:
    run("check", data, "--out", tmp_path, "--against", data)
    facts = open_page(tmp_path / "check.html")
    assert (facts.console, facts.requests, facts.broken, facts.overflow, facts.enlarged) == ([], [], [], [], True)
