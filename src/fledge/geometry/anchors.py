"""Horizontal anchors on the cells of a feature pyramid (Lin et al., RetinaNet, https://arxiv.org/abs/1708.02002)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fledge.errors import UsageError

_CACHED = 16  # pyramids remembered: enough for multi-scale training


class AnchorGrid:
    """Anchors for every level, cell, ratio and octave.

    The anchor of ratio r = h / w and octave k on a level of stride s has the area (scale · s · 2^(k / octaves))².

    Args:
        strides: pixels per cell of each level, finest first.
        scale: base size in strides.
        octaves: sizes per level, spread over one doubling.
        ratios: heights over widths.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        scale: float = 4.0,
        octaves: int = 3,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        self.strides = tuple(strides)
        self.scale = scale
        self.octaves = octaves
        self.ratios = tuple(ratios)
        self._cache: dict[tuple[object, ...], list[Tensor]] = {}

    @property
    def per_cell(self) -> int:
        """Anchors per cell, A."""
        return self.octaves * len(self.ratios)

    def grids(
        self, shapes: Sequence[tuple[int, int]], device: torch.device | str, dtype: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """Anchors of all levels for feature maps of the given sizes; remembered, so do not write into them.

        Args:
            shapes: (H, W) of each level's feature map, in the order of ``strides``.
            device: where the anchors live.
            dtype: their floating dtype.

        Returns:
            One (H·W·A, 5) tensor per level: pixels of the network input, angle 0, centres at stride · (index + 0.5);
            not canonical where h > w. Order: row, column, ratio, octave (the octave changes fastest).

        Raises:
            UsageError: the number of shapes is not the number of strides.
        """
        if len(shapes) != len(self.strides):
            raise UsageError(
                f"AnchorGrid: {len(shapes)} feature maps for {len(self.strides)} strides: give one size per stride"
            )
        if torch.compiler.is_exporting():  # sizes are symbols, and what is made of them belongs to one graph
            return [self._level(s, h, w).to(device, dtype) for s, (h, w) in zip(self.strides, shapes, strict=True)]
        key = (tuple((h, w) for h, w in shapes), str(device), dtype)
        if key not in self._cache:
            if len(self._cache) == _CACHED:
                self._cache.pop(next(iter(self._cache)))
            levels = zip(self.strides, shapes, strict=True)
            self._cache[key] = [self._level(s, h, w).to(device, dtype) for s, (h, w) in levels]
        return self._cache[key]

    def _level(self, stride: int, height: int, width: int) -> Tensor:
        y = stride * (torch.arange(height, dtype=torch.float64) + 0.5)
        x = stride * (torch.arange(width, dtype=torch.float64) + 0.5)
        sides = self._sides(stride)
        grid = torch.zeros(height, width, len(sides), 5, dtype=torch.float64)
        grid[..., 0] = x[None, :, None]
        grid[..., 1] = y[:, None, None]
        grid[..., 2:4] = sides
        return grid.view(-1, 5)

    def _sides(self, stride: int) -> Tensor:
        """Widths and heights (A, 2) of one cell's anchors in pixels."""
        bases = [self.scale * stride * 2 ** (k / self.octaves) for k in range(self.octaves)]
        sides = [(base / math.sqrt(ratio), base * math.sqrt(ratio)) for ratio in self.ratios for base in bases]
        return torch.tensor(sides, dtype=torch.float64)
