"""MobileSAM's image embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fledge.models.embedders.embedder import Network
from fledge.models.sam.checkpoints import load_sam
from fledge.models.sam.frame import CELL, scaled_size
from fledge.models.sam.mask_decoder import WIDTH


class MobileSam(Network):
    """The embedding of the image scaled to a long side of 1024: 256 channels, cells of 16 scaled pixels.

    Args:
        weights: the file mobile_sam.pt; see ``load_sam`` for what is raised.
    """

    channels = WIDTH

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        self.sam, self._loaded = load_sam("mobilesam", weights)
        self.identity = f"mobilesam 1 {self._loaded.sha256}"

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """The valid part of each embedding."""
        return [embedded.valid() for embedded in self.sam.embed(images)]

    def cell(self, height: int, width: int) -> tuple[float, float]:
        """16 pixels of the scaled image."""
        rows, columns = scaled_size(height, width)
        return CELL * height / rows, CELL * width / columns

    def describe(self) -> str:
        """One line for a report."""
        return (
            f"mobilesam: image embedding of MobileSAM, {self.channels} channels; weights {self._loaded.source} "
            f"(SHA-256 {self._loaded.sha256[:12]}, {self._loaded.note})"
        )
