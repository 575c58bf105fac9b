"""Several processes: a dead, silent or empty one. The rows of the distributed faults, and figure X1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults import tiny
from tests.processes import together
from torch.distributed import HashStore  # type: ignore[attr-defined]

from fledge import api, training
from fledge.data.datasets import open_dataset
from fledge.distributed import _store_of_these, check_in, joined, largest, rank
from fledge.engine.checkpoint import load_checkpoint
from fledge.errors import ResourceError
from fledge.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiles(tmp_path_factory.mktemp("data"))


def recipe(data: Path, **settings: Any) -> Recipe:
    """Frozen statistics: those of a batch would be each process's own."""
    return tiny.recipe(data, **{"freeze_norm": True, "optimizer": "sgd", "lr": 0.01, **settings})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(tiny.checkpoint(run))[1]["model"]


PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    import fledge.training
    from fledge.cli import main

    make, how, marks = fledge.training.training_batches, sys.argv.pop(1), Path(sys.argv.pop(1))

    def batches(*arguments):
        for step, batch in enumerate(make(*arguments), start=arguments[2]):
            if step == 5 and os.environ["RANK"] == "1" and not (marks / "done").exists():
                (marks / "done").touch()
                if how == "raise":
                    raise ValueError("planted")
                os.kill(os.getpid(), signal.SIGKILL) if how == "kill" else os._exit(7)
            yield batch

    fledge.training.training_batches = batches
    main()
"""


def torchrun(tmp_path: Path, how: str, *arguments: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """``fledge ARGUMENTS`` in two processes, of which the second fails in the sixth step."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port),
        "--max-restarts", str(restarts), str(tmp_path / "program.py"), how, str(tmp_path), *map(str, arguments),
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=env, check=False)


def _left(run: Path) -> list[str]:
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(run) in line]


@pytest.mark.parametrize("how", ["exit", pytest.param("raise", marks=pytest.mark.slow)])
def test_x1_a_process_that_exits_or_raises_ends_them_all(data: Path, tmp_path: Path, how: str) -> None:
    """A rank exits or raises: all processes gone, exit code not 0, the first failing rank named with its error."""
    run, file = tmp_path / "run", tiny.recipe_file(tmp_path / "r.toml", data, freeze_norm=True)
    ended = torchrun(tmp_path, how, "train", file, "--out", run)
    assert ended.returncode != 0
    assert not _left(run)
    report = ended.stderr[ended.stderr.index("Root Cause") :]
    assert "rank      : 1" in report
    assert ("planted" if how == "raise" else "exitcode  : 7") in report
    assert "another run is here" not in ended.stderr
    assert tiny.checkpoint(run).name == "step-00000004"


def _one_sleeps() -> None:
    os.environ["FLEDGE_TIMEOUT"] = "2"
    with joined(CPU) as device:
        check_in(7 + rank())
        if rank() == 0:
            time.sleep(6)
        largest([0.0], device)


def test_a_silent_process_is_named_within_the_timeout() -> None:
    """A rank stalls: the process-group timeout is ours; the others end with exit code 5 and name the rank."""
    _, other = together(2, _one_sleeps)
    assert isinstance(other, ResourceError)
    assert "process 0 (last seen at step 7)" in str(other)
    assert other.exit_code == 5


def _one_dies() -> None:
    with joined(CPU) as device:
        if rank() == 1:
            os._exit(7)
        largest([0.0], device)


def test_a_dead_process_ends_the_other_before_the_timeout() -> None:
    """A rank dies: the other does not wait for the two minutes of the timeout."""
    alive, dead = together(2, _one_dies)  # which itself waits for one minute
    assert isinstance(alive, ResourceError), alive
    assert isinstance(dead, EOFError)


def _figures(run: Path, data: Path) -> dict[str, Any]:
    found = api.evaluate(run, data, split="train", device="cpu")
    return {"AP50": found.metrics.mean(0.5), "images": [d.frame.image_id for d in found.detections]}


def test_uneven_data_are_shared_exactly_in_evaluation(data: Path, tmp_path: Path) -> None:
    """Uneven data per rank: exact split for evaluation; the metric equals that of one process (7 images, 2 ranks)."""
    run = api.train(recipe(data), tmp_path / "run")
    seven = tiny.tiles(tmp_path / "seven", 7)
    one = _figures(run, seven)
    assert len(one["images"]) == 7
    assert together(2, _figures, run, seven) == [one, one]


