"""The processes that prepare batches: what each is at, and what to tell the user when one dies."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import cv2
import torch
from torch.utils.data import get_worker_info

from fledge.errors import ResourceError

T = TypeVar("T")
# From the (epoch, index) of a sample to its name.
Name = Callable[[int, int], str]


class WorkerBoard:
    """A board in shared memory on which each worker of a loader notes the sample it is at.

    Args:
        workers: how many there are; the main process is none of them.
        name: describes a sample in errors.
    """

    def __init__(self, workers: int, name: Name) -> None:
        self.name = name
        # Process id, epoch and image of each worker.
        self.rows = torch.full((workers, 3), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self.children: list[multiprocessing.process.BaseProcess] = []

    def note(self, epoch: int, index: int) -> None:
        """Called in a worker before it prepares image ``index``; without effect in the main process."""
        if (worker := get_worker_info()) is not None:
            self.rows[worker.id] = torch.tensor([os.getpid(), epoch, index])

    def start(self, loader: Iterable[T]) -> Iterator[T]:
        """The iterator of a loader, whose workers it starts; they stop once nothing holds it.

        Torch sets a handler of SIGCHLD, which raises wherever the main process happens to be, such as amid an optimiser
        step. The handler before it is put back; the loader then finds a dead worker when it waits for its batch, within
        5 seconds.
        """
        can = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
        before = signal.getsignal(signal.SIGCHLD) if can else None
        try:
            return iter(loader)
        finally:
            if before is not None:
                signal.signal(signal.SIGCHLD, before)
            self.children = multiprocessing.active_children()

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """To be held while batches are fetched.

        Raises:
            ResourceError: instead of torch's report that a worker died: which one, how, and at what.
        """
        try:
            yield
        except Exception as error:
            # The frames of its traceback hold the loader; let go of by the garbage collector, it takes 5 s to stop.
            traceback.clear_frames(error.__traceback__)
            # Torch has no exception class of its own for a death.
            found = re.match(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ", str(error))
            if found is None or not isinstance(error, RuntimeError):
                raise
            deaths = "; ".join(self._death(int(pid)) for pid in found[1].split(","))
            raise ResourceError(f"{deaths}: lower `workers` if memory ran short, else check this image") from error

    def _death(self, pid: int) -> str:
        codes = [child.exitcode for child in self.children if child.pid == pid]
        how = f", exit code {codes[0]}" if codes else ""
        for worker, (process, epoch, index) in enumerate(self.rows.tolist()):
            if process == pid:
                return f"data worker {worker} died (process {pid}{how}): {self.name(epoch, index)}"
        return f"a data worker died (process {pid}{how}): before its first image"


def one_thread(_: int) -> None:
    """Set-up of a worker: the workers share the cores with the network."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
