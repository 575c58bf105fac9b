from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fledge.errors import ResourceError
from fledge.files import is_alive, readable_size, replacing, write_bytes, write_json


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, None]})
    write_json(path, {"b": 2})
    assert json.loads(path.read_text()) == {"b": 2}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def stop() -> None:
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(ResourceError, match="cannot write"):
            write_bytes(path, b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_processes() -> None:
    assert is_alive(os.getpid())
    assert is_alive(os.getppid())
    assert is_alive(1)  # of somebody else
    assert not is_alive(4_000_000)
    assert not is_alive(10**30)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (12_345_678, "12.3 MB"), (5e12, "5e+03 GB")],
)
def test_sizes(count: float, text: str) -> None:
    assert readable_size(int(count)) == text
