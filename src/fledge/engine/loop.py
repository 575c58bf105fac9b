"""The training loop, on one page. It runs alone or in each of several processes (``fledge.distributed``)."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from fledge.distributed import check_in, largest, rank, wait_for_all, whole_step, wrap
from fledge.engine.balance import gradient_ratios, out_of_balance, raw_terms
from fledge.engine.black_box import BlackBox, joined_batch, write_black_box
from fledge.engine.checkpoint import newest_checkpoint
from fledge.engine.metric_log import MetricLog
from fledge.engine.optim import Schedule
from fledge.engine.progress import progress, say
from fledge.engine.selection import Judge, forget_later, judged
from fledge.engine.state import TrainState
from fledge.engine.train_step import TrainStep
from fledge.errors import FledgeError, NumericError, ResourceError, UsageError
from fledge.types import Batch

Batches = Callable[[int, int], Iterator[Batch]]
# A scaled fp16 gradient may overflow now and then; this many times in a row it is no longer the scale's fault.
OVERFLOWS = 20


class Interrupted(FledgeError):  # noqa: N818 (it is no error)
    """The user stopped the run; its state was saved first. Exits with 128 + the signal."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


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
        parts: batches a step is computed in; their gradients are averaged.
        ema_decay: of the averaged weights that are evaluated; 0 keeps none.
        skip_bad_steps: how many steps with a number that is not finite are left out before the run stops.
        balance_every: steps between measurements of the distillation terms' gradients; 0: none.
        eval_every: steps between evaluations (one is always made at the end), if the loop is given a judge.
        keep_best: the figure by which the best checkpoint is kept beside the last, or "".
    """

    folder: Path
    title: str
    schedule: Schedule
    clip_norm: float
    save_every: int
    log_every: int
    meta: Mapping[str, Any]
    parts: int = 1
    ema_decay: float = 0.0
    skip_bad_steps: int = 0
    balance_every: int = 0
    eval_every: int = 1
    keep_best: str = ""


def train(
    step: TrainStep,
    optimizer: optim.Optimizer,
    batches: Batches,
    run: Run,
    device: torch.device,
    judge: Judge | None = None,
) -> Path:
    """Train until ``run.schedule.total`` steps are done, resuming from the newest checkpoint in ``run.folder``.

    Args:
        step: student (and distiller); moved to ``device``.
        optimizer: over the parameters of ``step``; the rate of a group is the schedule's times its ``lr_factor``.
        batches: ``batches(start, total)`` yields the ``run.parts`` batches of each of those steps that this process
            computes, a pure function of the step.
        run: settings.
        device: where to compute.
        judge: evaluates the weights every ``run.eval_every`` steps, or None.

    Returns:
        The final checkpoint.

    Raises:
        NumericError: a loss or gradient is not finite; no step is taken with it, and the batch is saved.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
    """
    step.to(device).train()
    total, folder = run.schedule.total, run.folder / "checkpoints"
    state = TrainState(step, optimizer, run.ema_decay, device)
    saved = state.resume(folder)
    if saved is not None and state.done >= total:
        return saved
    forget_later(run.folder, state.done)
    parallel, feed = wrap(step), iter(batches(state.done, total))
    log = MetricLog(run.folder, state.done) if rank() == 0 else nullcontext()
    with log as lines, progress(run.title, total) as advance, _stop_requests() as requested:
        while state.done < total:
            check_in(state.done)
            for group in optimizer.param_groups:
                group["lr"] = run.schedule(state.done) * group.get("lr_factor", 1.0)
            parts = [batch.to(device) for batch in islice(feed, run.parts)]
            balance = _balance(step, parts[0], run, state.done)
            terms, culprit = _backward(parallel, state, parts)
            state.scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(step.parameters(), run.clip_norm)
            overflow = culprit is None and state.scaler.is_enabled() and not torch.isfinite(norm)
            bad = culprit is not None or not (overflow or torch.isfinite(norm))
            anywhere, stop = largest([float(bad), float(requested())], device)
            if anywhere:
                _refuse_or_skip(state, run, terms, norm, culprit or joined_batch(parts))
            else:
                if not overflow:  # the fused kernels of a CPU would not skip by themselves
                    state.scaler.step(optimizer)
                _count_overflow(state, bool(overflow))
            state.scaler.update()

            state.done += 1
            if state.ema is not None:
                state.ema.update(state.done)
            if not anywhere:
                state.window.add(terms)
            note = ""
            if (state.done % run.log_every == 0 or state.done == total) and state.window.steps:
                means = state.window.means()
                note = f"loss {means['loss']:.3f}"
                if lines is not None:
                    lines.write(state.done, {**means, **raw_terms(step, means), "lr": run.schedule(state.done - 1)})
            if balance and lines is not None:
                lines.write(state.done, {f"ratio/{name}": value for name, value in balance.items()})
            advance(state.done, note)
            best = False
            if judge is not None and (state.done % run.eval_every == 0 or state.done == total):
                best = _judge(state, run, judge, lines, lambda text: advance(state.done, text))
            if state.done % run.save_every == 0 or state.done == total or stop or best:
                saved = _save(state, folder, run.meta)
            if stop and state.done < total:
                number = requested() or signal.SIGTERM
                raise Interrupted(
                    f"stopped after step {state.done} of {total}; run the same command again to go on", number
                )
    if saved is None:
        raise UsageError(f"nothing to train: {run.folder}: the run has no steps: raise epochs")
    return saved


def _balance(step: TrainStep, batch: Batch, run: Run, done: int) -> dict[str, float]:
    """Now and then, how large the distillation terms' gradients are beside the task's."""
    if step.distiller is None or not run.balance_every or done % run.balance_every:
        return {}
    ratios = gradient_ratios(step, [batch])
    for line in out_of_balance(ratios):
        say(f"warning: step {done}: {line}")
    return ratios


def _backward(parallel: nn.Module, state: TrainState, parts: Sequence[Batch]) -> tuple[dict[str, Tensor], Batch | None]:
    """Gradients of the mean over the parts; the mean terms and ``loss``, and a batch whose loss is not finite."""
    state.optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    culprit = None
    for number, batch in enumerate(parts, start=1):
        silent = number < len(parts) and parallel is not state.step  # several processes average once, at the last part
        with _counted(state.step.student, parts), parallel.no_sync() if silent else nullcontext():  # type: ignore[operator]
            terms: dict[str, Tensor] = parallel(batch)
            loss = torch.stack(list(terms.values())).sum()
            state.scaler.scale(loss / len(parts)).backward()  # type: ignore[no-untyped-call]
        if culprit is None and not torch.isfinite(loss):
            culprit = batch
        for name, value in {**terms, "loss": loss}.items():
            means[name] = means.get(name, 0.0) + value.detach() / len(parts)
    return means, culprit


@contextmanager
def _counted(student: nn.Module, parts: Sequence[Batch]) -> Iterator[None]:
    """Parts are divided by the positives of the whole step, where a detector can tell them beforehand."""
    if len(parts) == 1 or not hasattr(student, "positives"):
        yield
        return
    with whole_step(sum(student.positives(batch) for batch in parts), len(parts)):  # type: ignore[operator]
        yield


def _judge(state: TrainState, run: Run, judge: Judge, lines: MetricLog | None, show: Callable[[str], None]) -> bool:
    """Evaluate the weights and log the figures; whether they are the best so far."""
    figures, best = judged(state, judge, run.folder, run.keep_best, run.meta, show)
    if lines is not None:
        lines.write(state.done, {f"eval/{name}": value for name, value in figures.items()})
    show(", ".join(f"{name} {100 * value:.1f}" for name, value in figures.items()))
    return best


def _save(state: TrainState, folder: Path, meta: Mapping[str, Any]) -> Path:
    state.window.share()
    if rank() == 0:
        state.save(folder, meta)
    wait_for_all()
    saved = newest_checkpoint(folder)
    assert saved is not None  # noqa: S101 (written just now)
    return saved


def _count_overflow(state: TrainState, overflow: bool) -> None:
    state.overflows = state.overflows + 1 if overflow else 0
    if state.overflows > OVERFLOWS:
        raise NumericError(
            f"not finite: step {state.done}: {state.overflows} scaled gradients in a row overflowed in fp16: "
            "use precision bf16 or fp32"
        )


def _refuse_or_skip(state: TrainState, run: Run, terms: Mapping[str, Tensor], norm: Tensor, batch: Batch) -> None:
    """Stop before the optimiser's step, or leave the step out if the recipe allows another one."""
    message = _non_finite(state.done, terms, norm, batch)
    path = run.folder / f"nonfinite-step-{state.done:08d}-rank{rank()}.safetensors"
    distiller = state.step.distiller.state_dict() if state.step.distiller is not None else {}
    meta = {**run.meta, "step": state.done, "precision": state.step.precision, "message": message}
    hint = f"`fledge replay {path}` says what made it"
    try:
        write_black_box(path, BlackBox(state.step.student.state_dict(), distiller, batch, meta))
    except ResourceError as error:  # which must not hide why the run stops
        hint = f"the step could not be saved ({error})"
    state.skipped += 1
    if state.skipped > run.skip_bad_steps:
        raise NumericError(f"{message}: lower lr or check these images; {hint}")
    say(f"left out: {message}; {run.skip_bad_steps - state.skipped} more may be; {hint}")


def _non_finite(done: int, terms: Mapping[str, Tensor], norm: Tensor, batch: Batch) -> str:
    values = {name: float(value) for name, value in terms.items() if name != "loss"}
    bad = [name for name, value in values.items() if not math.isfinite(value)] or [f"gradient norm {float(norm)}"]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    images = ", ".join(t.image_id for t in batch.targets)
    return f"not finite: step {done}: {' and '.join(bad)} ({shown}; images {images})"


@contextmanager
def _stop_requests() -> Iterator[Callable[[], int]]:
    """A function that gives the number of the SIGINT or SIGTERM that came, or 0; a second signal quits at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
