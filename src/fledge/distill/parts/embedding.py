"""External disturbance (IFKD's EDE): what another, frozen network sees in the image, added to the teacher's maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.models.embedders.embedder import Embedder
from fledge.types import Batch


class Disturbance(nn.Module):
    """Equation 2 of IFKD: the sigmoid of an embedding of the image, resized to each level.

    Args:
        embedder: what sees the image, of any width.
        channels: of the maps that are disturbed.
        projection: (channels, embedder.channels, 1, 1), a fixed convolution between other widths; None: they agree.

    Raises:
        ValueError: the widths do not fit.
    """

    projection: Tensor | None

    def __init__(self, embedder: Embedder, channels: int, projection: Tensor | None = None) -> None:
        super().__init__()
        width = embedder.channels
        expected = None if projection is None else (channels, width, 1, 1)
        if (projection is None and width != channels) or (projection is not None and projection.shape != expected):
            raise ValueError(f"an embedding of {width} channels needs a projection to {channels}")
        self.embedder = embedder
        self.register_buffer("projection", projection, persistent=False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """(B, channels, h, w) in (0, 1), over the padded frame, for ``disturbed``."""
        with torch.autocast(batch.images.device.type, enabled=False):
            embedding: Tensor = self.embedder(batch.images, batch.sizes)
            if self.projection is not None:
                embedding = F.conv2d(embedding, self.projection.to(embedding))
            return embedding.sigmoid()

    def describe(self) -> str:
        """The embedder's own line."""
        return self.embedder.describe()


def disturbed(features: Tensor, disturbance: Tensor) -> Tensor:
    """Equation 1: maps (B, C, H, W) plus a disturbance (B, C, h, w), bilinearly resized to them."""
    return features + F.interpolate(disturbance, features.shape[2:], mode="bilinear", align_corners=False)
