"""Stand-ins for what distillation methods are handed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.models.embedders.embedder import Embedder, Network


class MeanColours(Network):
    """The colours, averaged over 8 × 8 pixels."""

    channels = 3
    identity = "means"

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1 / 128))

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        assert all(image.dtype == torch.uint8 for image in images)
        return [F.avg_pool2d(image.to(self.scale), 8) * self.scale - 1 for image in images]

    def cell(self, height: int, width: int) -> tuple[float, float]:
        return 8.0, 8.0

    def describe(self) -> str:
        return "means: a stand-in"


class Means(Embedder):
    """An embedder without weights to load."""

    def __init__(self) -> None:
        super().__init__(MeanColours())
