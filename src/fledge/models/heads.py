"""Prediction heads shared over the levels of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.models.box_bins import BoxBins

Maps = tuple[Tensor, ...]


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
        box_bins: each delta is the mean of a distribution over so many values (``fledge.models.box_bins``), at least 3;
            0: it is predicted itself.

    Attributes:
        tap: for distillation: ``forward`` also reports the maps after so many convolutions of each stack, before the
            activation (0: the levels themselves), and ``finish`` goes on from such maps; None: it does not.
    """

    def __init__(
        self,
        classes: int,
        anchors: int,
        channels: int = 256,
        convs: int = 4,
        norm: bool = False,
        prior: float = 0.01,
        box_bins: int = 0,
    ) -> None:
        super().__init__()
        self.anchors, self.channels, self.convs, self.box_bins = anchors, channels, convs, box_bins
        self.tap: int | None = None
        self.cls_stack = _stack(channels, convs, norm)
        self.box_stack = _stack(channels, convs, norm)
        self.cls_out = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, anchors * 5 * max(box_bins, 1), 3, padding=1)
        self.bins = BoxBins(box_bins) if box_bins else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for output in (self.cls_out, self.box_out):
            nn.init.normal_(output.weight, std=0.01)
        nn.init.constant_(self.cls_out.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        if self.bins is not None:
            with torch.no_grad():
                self.box_out.bias.copy_(self.bins.start(anchors))  # type: ignore[union-attr]

    def forward(self, levels: Mapping[str, Tensor]) -> tuple[Maps, Maps, dict[str, Tensor]]:
        """Predictions on L named maps (B, C, H, W).

        Returns:
            L logits (B, A, K, H, W), L codes (B, A, 5, H, W), and by name what distillation reads: ``box_bins.p3``
            (B, A·5·bins, H, W), the scores of the distributions, if there are any, and ``cls_stack.p3`` and
            ``box_stack.p3`` (B, C, H, W) with a ``tap``.
        """
        logits, codes, named = [], [], {}
        for name, x in levels.items():
            if self.tap is None:
                cls, box = self.cls_stack(x), self.box_stack(x)
            else:
                early = self._begun(self.cls_stack, x), self._begun(self.box_stack, x)
                named[f"cls_stack.{name}"], named[f"box_stack.{name}"] = early
                cls, box = self._ended(self.cls_stack, early[0]), self._ended(self.box_stack, early[1])
            logits.append(self.cls_out(cls).unflatten(1, (self.anchors, -1)))
            raw = self.box_out(box)
            codes.append(self._codes(raw))
            if self.bins is not None:
                named[f"box_bins.{name}"] = raw
        return tuple(logits), tuple(codes), named

    def finish(self, cls: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and codes of one level from maps (B, C, H, W) of the two stacks at ``tap``."""
        logits = self.cls_out(self._ended(self.cls_stack, cls)).unflatten(1, (self.anchors, -1))
        return logits, self._codes(self.box_out(self._ended(self.box_stack, box)))

    def _codes(self, raw: Tensor) -> Tensor:
        split: Tensor = raw.unflatten(1, (self.anchors, -1))  # type: ignore[no-untyped-call]
        return split if self.bins is None else self.bins(split)

    def _begun(self, stack: nn.Sequential, x: Tensor) -> Tensor:
        for layer in list(stack)[: max(self._activation(stack), 0)]:
            x = layer(x)
        return x

    def _ended(self, stack: nn.Sequential, x: Tensor) -> Tensor:
        place = self._activation(stack)
        x = F.relu(x) if place > 0 else x  # a new map: the one before stays as it was
        for layer in list(stack)[place + 1 :]:
            x = layer(x)
        return x

    def _activation(self, stack: nn.Sequential) -> int:
        """Where in a stack the activation after the tap stands; -1 for a tap before the first convolution."""
        return (self.tap or 0) * (len(stack) // self.convs) - 1


def _stack(channels: int, convs: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=not norm))
        if norm:
            layers.append(nn.GroupNorm(max(channels // 8, 1), channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
