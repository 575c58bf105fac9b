from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

import fledge.engine.lock as lock_module
from fledge.engine.checkpoint import save_checkpoint
from fledge.engine.lock import release, take
from fledge.engine.run_folder import claimed
from fledge.errors import ResourceError, UsageError

Claim = Callable[..., AbstractContextManager[list[str]]]
SETTINGS = {"lr": 0.1, "workers": 2}


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    """``claim(lr=…, workers=…, **how)`` for the folder ``run``, with recipes that are JSON."""

    def make(lr: float = 0.1, workers: int = 2, **how: Any) -> AbstractContextManager[list[str]]:
        settings = {"lr": lr, "workers": workers}

        def write(path: Path) -> None:
            path.write_text(json.dumps(settings))

        return claimed(
            tmp_path / "run",
            settings,
            lambda path: json.loads(path.read_text()),
            write,
            harmless=("workers",),
            **how,
        )

    return make


def recipe_of(folder: Path) -> Any:
    return json.loads((folder / "run" / "recipe.toml").read_text())


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder / "run" / "checkpoints", step, {"model": {"w": torch.zeros(2)}}, {})


def test_a_new_folder_is_made_locked_and_released(tmp_path: Path, claim: Claim) -> None:
    with claim() as warnings:
        assert warnings == []
        assert recipe_of(tmp_path) == SETTINGS
        owner = json.loads((tmp_path / "run" / "run.lock").read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.toml"]
    with claim() as warnings:
        assert warnings == []
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.toml"]


def test_the_lock_is_released_after_an_error(tmp_path: Path, claim: Claim) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), claim():
            raise error
        assert not (tmp_path / "run" / "run.lock").exists()


def test_a_second_claim_is_refused_and_leaves_the_first(tmp_path: Path, claim: Claim) -> None:
    with claim():
        before = (tmp_path / "run" / "run.lock").read_text()
        with pytest.raises(ResourceError, match=rf"process {os.getpid()} on {socket.gethostname()} uses it"), claim():
            pass
        assert (tmp_path / "run" / "run.lock").read_text() == before


def test_changes_need_permission(tmp_path: Path, claim: Claim) -> None:
    with claim():
        pass
    with pytest.raises(UsageError, match=r"lr 0\.1 -> 0\.2.*--allow-changes lr$"), claim(lr=0.2):
        pass
    assert recipe_of(tmp_path) == SETTINGS
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.toml"]
    save(tmp_path, 7)
    with claim(lr=0.2, workers=0, allowed=["lr"]) as warnings:
        assert warnings == [f"{tmp_path / 'run'}: settings changed: lr 0.1 -> 0.2, workers 2 -> 0"]
        assert recipe_of(tmp_path) == {"lr": 0.2, "workers": 0}
    assert (tmp_path / "run" / "changes.log").read_text() == "step 7: settings changed: lr 0.1 -> 0.2, workers 2 -> 0\n"
    with claim(lr=0.2, workers=1) as warnings:  # harmless: no permission, but a warning
        assert "workers 0 -> 1" in warnings[0]
    assert len((tmp_path / "run" / "changes.log").read_text().splitlines()) == 2
    with claim(lr=0.2, workers=1, allowed=["lr"]) as warnings:
        assert warnings == []


def test_permission_for_an_unknown_setting(tmp_path: Path, claim: Claim) -> None:
    with (
        pytest.raises(UsageError, match="no such setting: --allow-changes learning_rate"),
        claim(allowed=["learning_rate"]),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_finished_run_changes(tmp_path: Path, claim: Claim) -> None:
    with claim():
        save(tmp_path, 7)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with claim(workers=0, total_steps=7, environment={"threads": -1}) as warnings:
        assert warnings == []
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_removed_folder_is_no_success(tmp_path: Path, claim: Claim) -> None:
    def train(error: Exception | None) -> None:
        with claim():
            shutil.rmtree(tmp_path / "run")
            if error is not None:
                raise error

    with pytest.raises(ResourceError, match="run folder lost"):
        train(None)
    with pytest.raises(ValueError, match="the run's own"):
        train(ValueError("the run's own"))


def test_a_folder_claimed_by_another_meanwhile_is_no_success(tmp_path: Path, claim: Claim) -> None:
    lock = tmp_path / "run" / "run.lock"
    with pytest.raises(ResourceError, match="run folder lost"), claim():
        lock.write_text("{}")
    assert lock.read_text() == "{}"


def test_what_a_run_killed_at_its_start_leaves_is_no_obstacle(tmp_path: Path, claim: Claim) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").write_text("")
    (tmp_path / "run" / "recipe.toml.4000000.part").write_text("lr")
    with claim():
        assert recipe_of(tmp_path) == SETTINGS
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.toml"]


LIVE = {"pid": os.getppid(), "started": lock_module._started(os.getppid()), "host": socket.gethostname()}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**LIVE, "pid": 4_000_000}),
        json.dumps({**LIVE, "started": "1"}),  # the number is in use again
        json.dumps({**LIVE, "pid": 10**30}),
        '{"pid": 1}',
        '{"pid": 12, "sta',
        "[]",
        "",
    ],
)
def test_stale_locks_are_taken_over(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(text)
    own = take(lock)
    assert lock.read_text() == own
    assert release(lock, own)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("owner", [LIVE, {**LIVE, "host": "elsewhere", "pid": 4_000_000}])
def test_living_and_foreign_locks_are_not(tmp_path: Path, owner: dict[str, Any]) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps(owner))
    with pytest.raises(ResourceError, match=f"process {owner['pid']} on {owner['host']}"):
        take(lock)
    assert [p.name for p in tmp_path.iterdir()] == ["run.lock"]


def test_a_lock_taken_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes find a stale lock; the slower one must not remove the lock of the faster one."""
    lock = tmp_path / "run.lock"
    lock.write_text("")
    remove = lock_module._remove_stale

    def late(path: Path, text: str) -> None:
        lock.write_text(json.dumps(LIVE))
        remove(path, text)

    monkeypatch.setattr(lock_module, "_remove_stale", late)
    with pytest.raises(ResourceError, match="another run is going on"):
        take(lock)
    assert json.loads(lock.read_text()) == LIVE
