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
        norm: group normalisation after each hidden convolution, over groups of eight channels. The papers have none;
            without it a narrow head under Adam dies easily: the box stack's ReLUs go silent and all boxes stay anchors.
        prior: initial probability of every class at every anchor, which keeps the first focal losses small.
    """

    def __init__(
        self,
        classes: int,
        anchors: int,
        channels: int = 256,
        convs: int = 4,
        norm: bool = False,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.cls_stack = _stack(channels, convs, norm)
        self.box_stack = _stack(channels, convs, norm)
        self.cls_out = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, anchors * 5, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for output in (self.cls_out, self.box_out):
            nn.init.normal_(output.weight, std=0.01)
        nn.init.constant_(self.cls_out.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """L maps (B, C, H, W) to L logits (B, A, K, H, W) and L codes (B, A, 5, H, W)."""
        logits = (self.cls_out(self.cls_stack(x)) for x in levels)
        codes = (self.box_out(self.box_stack(x)) for x in levels)
        split = (self.anchors, -1)
        return tuple(x.unflatten(1, split) for x in logits), tuple(x.unflatten(1, split) for x in codes)


def _stack(channels: int, convs: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=not norm))
        if norm:
            layers.append(nn.GroupNorm(max(channels // 8, 1), channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
