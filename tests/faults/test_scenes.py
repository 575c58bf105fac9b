"""Tiled inference and outputs (§ tiled inference and outputs): one function a row, its docstring the row."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.faults.child import Child, command, files, forked, fresh
from tests.faults.scenes import scene
from tests.inference.squares import square_model

from fledge.errors import DataError
from fledge.inference.found import Found, gather, merge
from fledge.inference.model import TorchModel
from fledge.inference.scene import SceneSettings, detect_scene
from fledge.inference.windows import WindowGrid
from fledge.types import Detections, Frame

MIB = 1 << 20
SETTINGS = SceneSettings(score=0.0, batch_size=2)
Part = tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


def slowly(path: Path, out: Path, pause: float = 0.0) -> None:
    """Find the patches of a scene, with a pause after each batch."""

    def wait(done: int, total: int) -> None:
        print(f"{done} of {total}", flush=True)
        time.sleep(pause)

    detect_scene(square_model(), path, out, SETTINGS, wait)
    print("done", flush=True)


def lines(log: str) -> list[int]:
    return [int(line.split()[0]) for line in log.splitlines() if " of " in line]


def test_killed_during_a_scene(tmp_path: Path) -> None:
    """SIGKILL at any time: an append-only journal holds every finished window; started again, the run goes on with the
    others and ends with the byte-identical file."""
    path = scene(tmp_path / "a.tif")
    detect_scene(square_model(), path, tmp_path / "whole.gpkg", SETTINGS)
    out = tmp_path / "out.gpkg"
    for windows in ("4 of 20", "10 of 20"):
        with forked(slowly, path, out, 0.05) as child:
            child.wait_for(windows)
            child.send(signal.SIGKILL)
            assert child.end().code == -signal.SIGKILL
        assert not out.exists()
    with forked(slowly, path, out) as child:
        ended = child.end()
    assert ended.code == 0, ended.out
    assert lines(ended.out)[0] > 10, "what was finished is not computed again"
    assert out.read_bytes() == (tmp_path / "whole.gpkg").read_bytes()
    assert files(tmp_path) == {"a.tif", "whole.gpkg", "out.gpkg"}


@pytest.mark.slow
def test_50_kills(tmp_path: Path) -> None:
    """50 SIGKILLs at random moments of a scene, resumed after each: the file is byte-identical."""
    path = scene(tmp_path / "a.tif", 700, 800)
    slowly(path, tmp_path / "whole.gpkg")  # what is imported and compiled here, no child has to
    (tmp_path / "whole.gpkg").unlink()
    start = time.monotonic()
    with forked(slowly, path, tmp_path / "whole.gpkg", 0.004) as child:
        assert child.end().code == 0
    took = time.monotonic() - start
    rng = np.random.default_rng(0)
    kills, rounds = 0, 0
    while kills < 50:
        out = tmp_path / f"{rounds}.gpkg"
        while not out.exists() or out.with_name(f"{out.name}.journal").exists():
            with forked(slowly, path, out, 0.004) as child:
                time.sleep(float(rng.uniform(0, took / 2)))
                child.send(signal.SIGKILL)
                kills += child.end().code == -signal.SIGKILL
        assert out.read_bytes() == (tmp_path / "whole.gpkg").read_bytes()
        rounds += 1
    slowly(path, tmp_path / "last.gpkg")  # clears up
    assert files(tmp_path) == {"a.tif", "whole.gpkg", "last.gpkg"} | {f"{k}.gpkg" for k in range(rounds)}
    assert rounds > 3


def test_a_full_disk(tmp_path: Path) -> None:
    """Output on a full disk: the journal is kept, no file has the final name, exit 5; with room again, the same command
    ends with the same file."""
    path = scene(tmp_path / "a.tif")
    detect_scene(square_model(), path, tmp_path / "whole.gpkg", SETTINGS)
    out = tmp_path / "out" / "x.gpkg"
    for limit, where in ((600, "journal"), (20_000, "result")):
        with forked(errors_as_exits, path, out, limits={resource.RLIMIT_FSIZE: limit}) as child:
            ended = child.end()
        assert ended.code == 5, ended.out
        assert "cannot write" in ended.last, (where, ended.out)
        assert files(tmp_path / "out") == {"x.gpkg.journal"}
    slowly(path, out)
    assert out.read_bytes() == (tmp_path / "whole.gpkg").read_bytes()


def errors_as_exits(path: Path, out: Path) -> None:
    from fledge.errors import FledgeError

    try:
        detect_scene(square_model(), path, out, SETTINGS)
    except FledgeError as error:
        print(error)
        raise SystemExit(error.exit_code) from None


def windows_full_of_boxes(grid: WindowGrid, each: int) -> Iterator[Part]:
    """What a journal would give: ``each`` boxes in the owned part of every window, a tenth of them doubled."""
    rng = np.random.default_rng(0)
    labels = np.zeros(each, np.int32)
    for number in range(len(grid)):
        boxes = np.empty((each, 5), np.float32)
        boxes[:, :2] = rng.uniform(100, 900, (each, 2))
        boxes[:, 2:4] = rng.uniform(4, 40, (each, 2))
        boxes[:, 4] = rng.uniform(-1.5, 1.5, each)
        doubled = each // 10
        boxes[:doubled] = boxes[doubled : 2 * doubled] + np.array([0.5, 0.5, 0, 0, 0], np.float32)
        yield number, boxes, rng.uniform(0, 1, each).astype(np.float32), labels


def merge_many(side: int, each: int, most: int) -> None:
    """In a fresh process: the boxes of a scene merged under a limit of ``most`` bytes more than at the start."""
    merged_boxes(WindowGrid(2000, 2000, 1024, 200), 20)  # imports and compiles
    before = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (before + most, before + most))
    grid = WindowGrid(side, side, 1024, 200)
    start = time.monotonic()
    found = merged_boxes(grid, each)
    print(f"{len(found)} left of {each * len(grid)} in {time.monotonic() - start:.0f} s")


def merged_boxes(grid: WindowGrid, each: int) -> Found:
    return merge(gather(windows_full_of_boxes(grid, each), grid, 1.0), grid, 0.3, ("a",), Frame("a"))


def merge_a_million() -> None:
    merge_many(82_600, 100, 1024 * MIB)


def merge_ten_million() -> None:
    merge_many(82_600, 1000, 2048 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "count"), [(merge_a_million, 1_000_000), (merge_ten_million, 10_000_000)])
def test_millions_of_detections(run: Callable[[], None], count: int) -> None:
    """10^6 detections: gathered and merged on a spatial grid within 1 GiB; 10^7 within 2 GiB. (Writing them, some at a
    time, is not part of it.)"""
    with fresh(run) as child:
        ended = child.end(600)
    assert ended.code == 0, ended.out
    left, of = int(ended.last.split()[0]), int(ended.last.split()[3])
    assert of >= count
    assert 0.5 * of < left <= 0.905 * of, ended.out


@pytest.mark.parametrize("what", ["scene", "score", "model"])
def test_a_journal_of_something_else(what: str, tmp_path: Path) -> None:
    """Journal from another scene, model or setting: refused with what differs; --restart begins again."""
    path, out = scene(tmp_path / "a.tif"), tmp_path / "out.gpkg"
    with forked(slowly, path, out, 0.05) as child:
        child.wait_for("4 of 20")
        child.send()
        child.end()
    model, settings = square_model(), SETTINGS
    if what == "scene":
        path.unlink()
        scene(path, 251)
    elif what == "score":
        settings = SceneSettings(score=0.5, batch_size=2)
    else:
        next(model.module.parameters()).data += 1
    with pytest.raises(DataError, match=rf"journal differs: .*another .*{what}.*--restart"):
        detect_scene(model, path, out, settings)
    changed = SceneSettings(score=settings.score, batch_size=2, restart=True)
    assert detect_scene(model, path, out, changed).objects > 0


def test_a_spoiled_journal(tmp_path: Path) -> None:
    """Flipped bit in the journal: refused at that record, with a hint; nothing of it is written."""
    path, out = scene(tmp_path / "a.tif"), tmp_path / "out.gpkg"
    with forked(slowly, path, out, 0.05) as child:
        child.wait_for("10 of 20")
        child.send()
        child.end()
    journal = tmp_path / "out.gpkg.journal"
    data = bytearray(journal.read_bytes())
    data[-30] ^= 4
    journal.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged journal: .*the record at byte \d+ is wrong: add --restart"):
        detect_scene(square_model(), path, out, SETTINGS)
    assert not out.exists()


def test_class_names_that_are_markup(tmp_path: Path) -> None:
    """GeoJSON: quotes and ``</script>`` in names give valid JSON, read by a strict parser; NaN never (exit 4)."""

    def refuse(value: str) -> None:
        raise AssertionError(value)

    model = square_model()
    names = ('a"b</script>\n', "\u2028&'")
    model.module.classes = names  # type: ignore[assignment]
    detect_scene(model, scene(tmp_path / "a.tif"), tmp_path / "x.geojson", SceneSettings("geojson", score=0.0))
    collection = json.loads((tmp_path / "x.geojson").read_text(), parse_constant=refuse)
    assert {f["properties"]["class"] for f in collection["features"]} == set(names)


def test_nothing_of_the_source_leaks(tmp_path: Path) -> None:
    """EXIF and other metadata: writers copy nothing of the source but the CRS, the transform and the name."""
    import rasterio

    path = scene(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.update_tags(SECRET="hunter2", TIFFTAG_ARTIST="hunter2")
    for form in ("gpkg", "geojson", "csv", "coco", "dota", "yolo"):
        settings = SceneSettings(form, score=0.0, picture=True)
        for made in detect_scene(square_model(), path, tmp_path / form, settings).files:
            assert b"hunter2" not in made.read_bytes()
            assert str(tmp_path).encode() not in made.read_bytes()


def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    """Output paths: results lie in the folder of --out, whatever the scenes are called."""
    inner = tmp_path / "in"
    inner.mkdir()
    for name in ("..a.tif", "-rf.tif", "a b;c.tif"):
        scene(inner / name)
        detect_scene(square_model(), inner / name, tmp_path / "out", SETTINGS)
    assert files(tmp_path) == {f"in/{n}.tif" for n in ("..a", "-rf", "a b;c")} | {
        f"out/{n}.gpkg" for n in ("..a", "-rf", "a b;c")
    }


class Slow(TorchModel):
    """A model with a pause before each batch."""

    def run(self, images: Any, sizes: Any) -> list[Detections]:
        time.sleep(0.05)
        return super().run(images, sizes)


def slow_command(*arguments: object) -> None:
    """``fledge detect`` with the patches' finder as the model."""
    import fledge.scenes

    def load(path: Path, device: str) -> TorchModel:
        model = square_model()
        model.__class__ = Slow
        return model

    vars(fledge.scenes)["load_model"] = load
    command(*arguments)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_the_user(number: int, code: int, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM during a scene: says how to go on, exit 130 or 143, no result; the same command goes on."""
    path, out = scene(tmp_path / "a.tif"), tmp_path / "out.csv"
    arguments = ("detect", "none", path, "--out", out, "--score", 0, "--batch-size", 1)

    def journal_grows(child: Child) -> bool:
        journal = tmp_path / "out.csv.journal"
        return journal.exists() and journal.stat().st_size > 2000

    with forked(slow_command, *arguments) as child:
        child.wait_until(lambda: journal_grows(child))
        child.send(number)
        ended = child.end()
    assert (ended.code, "run the same command again to go on" in ended.last) == (code, True), ended.out
    assert not out.exists()
    with forked(slow_command, *arguments) as child:
        ended = child.end()
    assert ended.code == 0, ended.out
    detect_scene(square_model(), path, tmp_path / "whole.csv", SceneSettings("csv", score=0.0, batch_size=1))
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
