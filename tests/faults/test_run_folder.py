"""Faults of run folders: a function a row of the fault table; its docstring is the row."""

from __future__ import annotations

import ast
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

import fledge
from fledge import api, training
from fledge.engine.checkpoint import environment
from fledge.engine.metric_log import MetricLog, read_metrics
from fledge.engine.train_step import TrainStep
from fledge.errors import ResourceError, UsageError
from fledge.recipe import load_recipe

from .child import command, files, forked
from .tiny import checkpoint, logged, recipe, recipe_file, state, tiles


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(recipe(data), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def half(finished: Path, tmp_path: Path) -> Path:
    """A run that has half of its 8 steps."""
    run = shutil.copytree(finished, tmp_path / "half")
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    return run


def test_a_file_in_place_of_the_output_folder(tmp_path: Path, data: Path) -> None:
    """Output folder is a file, or inside one: refused at the start with exit 2; the file is untouched."""
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="not a run folder") as caught:
            api.train(recipe(data), out)
        assert caught.value.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_read_only_output_folder(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output folder is read-only: refused at the start, before any step, with exit 5."""
    (tmp_path / "run").mkdir(mode=0o555)
    if os.access(tmp_path / "run", os.W_OK):  # root may write anywhere: let the lock, the probe, be refused
        monkeypatch.setattr(training, "run_loop", lambda *_: pytest.fail("training began"))
        monkeypatch.setattr(Path, "open", refuse_writing)
    with pytest.raises(ResourceError, match=r"cannot write: .*(Read-only|Permission)") as caught:
        api.train(recipe(data), tmp_path / "run")
    assert caught.value.exit_code == 5


def refuse_writing(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
    if set(mode) & set("wxa+"):
        raise OSError(30, "Read-only file system", str(path))
    return open(path, mode, *rest, **options)  # noqa: PTH123 (Path.open is what is replaced)


def test_output_folder_removed_during_the_run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output folder removed during the run: exit 5, no "success", and nothing in its place."""
    run, forward = tmp_path / "run", TrainStep.forward

    def remove(step: TrainStep, batch: Any) -> Any:
        shutil.rmtree(run, ignore_errors=True)
        return forward(step, batch)

    monkeypatch.setattr(TrainStep, "forward", remove)
    with forked(command, "train", recipe_file(tmp_path / "r.toml", data, epochs=1), "--out", run) as child:
        ended = child.end()
    assert ended.code == 5, ended.out
    assert "Traceback" not in ended.out
    assert "the run folder was removed" in ended.last
    assert "trained" not in ended.out
    assert not run.exists()


def test_two_runs_in_one_folder(tmp_path: Path, data: Path) -> None:
    """Two runs in one folder: the second is refused, naming pid and host of the first, which goes on; the lock of a
    killed run is no obstacle."""
    run, file = tmp_path / "run", recipe_file(tmp_path / "r.toml", data, epochs=40)
    with forked(command, "train", file, "--out", run) as child:
        child.wait_until(lambda: logged(run))
        with pytest.raises(ResourceError, match=rf"process {child.pid} on {socket.gethostname()} uses it") as caught:
            api.train(load_recipe(file), run)
        assert caught.value.exit_code == 5
        lines = len(logged(run))
        child.wait_until(lambda: len(logged(run)) > lines)
        child.send()
        child.end()
    assert (run / "run.lock").exists()
    with pytest.raises(UsageError, match="its recipe differs"):  # it got past the lock
        api.train(recipe(data, epochs=1), run)
    assert not (run / "run.lock").exists()


def test_resume_with_a_changed_recipe(half: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resume with a changed recipe: the difference is shown and refused, unless `--allow-changes` names the keys; then
    it is recorded."""
    before = {name: (half / name).read_bytes() for name in files(half)}
    changed = recipe(data, lr=0.002, clip_norm=1.0)
    with pytest.raises(UsageError, match=r"clip_norm 35\.0 -> 1\.0, lr 0\.001 -> 0\.002.*allow-changes clip_norm,lr"):
        api.train(changed, half)
    with pytest.raises(UsageError, match="allow-changes clip_norm"):
        api.train(changed, half, allow_changes=["lr"])
    assert {name: (half / name).read_bytes() for name in files(half)} == before
    api.train(changed, half, allow_changes=["lr", "clip_norm"])
    assert "warning: " in capsys.readouterr().err
    assert load_recipe(half / "recipe.toml") == changed
    assert (half / "changes.log").read_text().startswith("step 4: settings changed: clip_norm 35.0 -> 1.0, lr ")
    assert checkpoint(half).name == "step-00000008"


def test_the_command_takes_permissions(half: Path, data: Path, tmp_path: Path) -> None:
    """Resume with a changed recipe, on the command line: exit 2 without `--allow-changes`, 0 with it."""
    start = ("train", recipe_file(tmp_path / "r.toml", data), "--out", half, "--set", "lr=0.002", "--set", "epochs=1")
    with forked(command, *start) as child:
        ended = child.end()
    assert (ended.code, ended.out.count("\n")) == (2, 1)
    assert "--allow-changes epochs,lr" in ended.last
    with forked(command, *start, "--allow-changes", "lr, epochs") as child:
        assert child.end().code == 0


@pytest.mark.parametrize("key", ["threads", "device", "torch", "processes"])
def test_resume_elsewhere(
    half: Path, data: Path, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resume with another thread count, device or torch: allowed, with a warning "not bit-exact", and recorded."""
    here = environment(torch.device("cpu"))
    monkeypatch.setattr(training, "environment", lambda device: {**here, key: "other"})
    monkeypatch.setattr(training, "run_loop", lambda *_: None)
    api.train(recipe(data), half)
    note = f"not bit-exact from here on: {key} {here[key]!r} -> 'other'"
    assert f"warning: {half}: {note}" in capsys.readouterr().err
    assert (half / "changes.log").read_text() == f"step 4: {note}\n"


def test_resume_with_other_workers(half: Path, finished: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Resume with another number of workers: allowed, with a warning, and the same bits."""
    api.train(recipe(data, workers=1), half)
    assert "settings changed: workers 0 -> 1" in capsys.readouterr().err
    assert state(half) == state(finished)


def test_the_log_is_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log folder full: a warning once, not the end of the run; when there is space again, no row is missing."""
    with MetricLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
        path = tmp_path / "metrics.csv"
        path.rename(tmp_path / "kept")
        path.symlink_to("/dev/full")
        log.write(2, {"loss": 2.0})
        log.write(3, {"loss": 3.0})
        path.unlink()
        (tmp_path / "kept").rename(path)
        log.write(4, {"loss": 4.0})
    assert read_metrics(path) == [(step, "loss", float(step)) for step in (1, 2, 3, 4)]
    assert capsys.readouterr().err.count("warning: cannot log") == 1


def test_training_outlives_its_log(half: Path, finished: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log folder refuses from the start: a warning once, and the same weights."""
    (half / "metrics.csv").unlink()
    (half / "metrics.csv").mkdir()
    shutil.rmtree(half / "tensorboard")
    (half / "tensorboard").write_text("")
    assert state(api.train(recipe(data), half)) == state(finished)
    assert capsys.readouterr().err.count("warning: cannot log") == 1


def test_clock_jumps() -> None:
    """Clock jumps: durations come from the monotonic clock; the time of day is written into TensorBoard's records, for
    display, and read nowhere else."""
    uses = set()
    for path in sorted(Path(fledge.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.today"}:
                uses.add(path.name)
            assert not (isinstance(node, ast.ImportFrom) and node.module == "time"), path
    assert uses == {"event_file.py"}
