"""Signals during training: a function a row of the fault table; its docstring is the row."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fledge.engine.checkpoint import load_checkpoint
from fledge.engine.train_step import TrainStep

from .child import command, files, fledge, forked
from .tiny import checkpoint, logged, recipe_file, state, tiles


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_after_the_step(tmp_path: Path, data: Path, number: int, code: int) -> None:
    """SIGINT, SIGTERM: the current step finishes, a checkpoint is written, exit 130 or 143 within 10 s; the message
    says how to go on."""
    run = tmp_path / "run"
    start = ("train", recipe_file(tmp_path / "r.toml", data, epochs=100), "--out", run)
    # The real command once, its copy once: importing takes seconds.
    with fledge(*start) if number == signal.SIGTERM else forked(command, *start) as child:
        child.wait_until(lambda: logged(run))
        child.send(number)
        ended = child.end(timeout=10)
    assert ended.code == code, ended.out
    assert "Traceback" not in ended.out
    step = load_checkpoint(checkpoint(run))[0]["step"]
    assert ended.last == f"fledge: stopped after step {step} of 400; run the same command again to go on"
    assert 8 <= step < 400
    assert not [name for name in files(run) if "lock" in name or ".part" in name]


def test_a_second_signal_quits_at_once(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal quits at once, though the step goes on; no traceback, and the folder is free again."""
    run, forward = tmp_path / "run", TrainStep.forward

    def slow(step: TrainStep, batch: Any) -> Any:
        print("in a step", flush=True)
        for _ in range(600):
            time.sleep(0.1)
        return forward(step, batch)

    monkeypatch.setattr(TrainStep, "forward", slow)
    with forked(command, "train", recipe_file(tmp_path / "r.toml", data), "--out", run) as child:
        child.wait_for("in a step")
        child.send(signal.SIGINT)
        time.sleep(0.3)
        child.send(signal.SIGINT)
        ended = child.end(timeout=10)
    assert ended.code == 130, ended.out
    assert "Traceback" not in ended.out
    assert not (run / "run.lock").exists()


def test_a_killed_run_goes_on(tmp_path: Path, data: Path) -> None:
    """SIGKILL at any instant of a training: the same command goes on, to the same bits and log lines as a run in one
    piece."""
    file = recipe_file(tmp_path / "r.toml", data, epochs=3)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with forked(command, "train", file, "--out", killed) as child:
        child.wait_until(lambda: list(killed.glob("checkpoints/step-*[0-9]")))
        child.send()
        assert child.end().code == -signal.SIGKILL
    for run in (whole, killed):
        with forked(command, "train", file, "--out", run) as child:
            assert child.end().code == 0
    assert state(killed) == state(whole)
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert files(killed) - files(whole) == {n for n in files(killed) if n.startswith("tensorboard/")}
