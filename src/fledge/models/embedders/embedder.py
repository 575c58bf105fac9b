"""Batches of images to maps of a frozen network over the same frame, with or without a cache on disk.

Each image is embedded by itself: its map depends neither on the others of its batch nor on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.errors import UsageError
from fledge.models.embedders.cache import EmbeddingCache, content_key


class Network(nn.Module):
    """What embeds images.

    Attributes:
        channels: of its maps.
        identity: networks of one identity give the same maps.
    """

    channels: int
    identity: str

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images (3, h, w) uint8 RGB of any sizes to float32 maps (C, rows, columns), each with cells of ``cell``."""
        raise NotImplementedError

    def cell(self, height: int, width: int) -> tuple[float, float]:
        """Height and width, in pixels of an image of this size, of a cell of its map."""
        raise NotImplementedError

    def describe(self) -> str:
        """One line for a report."""
        raise NotImplementedError


class Embedder(nn.Module):
    """The maps of a network for batches.

    The network is kept out of parameters and state dict, in eval mode and without gradients, and computes in float32.

    Args:
        network: what embeds.
        cache: where maps are kept, or None. It rounds maps to half precision, also those that it did not have yet.

    Attributes:
        channels: of the maps.
    """

    network: Network

    def __init__(self, network: Network, cache: EmbeddingCache | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "network", network.eval().requires_grad_(False))
        self.cache, self.channels = cache, network.channels

    @torch.no_grad()
    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """The maps of a batch.

        Args:
            images: (B, 3, H, W) uint8, RGB, padded on the right and bottom.
            sizes: (B, 2) true height and width of each.

        Returns:
            (B, C, h, w) float32 over the whole padded frame: cell (i, j) lies at (i + 1/2)·H/h, (j + 1/2)·W/w, and is
            0 where its centre is not on the image.

        Raises:
            UsageError: the images have not three channels.
        """
        if images.shape[1] != 3:
            raise UsageError(
                f"{images.shape[1]} channels: an embedder reads red, green and blue: use three bands, or no embedder"
            )
        frame = (images.shape[2], images.shape[3])
        true = [(int(h), int(w)) for h, w in sizes.tolist()]
        rows, columns = (math.ceil(n / c - 1e-6) for n, c in zip(frame, self.network.cell(*frame), strict=True))
        with torch.autocast(images.device.type, enabled=False):
            maps = self._maps([image[:, :h, :w] for image, (h, w) in zip(images, true, strict=True)])
            placed = [
                on_frame(values, self.network.cell(*size), size, frame, (rows, columns))
                for values, size in zip(maps, true, strict=True)
            ]
        return torch.stack(placed) if placed else images.new_zeros(0, self.channels, rows, columns).float()

    def describe(self) -> str:
        """One line for a report: which network, with which weights, and whether maps are kept."""
        return self.network.describe() + (f"; {self.cache.describe()}" if self.cache is not None else "")

    def _maps(self, images: list[Tensor]) -> list[Tensor]:
        """Of each image, out of the cache as far as it goes; equal images are computed once."""
        if self.cache is None or not images:
            return self.network.maps(images)
        keys = [content_key(image) for image in images]
        different = dict(zip(keys, images, strict=True))
        found = {key: values for key in different if (values := self.cache.get(key, self.channels)) is not None}
        absent = [key for key in different if key not in found]
        for key, values in zip(absent, self.network.maps([different[key] for key in absent]), strict=True):
            found[key] = self.cache.put(key, values)
        return [found[key].to(images[0].device) for key in keys]

    def train(self, mode: bool = True) -> Self:
        """Switch nothing of the network, which stays in eval."""
        super().train(mode)
        self.network.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the hidden network along with what holds this."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.network._apply(fn)  # type: ignore[no-untyped-call]
        return self


def on_frame(
    values: Tensor, cell: tuple[float, float], size: tuple[int, int], frame: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """One image's map on the grid of a frame whose upper left part the image is.

    Args:
        values: (C, rows, columns).
        cell: height and width of its cells in pixels.
        size: (height, width) of the image.
        frame: likewise of the frame.
        grid: rows and columns of the frame's grid, which covers it exactly.

    Returns:
        (C, *grid), bilinear between the centres of cells, 0 where a cell's centre is outside the image.
    """
    ends = [side * c for side, c in zip(values.shape[1:], cell, strict=True)]
    if values.shape[1:] == grid and all(abs(end - side) < 1e-6 for end, side in zip(ends, frame, strict=True)):
        return values
    axes = [(torch.arange(n, device=values.device) + 0.5) * (side / n) for n, side in zip(grid, frame, strict=True)]
    y, x = torch.meshgrid(*(2 * a / end - 1 for a, end in zip(axes, ends, strict=True)), indexing="ij")
    placed = F.grid_sample(
        values[None], torch.stack([x, y], dim=-1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    inside_y, inside_x = (a < side for a, side in zip(axes, size, strict=True))
    return placed * (inside_y[:, None] & inside_x)


def by_size(images: Sequence[Tensor], compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Maps of images (C, h, w), in their order, computed in batches of those of one size."""
    groups: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    found: dict[int, Tensor] = {}
    for indices in groups.values():
        found |= dict(zip(indices, compute(torch.stack([images[i] for i in indices])), strict=True))
    return [found[i] for i in range(len(images))]
