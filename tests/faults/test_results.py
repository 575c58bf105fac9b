"""Faults in result files, and what must happen: one function a fault."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.made import indexed, rectangle

from fledge.errors import DataError
from fledge.evaluation.results import read_results

TRUTH = indexed([(40, 50)], [[rectangle(20, 15, 20, 10)]])
LINE = "i0 0.5 10 10 30 10 30 20 10 20\n"


def refused(path: Path) -> str:
    """What is said of results; nothing may have been written beside them."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        read_results(path, TRUTH)
    assert sorted(path.parent.rglob("*")) == before
    return str(caught.value)


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


def test_pickle_of_results(tmp_path: Path) -> None:
    """A pickle of another tool's results, under any name: refused, with what that tool can write instead."""
    sentinel = tmp_path / "ran"
    payload = b"\x80\x04cposix\nsystem\n(V" + f"touch {sentinel}".encode() + b"\ntR."
    for name in ("results.pkl", "results.json"):
        (tmp_path / name).write_bytes(payload)
        assert "pickle refused" in refused(tmp_path / name)
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["../Task1_ship.txt", "/tmp/Task1_ship.txt", "a\\Task1_ship.txt", "c:Task1_ship.txt"])
def test_zip_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    """A zip with a name that leads out of it (``..``, absolute, backslash, drive): refused before anything is read."""
    assert "leads out of the archive" in refused(archive(tmp_path / "r.zip", (name, LINE.encode())))


def test_zip_with_a_link(tmp_path: Path) -> None:
    """A zip with a symbolic link or a device: refused."""
    for kind in (stat.S_IFLNK, stat.S_IFIFO):
        member = zipfile.ZipInfo("Task1_ship.txt")
        member.external_attr = (kind | 0o777) << 16
        assert "is a link or no file" in refused(archive(tmp_path / "r.zip", (member, b"/etc/passwd")))


def test_zip_bomb(tmp_path: Path) -> None:
    """A zip whose content is a thousand times its size: refused from its list of contents."""
    assert "unpacks from" in refused(archive(tmp_path / "r.zip", ("Task1_ship.txt", bytes(20_000_000))))


def test_zip_with_too_many_files(tmp_path: Path) -> None:
    """A zip with more files than there can be classes: refused."""
    members = [(f"Task1_c{k}.txt", b"") for k in range(10_001)]
    assert "10001 files" in refused(archive(tmp_path / "r.zip", *members))


def test_zip_with_a_name_twice(tmp_path: Path) -> None:
    """A zip with one name twice, also in another case or folder: refused, since one would hide the other."""
    members = [("Task1_ship.txt", LINE.encode()), ("other/task1_Ship.txt", b"")]
    assert "is there twice" in refused(archive(tmp_path / "r.zip", *members))


@pytest.mark.parametrize("damage", [lambda d: d[:-30], lambda d: d[:40] + bytes([d[40] ^ 255]) + d[41:]])
def test_damaged_zip(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A zip that is cut off or has a flipped byte: refused."""
    path = archive(tmp_path / "r.zip", ("Task1_ship.txt", LINE.encode() * 50))
    path.write_bytes(damage(path.read_bytes()))
    assert "archive" in refused(path)


def test_zip_in_a_zip(tmp_path: Path) -> None:
    """A zip in a zip: not unpacked; there are no detections in it."""
    inner = archive(tmp_path / "inner.zip", ("Task1_ship.txt", LINE.encode())).read_bytes()
    assert "no detections" in refused(archive(tmp_path / "r.zip", ("inner.zip", inner)))


def test_results_that_cannot_be_opened(tmp_path: Path) -> None:
    """A result folder that is missing, empty, or holds a file without permission: named."""
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no detections" in refused(tmp_path / "empty")
    if os.geteuid() != 0:
        (tmp_path / "empty" / "Task1_ship.txt").touch(mode=0)
        assert "cannot read detections" in refused(tmp_path / "empty")


def test_deep_json(tmp_path: Path) -> None:
    """Json nested without end, or with a number of thousands of digits: refused."""
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert "not json" in refused(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[" + "9" * 5000 + "]")
    assert "not json" in refused(tmp_path / "b.json")
