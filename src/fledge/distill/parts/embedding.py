"""External disturbance (IFKD's EDE): what another, frozen network sees in the image, added to the teacher's maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.types import Batch


class Embedder(Protocol):
    """What sees the image: a module of the protocol below.

    Attributes:
        channels: of its maps.
    """

    channels: int

    def __call__(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 with true sizes (B, 2) to (B, C, h, w) float32 over the whole padded frame."""

    def describe(self) -> str:
        """One line for a report: which network, with which weights."""


class Disturbance(nn.Module):
    """Equation 2 of IFKD: the sigmoid of an embedding of the image, resized to each level.

    The embedder is kept out of parameters, state dict and gradients; it is always in eval mode.

    Args:
        embedder: a module that is an ``Embedder``.
        channels: of the maps that are disturbed.
        projection: (channels, embedder.channels, 1, 1), a fixed convolution between other widths; None: they agree.

    Raises:
        ValueError: the widths do not fit.
    """

    _embedder: nn.Module
    projection: Tensor | None

    def __init__(self, embedder: nn.Module, channels: int, projection: Tensor | None = None) -> None:
        super().__init__()
        width = int(embedder.channels)  # type: ignore[arg-type]
        expected = None if projection is None else (channels, width, 1, 1)
        if (projection is None and width != channels) or (projection is not None and projection.shape != expected):
            raise ValueError(f"an embedding of {width} channels needs a projection to {channels}")
        object.__setattr__(self, "_embedder", embedder.eval().requires_grad_(False))
        self.register_buffer("projection", projection, persistent=False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """(B, channels, h, w) in (0, 1), over the padded frame, for ``disturbed``."""
        with torch.autocast(batch.images.device.type, enabled=False):
            embedding: Tensor = self._embedder(batch.images, batch.sizes)
            if self.projection is not None:
                embedding = F.conv2d(embedding, self.projection)
            return embedding.sigmoid()

    def describe(self) -> str:
        """The embedder's own line."""
        return str(self._embedder.describe())  # type: ignore[operator]

    def train(self, mode: bool = True) -> Self:
        """Switch nothing of the embedder, which stays in eval."""
        super().train(mode)
        self._embedder.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the hidden embedder along with everything else."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._embedder._apply(fn)  # type: ignore[no-untyped-call]
        return self


def disturbed(features: Tensor, disturbance: Tensor) -> Tensor:
    """Equation 1: maps (B, C, H, W) plus a disturbance (B, C, h, w), bilinearly resized to them."""
    return features + F.interpolate(disturbance, features.shape[2:], mode="bilinear", align_corners=False)
