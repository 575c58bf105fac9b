"""Backbones from timm, with the feature maps a detector's neck reads."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A timm network that returns C3, C4 and C5 (strides 8, 16 and 32), and C2 (stride 4) if asked for.

    Args:
        name: a timm model name that supports ``features_only``.
        frozen_stages: how many stages, counted from the stem, never learn (ResNet: 1 the stem, 2 also layer1, …).
        in_channels: channels of the images.
        freeze_norm: keep every batch norm in eval mode with fixed statistics (for tiny batches with good weights).
        finest: the first map that is returned, 2 or 3.
        conv_head: C5 is what the network's last convolution before its classifier makes of it (MobileNetV2: 1280
            channels instead of 320), as detectors of MMDetection take it.
        options: further arguments of the timm constructor, such as ``channels`` of a narrow ResNet.

    Attributes:
        channels: channels of the maps.
    """

    def __init__(
        self,
        name: str,
        frozen_stages: int = 0,
        freeze_norm: bool = False,
        in_channels: int = 3,
        finest: int = 3,
        conv_head: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.names = tuple(f"c{k}" for k in range(finest, 6))
        stages = tuple(k - 1 for k in range(finest, 6))
        self.body: nn.Module = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=stages, in_chans=in_channels, **options
        )
        info: Any = self.body.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.conv_head = conv_head
        if conv_head:
            whole: Any = timm.create_model(name, pretrained=False, in_chans=in_channels, **options)
            self.body.conv_head, self.body.bn2 = whole.conv_head, whole.bn2
            self.channels = (*self.channels[:-1], whole.conv_head.out_channels)
        self.freeze_norm = freeze_norm
        self._frozen = _up_to(self.body, info.info[frozen_stages - 1]["module"].split(".")) if frozen_stages else []
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H, W) to ``{"c3", "c4", "c5"}`` (or from ``"c2"``); ``cN`` has the stride 2^N."""
        maps = self.body(images)
        if self.conv_head:
            maps[-1] = self.body.bn2(self.body.conv_head(maps[-1]))  # type: ignore[operator]
        return dict(zip(self.names, maps, strict=True))

    def train(self, mode: bool = True) -> Backbone:
        """Switch the mode, leaving frozen stages (and, if asked for, all batch norms) in eval."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self.freeze_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def _up_to(module: nn.Module, path: list[str]) -> list[nn.Module]:
    """The children of ``module`` in order, up to and including the one at ``path``."""
    found: list[nn.Module] = []
    for name, child in module.named_children():
        if name == path[0]:
            return found + (_up_to(child, path[1:]) if path[1:] else [child])
        found.append(child)
    raise ValueError(f"no stage {'.'.join(path)} in {type(module).__name__}")


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images (B, C, H, W) in 0…255, uint8 or float, to zero mean and unit variance, channels last in memory.

    ``mean`` and ``std`` (C,) are on the same scale.
    """
    scaled = (images.to(mean.dtype) - mean[:, None, None]) / std[:, None, None]
    return scaled.contiguous(memory_format=torch.channels_last)
