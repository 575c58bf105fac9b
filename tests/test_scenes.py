from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.faults import tiny
from tests.faults.scenes import scene
from tests.inference.squares import square_model

import fledge.scenes as module
from fledge import api
from fledge.errors import DataError, ResourceError, UsageError
from fledge.inference.settings import SceneSettings
from fledge.scenes import Job, Outcome, detect_scenes, do_job, scene_files

SETTINGS = SceneSettings("gpkg", score=0.0)


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is the finder of patches, whatever its path."""
    monkeypatch.setattr(module, "load_model", lambda path, device: square_model())
    module._kept_model.cache_clear()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose detector finds something, if not what is there."""
    place = tmp_path_factory.mktemp("run")
    return api.train(tiny.recipe(tiny.tiles(place / "data", 2), epochs=1, score_threshold=0.0), place / "run")


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.tif", "notes.txt", "sub/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    alone = tmp_path / "z.dat"
    alone.touch()
    assert [p.name for p in scene_files([alone, tmp_path])] == ["z.dat", "a.JPG", "b.png", "c.tif"]
    assert [p.name for p in scene_files([f"{tmp_path}/*", tmp_path / "b.png"])] == ["a.JPG", "b.png", "c.tif"]
    assert [p.name for p in scene_files([f"{tmp_path}/**/*.png"])] == ["b.png", "d.png"]


def test_missing_and_doubled_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such image: .*absent\.png"):
        scene_files([tmp_path / "absent.png"])
    with pytest.raises(DataError, match="no images"):
        scene_files([tmp_path])
    with pytest.raises(DataError, match="no images"):
        scene_files([f"{tmp_path}/*.tif"])
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    with pytest.raises(UsageError, match="two images named a"):
        scene_files([tmp_path / "x", tmp_path / "y"])


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize("form", ["gpkg", "csv", "dota"])
def test_a_refused_scene_does_not_keep_the_others_from_being_done(form: Any, tmp_path: Path) -> None:
    """One scene of many is damaged: the others are finished, exit 3; mended, the command computes only that one."""
    (tmp_path / "in").mkdir()
    for k in range(3):
        scene(tmp_path / "in" / f"{k}.tif", 100 + k)
    whole = tmp_path / "in" / "1.tif"
    data = whole.read_bytes()
    whole.write_bytes(data[:20])
    out, settings = tmp_path / "out", SceneSettings(form, score=0.0)
    with pytest.raises(DataError, match=r"1 of 3 scenes were refused; the first: .*1\.tif"):
        detect_scenes("none", [tmp_path / "in"], out, settings)
    made = {p.name for p in out.iterdir() if p.suffix != ".journal"}
    assert made == ({"0.gpkg", "2.gpkg"} if form == "gpkg" else set())
    whole.write_bytes(data)
    results = detect_scenes("none", [tmp_path / "in"], out, settings)
    assert all(r.objects > 0 for r in results)
    assert not list(out.glob("*.journal"))
    detect_scenes("none", [tmp_path / "in"], tmp_path / "again", settings)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_workers_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """Workers share no open dataset: each opens its own, and two give the bytes that one gives."""
    (tmp_path / "in").mkdir()
    for k in range(3):
        scene(tmp_path / "in" / f"{k}.tif", 60 + k, 90)
    results = [detect_scenes(run, [tmp_path / "in"], tmp_path / str(n), SETTINGS, n, "cpu") for n in (1, 2)]
    assert sum(r.objects for r in results[0]) > 0
    names = sorted(p.name for p in (tmp_path / "1").iterdir())
    assert names == ["0.gpkg", "1.gpkg", "2.gpkg"] == sorted(p.name for p in (tmp_path / "2").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def die(job: Job) -> Outcome:
    if job.scene.stem == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return do_job(job)


@pytest.mark.slow
def test_a_worker_that_dies(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is killed: exit 5 and how to go on, never a hang; the same command goes on."""
    (tmp_path / "in").mkdir()
    for k in range(2):
        scene(tmp_path / "in" / f"{k}.tif", 60 + k, 90)
    with monkeypatch.context() as patched:
        patched.setattr(module, "do_job", die)
        with pytest.raises(ResourceError, match=r"a worker died: 2 scenes with 2 workers: .*same command again"):
            detect_scenes(run, [tmp_path / "in"], tmp_path / "out", SETTINGS, 2, "cpu")
    assert len(detect_scenes(run, [tmp_path / "in"], tmp_path / "out", SETTINGS, 1, "cpu")) == 2


def test_another_runner(run: Path, tmp_path: Path) -> None:
    """What a cluster does: the jobs in any order, each from plain values."""
    import pickle

    (tmp_path / "in").mkdir()
    for k in range(3):
        scene(tmp_path / "in" / f"{k}.tif", 60 + k, 90)

    def backwards(jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome | DataError]]:
        for k in reversed(range(len(jobs))):
            yield k, pickle.loads(pickle.dumps(do_job(pickle.loads(pickle.dumps(jobs[k])))))

    for form in ("gpkg", "coco"):
        settings = SceneSettings(form, score=0.0)
        plain = detect_scenes(run, [tmp_path / "in"], tmp_path / f"{form}1", settings, device="cpu")
        other = detect_scenes(run, [tmp_path / "in"], tmp_path / f"{form}2", settings, device="cpu", runner=backwards)
        assert [r.objects for r in plain] == [r.objects for r in other]
        for a, b in zip(plain, other, strict=True):
            assert a.files[0].read_bytes() == b.files[0].read_bytes()
