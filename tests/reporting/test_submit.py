"""What goes to the servers, read back by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fledge.cli import app
from fledge.data.catalogue.dota import DOTA_V10_CLASSES
from fledge.errors import DataError, UsageError
from fledge.file_evaluation import submit_detections, submit_files
from fledge.types import Detections, Frame

LINE = "0.5 10 10 30 10 30 20 10 20\n"


def put(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / f"Task1_{name.replace('_', '-')}.txt").write_text(content)
    return folder


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_every_class_has_a_file_and_patches_are_merged(tmp_path: Path) -> None:
    patches = f"P1__1.0__0___0 {LINE}P1__1.0__5___0 0.4 5 10 25 10 25 20 5 20\nP2__1.0__100___40 {LINE}"
    out = submit_files(put(tmp_path / "r", ship=patches, Small_Vehicle=""), tmp_path / "out.zip")
    files = contents(out)
    assert list(files) == [f"Task1_{name}.txt" for name in DOTA_V10_CLASSES]
    assert files["Task1_ship.txt"] == (
        "P1 0.500000 10.00 10.00 30.00 10.00 30.00 20.00 10.00 20.00\n"
        "P2 0.500000 110.00 50.00 130.00 50.00 130.00 60.00 110.00 60.00\n"
    )
    assert files["Task1_plane.txt"] == ""


def test_task_2_and_other_class_lists(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", ship=f"P1 {LINE}")
    files = contents(submit_files(folder, tmp_path / "out.zip", "dota_v15_task2"))
    assert files["Task2_ship.txt"] == "P1 0.500000 10.00 10.00 30.00 20.00\n"
    assert "Task2_container-crane.txt" in files


def test_fair1m(tmp_path: Path) -> None:
    boxes = torch.tensor([[20.0, 15.0, 20.0, 10.0, 0.0]])
    classes = ("dry_cargo_ship", "Van")
    found = [
        Detections(boxes, torch.tensor([0.75]), torch.tensor([0]), classes, Frame("7", (40, 50))),
        Detections(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64), classes, Frame("8", (30, 30))),
    ]
    files = contents(submit_detections(found, [Path("7.tif"), Path("8.tif")], tmp_path / "out.zip", "fair1m"))
    assert list(files) == ["test/7.xml", "test/8.xml"]
    tree = ET.fromstring(files["test/7.xml"])
    assert tree.findtext("source/filename") == "7.tif"
    assert (tree.findtext("size/width"), tree.findtext("size/height")) == ("50", "40")
    assert tree.findtext(".//possibleresult/name") == "Dry Cargo Ship"
    assert tree.findtext(".//possibleresult/probability") == "0.750000"
    points = [tuple(map(float, str(p.text).split(", "))) for p in tree.iter("point")]
    assert points == [(10, 10), (30, 10), (30, 20), (10, 20), (10, 10)]
    assert not list(ET.fromstring(files["test/8.xml"]).iter("object"))


def test_the_same_detections_give_the_same_bytes(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", ship=f"P1 {LINE}")
    one, two = (submit_files(folder, tmp_path / f"{k}.zip").read_bytes() for k in "ab")
    assert one == two


def test_the_command(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", ship=f"P1 {LINE}")
    arguments = ["evaluate", "--detections", folder, "--submit", tmp_path / "out.zip", "--protocol", "dota"]
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert f"written: {tmp_path / 'out.zip'}" in result.output
    assert "P1 0.500000" in contents(tmp_path / "out.zip")["Task1_ship.txt"]


def test_faults(tmp_path: Path) -> None:
    folder = put(tmp_path / "r", ship=f"P1 {LINE}")
    with pytest.raises(UsageError, match="no submission for protocol ohd"):
        submit_files(folder, tmp_path / "out.zip", "ohd")
    with pytest.raises(UsageError, match=r"end its name in .zip"):
        submit_files(folder, tmp_path / "out.txt")
    with pytest.raises(DataError, match=r"Task1_tank.txt:1: unknown class 'tank'"):
        submit_files(put(tmp_path / "s", tank=f"P1 {LINE}"), tmp_path / "out.zip")
    with pytest.raises(DataError, match=r"Task1_ship.txt:1: image '../P1': write its name only"):
        submit_files(put(tmp_path / "t", ship=f"../P1 {LINE}"), tmp_path / "out.zip")
    assert not list(tmp_path.glob("out*"))
