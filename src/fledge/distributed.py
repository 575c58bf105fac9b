"""Several processes that train one model: started by torchrun, joined here, and the few things they tell each other.

Alone, every function is a no-op, so the rest of fledge is written once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from fledge.errors import ResourceError, UsageError

_TIMEOUT = "FLEDGE_TIMEOUT"
_stores: list[Any] = []
_steps: list[tuple[int, int]] = []


def rank() -> int:
    """The number of this process, from 0; 0 alone."""
    return distributed.get_rank() if distributed.is_initialized() else int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes train together; 1 alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started (gloo on CPUs, NCCL on GPUs) on the device of this one.

    A process that does not answer within two minutes (``FLEDGE_TIMEOUT`` seconds) ends the run. Without torchrun, or
    inside another ``joined``, nothing happens.

    Raises:
        ResourceError: another process died or does not answer.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        yield device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    limit = timedelta(seconds=_timeout())
    store, own, count = next(rendezvous("env://", timeout=limit))
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        _stores.append(_store_of_these(store, own, count, limit))
        distributed.init_process_group(backend, store=_stores[-1], rank=own, world_size=count, timeout=limit)
        yield device
    except (distributed.DistBackendError, RuntimeError) as error:
        # One process's own trouble reaches the others as a broken or silent connection.
        if _lost_connection(error):
            raise ResourceError(_silent(own, count, limit)) from error
        raise
    finally:
        _stores.clear()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def check_in(step: int) -> None:
    """Tell the others which step this process begins, so that they can name it if it falls silent."""
    if _stores:
        _stores[-1].set(f"step/{rank()}", str(step))


def wrap(module: nn.Module) -> nn.Module:
    """The module, with gradients averaged over the processes if there are several."""
    return DistributedDataParallel(module) if world_size() > 1 else module


@contextmanager
def whole_step(positives: int, parts: int) -> Iterator[None]:
    """Within, ``share_of_positives`` counts all ``parts`` batches that this process computes for one step."""
    _steps.append((positives, parts))
    try:
        yield
    finally:
        _steps.pop()


def parts_of_step() -> int:
    """In how many parts this process computes the step that is going on; 1 outside a step."""
    return _steps[-1][1] if _steps else 1


def share_of_positives(count: int, device: torch.device) -> Tensor:
    """What a sum over the positives of a batch is divided by: the step's positives (at least 1) / batches of the step.

    A step's batches are those of all processes and of all parts in which each computes its share. Their gradients are
    averaged afterwards, so the result is the sum over the step divided by its positives, as one batch would give it.
    """
    count, parts = _steps[-1] if _steps else (count, 1)
    total = torch.tensor(float(count), device=device)
    if world_size() > 1:
        distributed.all_reduce(total)
    return total.clamp(min=1) / (world_size() * parts)


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in place."""
    if world_size() > 1:
        distributed.all_reduce(values)
        values /= world_size()
    return values


def as_on_first(values: Iterable[Tensor]) -> None:
    """Give tensors, in place, the values that they have on the first process."""
    if world_size() > 1:
        for value in values:
            distributed.broadcast(value, src=0)


def largest(values: Sequence[float], device: torch.device) -> list[float]:
    """The largest of each value over all processes."""
    if world_size() == 1:
        return list(values)
    most = torch.tensor(values, device=device)
    distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
    return most.tolist()


def gathered(own: Any) -> list[Any]:
    """One value of each process, in their order, on every process."""
    if world_size() == 1:
        return [own]
    everyone: list[Any] = [None] * world_size()
    distributed.all_gather_object(everyone, own)
    return everyone


def wait_for_all() -> None:
    """Return when every process got here."""
    if world_size() > 1:
        distributed.barrier()


def _store_of_these(store: Any, own: int, count: int, limit: timedelta) -> Any:
    """A part of torchrun's store that only the processes of this attempt use.

    After a restart torchrun hands out the same store, in which the addresses of the dead processes still stand. So each
    process shows a name that nobody had before, and the first one answers it with the name of the attempt.
    """
    name, names = uuid4().hex, PrefixStore("fledge/names", store)
    if own > 0:
        names.set(str(own), name)
        attempt = names.get(name).decode()  # waits for the answer
        names.set(f"{attempt}/{own}", "")
        return PrefixStore(f"fledge/{attempt}", store)
    missing, end = set(range(1, count)), time.monotonic() + limit.total_seconds()
    while missing:
        if time.monotonic() > end:
            raise RuntimeError(f"timed out: waiting for processes {sorted(missing)}")
        for other in sorted(missing):
            if names.check([str(other)]):  # it may be a dead process's, so look again until the answer is taken
                names.set(names.get(str(other)).decode(), name)
            if names.check([f"{name}/{other}"]):
                missing.remove(other)
        time.sleep(0.01)
    return PrefixStore(f"fledge/{name}", store)


def _timeout() -> float:
    try:
        return float(os.environ.get(_TIMEOUT, 120))
    except ValueError:
        raise UsageError(f"{_TIMEOUT} is {os.environ[_TIMEOUT]!r}: environment: give a number of seconds") from None


def _lost_connection(error: BaseException) -> bool:
    text = str(error).lower()
    return any(
        sign in text for sign in ("timed out", "timeout", "connection closed", "connection reset", "gloo", "nccl")
    )


def _silent(own: int, count: int, limit: timedelta) -> str:
    """Which processes are behind, as far as the store can still be read."""
    try:
        store = _stores[-1]
        store.set_timeout(timedelta(seconds=2))
        steps = [int(store.get(f"step/{r}")) if store.check([f"step/{r}"]) else -1 for r in range(count)]
        least = min(step for r, step in enumerate(steps) if r != own)
        names = ", ".join(str(r) for r, step in enumerate(steps) if r != own and step == least)
        who = f"process {names} (last seen at step {least})"
    except Exception:  # the store went with the process that held it
        who = "another process"
    return (
        f"no answer: {who}: it died, or was silent for {limit.total_seconds():.0f} s: look for its own error, "
        "then run the same command again to go on"
    )
