"""The training loop, on one page."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from fledge.engine.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from fledge.engine.metric_log import MetricLog
from fledge.engine.optim import Schedule
from fledge.engine.progress import progress
from fledge.engine.train_step import TrainStep
from fledge.errors import FledgeError, NumericError, UsageError
from fledge.types import Batch

Batches = Callable[[int, int], Iterator[Batch]]


class Interrupted(FledgeError):  # noqa: N818 (it is no error)
    """The user stopped the run; its state was saved first."""

    exit_code = 130


@dataclass(frozen=True)
class Run:
    """What one run of the loop needs besides its modules.

    Attributes:
        folder: where checkpoints and logs go.
        title: shown with the progress.
        schedule: learning rate by step; its ``total`` is the length of the run.
        clip_norm: largest gradient norm.
        save_every: steps between checkpoints (one is always written at the end).
        log_every: steps between logged means.
        meta: JSON values kept in every checkpoint (recipe, classes, …).
    """

    folder: Path
    title: str
    schedule: Schedule
    clip_norm: float
    save_every: int
    log_every: int
    meta: Mapping[str, Any]


def train(step: TrainStep, optimizer: optim.Optimizer, batches: Batches, run: Run, device: torch.device) -> Path:
    """Train until ``run.schedule.total`` steps are done, resuming from the newest checkpoint in ``run.folder``.

    Args:
        step: student (and distiller); moved to ``device``.
        optimizer: over the parameters of ``step``.
        batches: ``batches(start, total)`` yields the batches of those steps, a pure function of the step.
        run: settings.
        device: where to compute.

    Returns:
        The final checkpoint.

    Raises:
        NumericError: a loss or gradient is not finite; no step is taken with it.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
    """
    step.to(device).train()
    total = run.schedule.total
    done, saved = _resume(step, optimizer, run)
    if saved is not None and done >= total:
        return saved
    sums: dict[str, Tensor] = {}
    pending, note = 0, ""
    with MetricLog(run.folder, done) as log, progress(run.title, total) as advance, _stop_requests() as stopped:
        for batch in batches(done, total):
            for group in optimizer.param_groups:
                group["lr"] = run.schedule(done)
            terms = step(batch.to(device))
            loss = torch.stack(list(terms.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(step.parameters(), run.clip_norm)
            if not torch.isfinite(loss + norm):
                raise NumericError(_non_finite(done, terms, norm, batch))
            optimizer.step()

            done += 1
            for name, value in {**terms, "loss": loss}.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
            pending += 1
            if done % run.log_every == 0 or done == total:
                means = {name: float(value) / pending for name, value in sums.items()}
                log.write(done, {**means, "lr": run.schedule(done - 1)})
                sums, pending, note = {}, 0, f"loss {means['loss']:.3f}"
            advance(done, note)
            if done % run.save_every == 0 or done == total or stopped():
                saved = _save(step, optimizer, run, done)
            if stopped() and done < total:
                raise Interrupted(f"stopped after step {done} of {total}; run the same command again to go on")
    if saved is None:
        raise UsageError(f"nothing to train: {run.folder}: the run has no steps: raise epochs")
    return saved


def _resume(step: TrainStep, optimizer: optim.Optimizer, run: Run) -> tuple[int, Path | None]:
    """Finished steps and the checkpoint they come from, after loading it into the modules."""
    newest = newest_checkpoint(run.folder / "checkpoints")
    if newest is None:
        return 0, None
    manifest, groups = load_checkpoint(newest)
    step.student.load_state_dict(groups["model"])
    if step.distiller is not None:
        step.distiller.load_state_dict(groups["distiller"])
    restore_optimizer(optimizer, groups["optimizer"])
    return int(manifest["step"]), newest


def _save(step: TrainStep, optimizer: optim.Optimizer, run: Run, done: int) -> Path:
    groups = {"model": step.student.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    if step.distiller is not None:
        groups["distiller"] = step.distiller.state_dict()
    return save_checkpoint(run.folder / "checkpoints", done, groups, run.meta)


def _non_finite(done: int, terms: Mapping[str, Tensor], norm: Tensor, batch: Batch) -> str:
    terms = {name: value.detach() for name, value in terms.items()}
    values = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
    bad = [name for name, value in terms.items() if not math.isfinite(float(value))] or [f"gradient norm {float(norm)}"]
    images = ", ".join(t.image_id for t in batch.targets)
    return f"not finite: step {done}: {' and '.join(bad)} ({values}; images {images}): lower lr or check these images"


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT or SIGTERM came; a second signal quits at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
