"""The board of the data workers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from fledge.data.workers import WorkerBoard
from fledge.errors import ResourceError


def name(epoch: int, index: int) -> str:
    return f"image {index} of epoch {epoch}"


@pytest.mark.parametrize(
    "report",
    ["DataLoader worker (pid 41) is killed by signal: Killed. ", "DataLoader worker (pid(s) 41) exited unexpectedly"],
)
def test_a_dead_worker_is_named_with_the_sample_it_was_at(report: str) -> None:
    board = WorkerBoard(2, name)
    board.rows[1] = board.rows.new_tensor([41, 3, 7])
    expected = r"^data worker 1 died \(process 41\): image 7 of epoch 3: lower `workers`"
    with pytest.raises(ResourceError, match=expected), board.explaining():
        raise RuntimeError(report)


def test_several_dead_workers_are_all_named_also_before_their_first_image() -> None:
    board = WorkerBoard(2, name)
    board.rows[0] = board.rows.new_tensor([41, 0, 5])
    with pytest.raises(ResourceError) as caught, board.explaining():
        raise RuntimeError("DataLoader worker (pid(s) 41, 42) exited unexpectedly")
    assert "data worker 0 died (process 41): image 5 of epoch 0; " in str(caught.value)
    assert "a data worker died (process 42): before its first image" in str(caught.value)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), WorkerBoard(1, name).explaining():
        raise RuntimeError("shapes differ")


def test_the_handler_of_dead_children_is_put_back() -> None:
    def own(number: int, frame: object) -> None:
        pass

    class Loader:
        def __iter__(self) -> Iterator[int]:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            return iter([1, 2])

    before = signal.signal(signal.SIGCHLD, own)
    try:
        assert list(WorkerBoard(1, name).start(Loader())) == [1, 2]
        assert signal.getsignal(signal.SIGCHLD) is own
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_workers_can_be_started_from_another_thread() -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(WorkerBoard(1, name).start([1, 2])))
    thread.start()
    thread.join()
    assert seen == [1, 2]
