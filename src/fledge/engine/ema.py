"""An exponential moving average of a model's weights, which is what gets evaluated."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Keeps ``average = decay · average + (1 - decay) · weights`` of a model.

    The first steps use (1 + step) / (10 + step) where that is smaller than ``decay``, so that the initial weights are
    soon forgotten. Buffers (statistics of batch norms) are copied, not averaged.

    Args:
        model: the model that learns, on the device where it does.
        decay: such as 0.999; near 1 - 1 / (number of steps to average over).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after finished step number ``step`` (from 1) in."""
        decay = min(self.decay, (1 + step) / (10 + step))
        learnt = {name for name, _ in self.model.named_parameters()}
        now = self.model.state_dict()
        means = [self._average[name] for name in now if name in learnt]
        torch._foreach_lerp_(means, [value.detach() for name, value in now.items() if name in learnt], 1 - decay)
        for name, value in now.items():
            if name not in learnt:
                self._average[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, under the model's names."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from averaged weights that were saved."""
        for name, value in self._average.items():
            value.copy_(state[name])
