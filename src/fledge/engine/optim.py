"""Optimisers and learning-rate schedules. The rate is a pure function of the step, so resuming needs no state of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn, optim


def make_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float, momentum: float, backbone_lr: float = 1.0
) -> optim.Optimizer:
    """SGD with momentum or AdamW over the parameters that learn; biases and norm weights do not decay.

    Args:
        model: whose parameters with ``requires_grad`` are taken.
        name: ``sgd`` or ``adamw``.
        lr: base learning rate.
        weight_decay: for matrices and kernels.
        momentum: of SGD; AdamW keeps its own 0.9 and 0.999.
        backbone_lr: factor on the rate of parameters under a module called ``backbone``; kept as ``lr_factor`` in
            the groups, for whoever sets their rates. A module's own attribute ``lr_factor`` is that of all its
            parameters.
    """
    parts: dict[float, list[nn.Parameter]] = {1.0: [], backbone_lr: []}
    factors = _own_factors(model)
    for path, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = backbone_lr if "backbone" in path.split(".") else 1.0
            parts.setdefault(factors.get(parameter, factor), []).append(parameter)
    groups = [
        {"params": some, "weight_decay": decay, "lr": lr * factor, "lr_factor": factor}
        for factor, parameters in parts.items()
        for decay, some in (
            (weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        )
        if some
    ]
    if name == "sgd":
        return optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    return optim.AdamW(groups, lr=lr, fused=True)  # fused: 2 ms a step of a small detector on a CPU instead of 12


def _own_factors(model: nn.Module) -> dict[nn.Parameter, float]:
    """Factors on the rate that modules have as an attribute; the innermost counts."""
    return {
        parameter: float(module.lr_factor)  # type: ignore[arg-type]
        for module in model.modules()
        if hasattr(module, "lr_factor")
        for parameter in module.parameters()
    }


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps of a run.

    Attributes:
        lr: base rate.
        total: number of steps.
        kind: ``cosine`` to zero, or ``step``: a tenth after each milestone.
        warmup: steps of linear warm-up from a third of the rate.
        milestones: steps at which a ``step`` schedule drops.
    """

    lr: float
    total: int
    kind: str = "cosine"
    warmup: int = 0
    milestones: Sequence[int] = ()

    def __call__(self, step: int) -> float:
        """The rate of step 0 … total - 1."""
        if self.kind == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * step / self.total))
        else:
            factor = 0.1 ** sum(step >= m for m in self.milestones)
        if step < self.warmup:
            factor *= 1 / 3 + 2 / 3 * step / self.warmup
        return self.lr * factor
