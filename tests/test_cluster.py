"""Scenes on a Ray cluster of this machine: the same bytes as one after another, also when a worker dies."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.faults.child import command, fledge, forked
from tests.faults.tiny import recipe, tiles

from fledge import api
from fledge.data.synthetic import write_dataset
from fledge.errors import UsageError

pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``run``, and three ``scenes``, found one after another in ``serial``."""
    root = tmp_path_factory.mktemp("cluster")
    api.train(recipe(tiles(root / "data", 2), epochs=1), root / "run")
    write_dataset(root / "made", "test", 3, 512, 0)
    (root / "made" / "test" / "images").rename(root / "scenes")
    with forked(command, "detect", root / "run", root / "scenes", "--out", root / "serial", *OPTIONS) as child:
        assert child.end(timeout=300).code == 0, child.out()
    assert len(list((root / "serial").glob("*.gpkg"))) == 3
    return root


OPTIONS = ("--score", "0.006", "--device", "cpu")


def same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_a_cluster_finds_what_one_process_finds(place: Path, tmp_path: Path) -> None:
    start = ("detect", place / "run", place / "scenes", "--out", tmp_path / "out", *OPTIONS)
    with fledge(*start, "--ray", "local", "--workers", "2") as child:
        ended = child.end(timeout=300)
    assert ended.code == 0, ended.out
    same(place / "serial", tmp_path / "out")


def workers(mark: str) -> list[int]:
    """Processes of ours that do a job."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, env = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::_attempt") and mark.encode() in env:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_a_dead_worker_is_survived(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job is done again by another, from the journal, and the files are the same."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("FLEDGE_TEST_MARK", mark)
    out = tmp_path / "out"
    start = ("detect", place / "run", place / "scenes", "--out", out, *OPTIONS)

    def begun() -> list[Path]:
        return [path for path in out.glob("*.journal") if path.stat().st_size > 4000]

    with fledge(*start, "--ray", "local", "--workers", "2") as child:
        child.wait_until(lambda: begun() and workers(mark), timeout=200)
        victim = workers(mark)[0]
        os.kill(victim, signal.SIGKILL)
        ended = child.end(timeout=300)
    assert ended.code == 0, ended.out
    same(place / "serial", out)


@pytest.mark.slow
def test_a_stopped_command_leaves_no_cluster(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM: exit 143, no process stays, and the same command goes on to the same files."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("FLEDGE_TEST_MARK", mark)
    out = tmp_path / "out"
    start = ("detect", place / "run", place / "scenes", "--out", out, *OPTIONS)
    with fledge(*start, "--ray", "local") as child:
        child.wait_until(lambda: list(out.glob("*.journal")) and workers(mark), timeout=200)
        child.send(signal.SIGTERM)
        ended = child.end(timeout=60)
    assert ended.code == 143, ended.out
    assert not workers(mark)
    with forked(command, *start) as again:
        assert again.end(timeout=300).code == 0
    same(place / "serial", out)


@pytest.mark.slow
def test_a_refused_scene_does_not_keep_the_others(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    scenes = (tmp_path / "bad.png", place / "scenes")
    with fledge("detect", place / "run", *scenes, "--out", tmp_path / "out", *OPTIONS, "--ray", "local") as child:
        ended = child.end(timeout=300)
    assert ended.code == 3, ended.out
    assert "1 of 4 scenes were refused" in ended.last
    assert len(list((tmp_path / "out").glob("*.gpkg"))) == 3


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from fledge import cluster

    def missing(name: str) -> Any:
        return None

    monkeypatch.setattr(cluster, "find_spec", missing)
    with pytest.raises(UsageError, match=r"pip install 'fledge\[ray\]'"):
        cluster.on_ray()
