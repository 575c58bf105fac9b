"""How large distillation terms are beside the task: their raw values, and their gradients on the student's neck."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fledge.engine.train_step import TrainStep
from fledge.types import Batch

# Below the first a term teaches next to nothing, above the second the labels do.
RATIOS = (0.02, 5.0)


def gradient_ratios(step: TrainStep, batches: Iterable[Batch]) -> dict[str, float]:
    """Norm of each weighted term's gradient over that of the task's loss, on the maps of the student's neck.

    Over several batches the norms are added up first, so that one without an object, whose task is nothing, does not
    count for more than the others. The student is run once more, in float32; no weight, gradient or statistic changes.
    The distiller is in eval mode meanwhile, so that a weight that rises from 0 counts in full. Infinite where the task
    has no gradient, NaN where neither has. Left out are terms with the weight 0, and those that do not depend on the
    student, such as a penalty on the distiller's own weights.
    """
    weights: Mapping[str, float] = getattr(step.distiller, "weights", {})
    totals: dict[str, float] = {}
    task = 0.0
    for batch in batches:
        reference, norms = _norms(step, batch)
        task += reference
        for name in (name for name in norms if weights.get(name, 1.0)):
            totals[name] = totals.get(name, 0.0) + norms[name]
    return {name: _ratio(norm, task) for name, norm in totals.items()}


def out_of_balance(ratios: Mapping[str, float]) -> list[str]:
    """A line for each ratio outside 0.02 ... 5."""
    low, high = RATIOS
    return [
        f"the gradient of {name} is {ratio:.3g} times the task's, outside {low:g} to {high:g}: "
        f'{"raise" if ratio < low else "lower"} its weight, or set it to "auto:0.3"'
        for name, ratio in ratios.items()
        if not low <= ratio <= high
    ]


def raw_terms(step: TrainStep, terms: Mapping[str, float]) -> dict[str, float]:
    """The distillation terms before their weights, under ``raw/<term>``; one with the weight 0 is left out."""
    weights: Mapping[str, float] = getattr(step.distiller, "weights", {})
    return {f"raw/{name}": terms[name] / w for name, w in weights.items() if w and name in terms}


def _norms(step: TrainStep, batch: Batch) -> tuple[float, dict[str, float]]:
    """Norms of the gradients of the task's loss and of each distillation term."""
    with (
        _buffers_kept(step),
        _evaluating(step.distiller),
        torch.enable_grad(),
        torch.autocast(batch.images.device.type, enabled=False),
    ):
        outputs = step.student(batch.images, batch.targets)
        maps = [x for name, x in outputs.features.items() if name.startswith("p")]
        task = torch.stack(list(step.student.loss(outputs, batch).values())).sum()  # type: ignore[operator]
        norms = {name: _norm(term, maps) for name, term in step.lessons(outputs, batch).items()}
        return _norm(task, maps) or 0.0, {name: norm for name, norm in norms.items() if norm is not None}


def _norm(term: Tensor, maps: list[Tensor]) -> float | None:
    """Of a term's gradient by the maps; None if they have no part in it."""
    if not term.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(term, maps, retain_graph=True, allow_unused=True)
    squares = [g.double().square().sum() for g in gradients if g is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else None


def _ratio(norm: float, reference: float) -> float:
    if reference == 0:
        return math.inf if norm > 0 else math.nan
    return norm / reference


@contextmanager
def _evaluating(module: nn.Module | None) -> Iterator[None]:
    """Put a module in eval mode, and back into the mode it had."""
    mode = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        yield
    finally:
        if module is not None:
            module.train(mode)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put statistics such as those of batch norms back at the end."""
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
