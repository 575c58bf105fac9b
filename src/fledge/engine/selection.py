"""Evaluation in the course of a training, and the checkpoint that did best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fledge.distributed import rank, wait_for_all
from fledge.engine.checkpoint import drop_later, save_checkpoint
from fledge.engine.state import TrainState

BEST = "best"
Judge = Callable[[Mapping[str, Tensor], Callable[[str], None]], Mapping[str, float]]
"""Gives named figures of some weights, the same on every process; tells meanwhile how far it is."""


def judged(
    state: TrainState, judge: Judge, folder: Path, keep_best: str, meta: Mapping[str, Any], show: Callable[[str], None]
) -> tuple[dict[str, float], bool]:
    """Figures of the weights that the run would be left with, and whether they are the best so far.

    The best are saved as a checkpoint of weights alone in ``folder/best``. Equal figures leave the earlier one there.

    Args:
        state: of the run; its ``best`` is kept up.
        judge: evaluates the averaged weights, if there are any, or else the current ones.
        folder: of the run.
        keep_best: the figure that decides, or "" for none.
        meta: JSON values for the checkpoint.
        show: see ``Judge``.
    """
    current = state.step.student.state_dict()
    averaged = state.ema.state_dict() if state.ema is not None else None
    figures = dict(judge(averaged or current, show))
    value = figures[keep_best] if keep_best else math.nan
    if not value > state.best:  # a NaN is never better
        return figures, False
    state.best = value
    if rank() == 0:
        groups = {"model": current, **({"ema": averaged} if averaged else {})}
        why = {**(meta.get("selected_on") or {}), "value": value, "step": state.done}
        save_checkpoint(folder / BEST, state.done, groups, {**meta, "selected_on": why})
    wait_for_all()
    return figures, True


def forget_later(folder: Path, step: int) -> None:
    """Drop what a run chose after the step from which it goes on: it will choose again."""
    if rank() == 0:
        drop_later(folder / BEST, step)
