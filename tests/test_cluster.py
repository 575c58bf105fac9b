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

from fledge import api, cluster
from fledge.data.synthetic import write_dataset
from fledge.errors import DataError, NumericError, ResourceError, UsageError
from fledge.inference.scan import Scan
from fledge.inference.settings import SceneSettings
from fledge.scenes import Job, Outcome

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
    def missing(name: str) -> Any:
        return None

    monkeypatch.setattr(cluster, "find_spec", missing)
    with pytest.raises(UsageError, match=r"pip install 'fledge\[ray\]'"):
        cluster.on_ray()


class FakeRay:
    """As much of Ray as a cluster needs that does jobs at once; ``ends`` says how each ends."""

    class exceptions:
        RaySystemError = WorkerCrashedError = NodeDiedError = OutOfMemoryError = LocalRayletDiedError = ConnectionError

    def __init__(self, ends: list[object], gpus: int = 0) -> None:
        self.ends, self.gpus = ends, gpus
        self.cancelled: list[Any] = []
        self.asked: dict[str, Any] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, "GPU": float(self.gpus)} if self.gpus else {"CPU": 2.0}

    def remote(self, **asked: Any) -> Any:
        self.asked = asked
        return lambda _: type("Task", (), {"remote": lambda _, job: f"reference {job.scene.stem}"})()

    def wait(self, waiting: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return waiting[-1:], waiting[:-1]  # the last first

    def get(self, reference: str) -> object:
        end = self.ends[int(reference.split()[-1])]
        if isinstance(end, ConnectionError):
            raise end
        return end

    def cancel(self, reference: Any, force: bool) -> None:
        self.cancelled.append(reference)


def jobs(count: int, device: str = "auto") -> list[Job]:
    return [Job("m", device, Path(f"{i}"), Path("out"), Path(f"{i}.journal"), SceneSettings()) for i in range(count)]


def test_outcomes_keep_their_places() -> None:
    outcome = Outcome(Scan(1, 0, (), ()), None)
    ray = FakeRay([outcome, DataError("bad"), outcome])
    found = dict(cluster._spread(ray, jobs(3)))
    assert found[0] is found[2] is outcome
    assert str(found[1]) == "bad"
    assert ray.cancelled == []


ENDS = [(NumericError("not finite"), NumericError), (ConnectionError("The worker died. More"), ResourceError)]


@pytest.mark.parametrize(("end", "error"), ENDS)
def test_what_ends_everything_cancels_the_rest(end: Exception, error: type[Exception]) -> None:
    ray = FakeRay([None, None, end])
    with pytest.raises(error) as caught:
        list(cluster._spread(ray, jobs(3)))
    assert sorted(ray.cancelled) == ["reference 0", "reference 1"]
    if error is ResourceError:
        assert str(caught.value).startswith("a worker died 4 times: 2: The worker died: ")


@pytest.mark.parametrize(
    ("device", "gpus", "wanted"), [("cpu", 1, 0), ("auto", 0, 0), ("auto", 2, 1), ("cuda:0", 0, 1)]
)
def test_gpus_are_asked_for_where_they_are_used(device: str, gpus: int, wanted: int) -> None:
    ray = FakeRay([Outcome(Scan(1, 0, (), ()), None)], gpus)
    list(cluster._spread(ray, jobs(1, device)))
    assert ray.asked == {"num_cpus": 1, "num_gpus": wanted, "max_retries": 3}


def test_a_signal_inside_of_ray_is_ours_again() -> None:
    class Torn(FakeRay):
        def wait(self, *_: Any, **__: Any) -> Any:
            raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        list(cluster._spread(Torn([None]), jobs(1)))
