"""Bilinear sampling of maps as one weighted gather: what RoIAlign and deformable attention share.

A sample is a weighted sum of the four cells around it, and what both operators return is a weighted sum of samples. So
each result is one weighted sum of rows of a table (cells, channels), which ``embedding_bag`` computes without ever
holding the samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_taps(x: Tensor, y: Tensor, width: Tensor | int, height: Tensor | int) -> tuple[Tensor, Tensor]:
    """The four cells around each point, and their bilinear weights; cells beyond the map count as zero.

    Args:
        x: (...) floating columns; cell i has its centre at i.
        y: (...) floating rows.
        width: columns of the map, a number or a floating tensor that broadcasts with ``x``.
        height: rows of the map, likewise.

    Returns:
        Cells (..., 4) int32 as row · width + column, always on the map; weights (..., 4), differentiable in ``x`` and
        ``y`` and NaN where these are.
    """
    columns, across = _axis_taps(x, width)
    rows, down = _axis_taps(y, height)
    if isinstance(width, Tensor):
        width = width.int()[..., None]
    cells = (rows * width)[..., :, None] + columns[..., None, :]
    return cells.flatten(-2), (down[..., :, None] * across[..., None, :]).flatten(-2)


def weighted_gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table, differentiable in the table and the weights.

    Args:
        table: (R, C) floating.
        rows: (N, K) int32 or int64.
        weights: (N, K), cast to the table's dtype.

    Returns:
        (N, C): the sum over k of weights[n, k] · table[rows[n, k]].
    """
    weights = weights.to(table.dtype)
    if torch.compiler.is_exporting():  # no other runtime knows embedding_bag; tap by tap, for the memory
        result = table.new_zeros(rows.shape[0], table.shape[1])
        for row, weight in zip(rows.long().unbind(1), weights.unbind(1), strict=True):
            result = result + table[row] * weight[:, None]
        return result
    # Strided rows, as of a single image in channels-first memory, would take a path ten times as slow.
    return F.embedding_bag(rows, table.contiguous(), per_sample_weights=weights, mode="sum")


def _axis_taps(position: Tensor, size: Tensor | int) -> tuple[Tensor, Tensor]:
    """Indices (..., 2) int32 of the two neighbours along one axis, and weights (..., 2), zero beyond [0, size)."""
    # Every cell is a whole step or more away from a point at -1 or at the size: clamping there changes no weight.
    position = position.clamp(min=-1).clamp(max=size)
    low = position.detach().floor()
    share = position - low
    last = size - 1
    weights = torch.stack([(1 - share) * ((low >= 0) & (low <= last)), share * (low < last)], dim=-1)
    # Bounded once more as whole numbers, since a NaN has no index.
    index = torch.stack([low, low + 1], dim=-1).int().clamp(min=0)
    bound = last.int()[..., None] if isinstance(last, Tensor) else last
    return index.clamp(max=bound), weights
