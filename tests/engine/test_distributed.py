from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import together

from fledge.build import pick_device
from fledge.distributed import (
    check_in,
    gathered,
    joined,
    largest,
    mean_over_processes,
    rank,
    share_of_positives,
    wait_for_all,
    world_size,
    wrap,
)
from fledge.errors import UsageError

CPU = torch.device("cpu")


def test_alone_everything_is_a_no_op() -> None:
    module = torch.nn.Linear(2, 2)
    with joined(CPU) as device:
        assert (device, rank(), world_size()) == (CPU, 0, 1)
        assert wrap(module) is module
        assert float(share_of_positives(3, CPU)) == 3
        assert float(share_of_positives(0, CPU)) == 1
        assert mean_over_processes(torch.tensor([2.0])).tolist() == [2.0]
        assert largest([1.0, 0.0], CPU) == [1.0, 0.0]
        assert gathered("mine") == ["mine"]
        check_in(3)
        wait_for_all()


def _conversation() -> dict[str, Any]:
    with joined(CPU) as device:
        own = rank()
        return {
            "rank": own,
            "world": world_size(),
            "share": float(share_of_positives([3, 0][own], device)),
            "none": float(share_of_positives(0, device)),
            "mean": mean_over_processes(torch.tensor([1.0, float(own)])).tolist(),
            "largest": largest([float(own), 1.0 - own], device),
            "gathered": gathered({"rank": own}),
        }


def test_two_processes_share_counts_means_and_values() -> None:
    expected = {
        "world": 2,
        "share": 1.5,  # three positives over two processes
        "none": 0.5,  # at least one positive, over two processes
        "mean": [1.0, 0.5],
        "largest": [1.0, 1.0],
        "gathered": [{"rank": 0}, {"rank": 1}],
    }
    assert together(2, _conversation) == [{"rank": r, **expected} for r in range(2)]


def _own_trouble() -> None:
    with joined(CPU):
        raise ValueError("mine")


def test_a_process_keeps_its_own_error() -> None:
    assert [str(e) for e in together(2, _own_trouble)] == ["mine", "mine"]


def test_a_timeout_that_is_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEDGE_TIMEOUT", "soon")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(UsageError, match="FLEDGE_TIMEOUT"), joined(CPU):
        pass


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:3")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("cpu") == CPU
