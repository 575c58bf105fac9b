"""A feature map of a frozen timm network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from fledge.errors import DataError, UsageError
from fledge.models.backbones import normalise
from fledge.models.embedders.embedder import Network, by_size
from fledge.models.weights import load_backbone_weights

STRIDE = 16  # as MobileSAM's embedding of an image of 1024 pixels


class TimmMap(Network):
    """The map of stride 16 of a convolutional timm network.

    Args:
        name: the timm model.
        weights: what ``load_backbone_weights`` takes. There is no default: random features have nothing to tell.

    Raises:
        UsageError: timm has no such model, or it no such map, or there are no such weights.
        DataError: the weights do not fit, or do not fill the network up to that map.
    """

    def __init__(self, name: str, weights: str | Path) -> None:
        super().__init__()
        self.name, self.backbone = name, _Tapped(name)
        self.channels = self.backbone.channels
        self._loaded = load_backbone_weights(self, weights)
        if self._loaded.untouched:
            raise DataError(
                f"not all weights: {weights}: {name} would keep {len(self._loaded.untouched)} random tensors, such as "
                f"{self._loaded.untouched[0]}: give a file that has them"
            )
        self.identity = f"timm 1 {name} {self._loaded.sha256}"

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images of one size are computed together."""
        return by_size(images, self.backbone)

    def cell(self, height: int, width: int) -> tuple[float, float]:  # noqa: ARG002
        """The stride."""
        return STRIDE, STRIDE

    def describe(self) -> str:
        """One line for a report."""
        return (
            f"timm:{self.name}: its map of stride {STRIDE}, {self.channels} channels; weights {self._loaded.source} "
            f"(SHA-256 {self._loaded.sha256[:12]})"
        )


class _Tapped(nn.Module):
    """A network up to its map of stride 16; ``body`` is what ``load_backbone_weights`` looks for."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            whole: Any = timm.create_model(name, pretrained=False, features_only=True)
        except Exception as error:  # of many classes, among them the bare RuntimeError
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"no feature maps: timm:{name}: {reason}: name a convolutional timm model") from None
        strides = list(whole.feature_info.reduction())
        if strides.count(STRIDE) != 1:
            raise UsageError(f"no pyramid: timm:{name}: strides {strides}: name a convolutional timm model")
        index = strides.index(STRIDE)
        self.body: nn.Module = timm.create_model(name, pretrained=False, features_only=True, out_indices=(index,))
        self.channels: int = whole.feature_info.channels()[index]
        config: Any = get_pretrained_cfg(name)
        self.register_buffer("mean", 255 * torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config.std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to (B, C, rows, columns)."""
        maps: Tensor = self.body(normalise(images, self.mean, self.std))[0]
        return maps.contiguous()