def test_an_empty_batch_on_one_process_only(data: Path, tmp_path: Path) -> None:
    """Empty batch on one rank only: all ranks reach the same collectives, and get what one process gets."""
    for count, path in enumerate(sorted((data / "train" / "labelTxt").glob("*.txt"))):
        (tmp_path / "half" / "train" / "labelTxt").mkdir(parents=True, exist_ok=True)
        text = path.read_text() if count % 2 else ""
        (tmp_path / "half" / "train" / "labelTxt" / path.name).write_text(text)
    (tmp_path / "half" / "train" / "images").symlink_to(data / "train" / "images")
    settings = recipe(tmp_path / "half")
    shares = [[len(t) for t in batch.targets] for batch in api.training_batches(settings, _train(settings), 0, 8)]
    assert any(0 in share and max(share) > 0 for share in shares)
    alone = weights(api.train(settings, tmp_path / "alone"))
    assert together(2, api.train, settings, tmp_path / "pair") == [tmp_path / "pair"] * 2
    pair = weights(tmp_path / "pair")
    assert all(torch.allclose(value, pair[name], rtol=1e-4, atol=2e-6) for name, value in alone.items())


def _train(settings: Recipe) -> Any:
    return open_dataset(Path(settings.data), "train")


@pytest.mark.parametrize("method", ["none", "kd_rnet"])
def test_every_parameter_has_a_gradient(data: Path, tmp_path: Path, method: str) -> None:
    """Unused parameters: every parameter that learns has a gradient after one step, with objects and without."""
    from fledge.build import build_detector, build_train_step
    from fledge.types import Targets

    extra = {"method": "kd_rnet"} if method == "kd_rnet" else {}
    settings = recipe(data, **extra)
    dataset = _train(settings)
    student, teacher = (build_detector(settings, dataset.classes) for _ in range(2))
    step = build_train_step(settings, student, teacher if extra else None).train()
    batch = next(iter(api.training_batches(settings, dataset, 0, 1)))
    empty = type(batch)(batch.images, batch.sizes, tuple(Targets.empty(t.image_id) for t in batch.targets))
    for given in (batch, empty):
        step.zero_grad(set_to_none=True)
        torch.stack(list(step(given).values())).sum().backward()  # type: ignore[no-untyped-call]
        assert [name for name, p in step.named_parameters() if p.requires_grad and p.grad is None] == []


def test_only_the_first_process_writes(data: Path, tmp_path: Path) -> None:
    """Checkpoint by more than rank 0: only rank 0 writes; a finished run is left as it is by both."""
    run = tmp_path / "run"
    assert together(2, api.train, recipe(data), run) == [run, run]
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert not list(run.rglob("*.part"))
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    assert together(2, api.train, recipe(data), run) == [run, run]
    assert {path: path.read_bytes() for path in run.rglob("*.safetensors")} == before


@pytest.mark.slow
def test_a_restart_by_torchrun_ends_with_the_same_bits(data: Path, tmp_path: Path) -> None:
    """Restart by torchrun: with --max-restarts 2 and a kill the run ends with bit-equal weights."""
    settings = {"freeze_norm": True, "epochs": 2}
    file = tiny.recipe_file(tmp_path / "r.toml", data, **settings)
    ended = torchrun(tmp_path, "kill", "train", file, "--out", tmp_path / "killed", restarts=2)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "done").exists()
    whole = torchrun(tmp_path, "exit", "train", file, "--out", tmp_path / "whole")  # its mark is there: nothing fails
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert tiny.state(tmp_path / "killed") == tiny.state(tmp_path / "whole")


def test_a_restarted_group_does_not_meet_the_dead() -> None:
    """Restart by torchrun: it hands out the same store again, with what the dead processes left in it."""
    store, limit = HashStore(), timedelta(seconds=20)
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda own: _store_of_these(store, own, 3, limit), (0, 1, 2)))
        assert not parts[0].check(["step/1"])
        parts[1].set("step/1", "5")
        assert [part.get("step/1") for part in parts] == [b"5"] * 3
    with pytest.raises(RuntimeError, match=r"timed out: waiting for processes \[1, 2\]"):
        _store_of_these(store, 0, 3, timedelta(seconds=0.1))  # the names of the dead get an answer that none takes


def test_a_signal_stops_all_processes_after_the_same_step(data: Path, tmp_path: Path) -> None:
    """SIGTERM to one rank: all stop after the same step, and the checkpoint is of that step."""
    errors = together(2, _signalled, recipe(data), tmp_path / "run")
    assert [str(error).split(";")[0] for error in errors] == ["stopped after step 2 of 8"] * 2
    assert [error.exit_code for error in errors] == [143, 143]
    assert tiny.checkpoint(tmp_path / "run").name == "step-00000002"


def _signalled(settings: Recipe, folder: Path) -> None:
    make = training.training_batches

    def batches(*arguments: Any) -> Any:
        for step, batch in enumerate(make(*arguments)):
            if step == 1 and rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    training.training_batches = batches  # type: ignore[assignment]
    api.train(settings, folder)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_deterministic_training_on_cuda(data: Path, tmp_path: Path) -> None:
    """CUDA-only nondeterminism: `deterministic` gives the same bits twice, and names operations that refuse."""
    settings = recipe(data, deterministic=True, device="cuda")
    first, second = (api.train(settings, tmp_path / name) for name in ("first", "second"))
    assert tiny.state(first) == tiny.state(second)
