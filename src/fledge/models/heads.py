"""Prediction heads shared over the levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class RetinaHead(nn.Module):
    """RetinaNet's head with five box deltas: two stacks of 3×3 convolutions, one for classes, one for boxes.

    Args:
        classes: number of classes K.
        anchors: anchors per cell A.
        channels: channels of the pyramid and of the stacks.
        convs: convolutions in each stack (the papers use 4).
        prior: initial probability of every class at every anchor, which keeps the first focal losses small.
    """

    def __init__(self, classes: int, anchors: int, channels: int = 256, convs: int = 4, prior: float = 0.01) -> None:
        super().__init__()
        self.anchors = anchors
        self.cls_stack = _stack(channels, convs)
        self.box_stack = _stack(channels, convs)
        self.cls_out = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, anchors * 5, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for output in (self.cls_out, self.box_out):
            nn.init.normal_(output.weight, std=0.01)
        nn.init.constant_(self.cls_out.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """L maps (B, C, H, W) to L logits (B, A, K, H, W) and L codes (B, A, 5, H, W)."""
        logits = (self.cls_out(self.cls_stack(x)) for x in levels)
        codes = (self.box_out(self.box_stack(x)) for x in levels)
        split = (self.anchors, -1)
        return tuple(x.unflatten(1, split) for x in logits), tuple(x.unflatten(1, split) for x in codes)


def _stack(channels: int, convs: int) -> nn.Sequential:
    pairs = [(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(convs)]
    return nn.Sequential(*(module for pair in pairs for module in pair))
