"""Sampling of deformable attention, around points, boxes and rotated boxes.

Zhu et al., "Deformable DETR", ICLR 2021, https://arxiv.org/abs/2010.04159, eq. 3 and appendix A.4; rotated references
after Zeng et al., "ARS-DETR", https://arxiv.org/abs/2303.04989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.bilinear import bilinear_taps, weighted_gather
from fledge.geometry.boxes import wrap_angle
from fledge.geometry.sampling_operators import deformable_sum


def deformable_sample(values: Tensor, locations: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Weighted sums of bilinear samples from several maps: the core of multi-scale deformable attention.

    Beyond the maps lie zeros. Differentiable in all three tensors; computed in float32 at least, also under autocast.
    On a CPU a compiled loop does it, elsewhere and in an exported program a gather: the same up to rounding.

    Args:
        values: (B, S, heads, D), the cells of all levels row by row, one level after the other; S is the sum of H·W.
        locations: (B, Q, heads, L, P, 2) x, y with (0, 0) the outer corner of the first cell and (1, 1) that of the
            last one; points may lie outside.
        weights: (B, Q, heads, L, P), applied as they are (attention makes them sum to 1 over L and P).
        shapes: (H, W) of each of the L levels.

    Returns:
        (B, Q, heads · D), heads side by side, in the dtype of ``values``.

    Raises:
        UsageError: shapes that do not fit each other.
    """
    _check(values, locations, weights, shapes)
    dtype = torch.promote_types(values.dtype, torch.float32)
    if values.device.type == "cpu" and not torch.compiler.is_exporting():
        for other in (locations, weights):
            dtype = torch.promote_types(dtype, other.dtype)
        sizes = [side for shape in shapes for side in shape]
        sums: Tensor = deformable_sum(values.to(dtype), locations.to(dtype), weights.to(dtype), sizes)
    else:
        sums = _gathered(values.to(dtype), locations, weights, shapes)
    return sums.flatten(2).to(values.dtype)


def _gathered(values: Tensor, locations: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """The sums (B, Q, heads, D) as tensor operations."""
    batch, cells, heads, channels = values.shape
    height, width = _sizes(shapes, locations)
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(len(shapes))]
    start = torch.tensor(starts, dtype=torch.int32, device=values.device)[:, None, None]
    x, y = (locations.to(height.dtype)).unbind(-1)
    cell, share = bilinear_taps(x * width - 0.5, y * height - 0.5, width, height)  # (B, Q, heads, L, P, 4)
    image = torch.arange(batch, dtype=torch.int32, device=values.device) * cells
    head = torch.arange(heads, dtype=torch.int32, device=values.device)
    rows = (cell + start + image.view(-1, 1, 1, 1, 1, 1)) * heads + head.view(-1, 1, 1, 1)
    share = share * weights[..., None]
    sums, taps = batch * locations.shape[1] * heads, len(shapes) * locations.shape[4] * 4
    result = weighted_gather(values.reshape(-1, channels), rows.view(sums, taps), share.view(sums, taps))
    return result.view(batch, -1, heads, channels)


def sampling_locations(points: Tensor, offsets: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Locations around reference points, with the offsets counted in cells of each level.

    Args:
        points: (B, Q, 2) x, y in [0, 1].
        offsets: (B, Q, heads, L, P, 2) x, y in cells.
        shapes: (H, W) of each of the L levels.

    Returns:
        (B, Q, heads, L, P, 2) x, y for ``deformable_sample``, float32 at least.
    """
    height, width = _sizes(shapes, offsets)
    return points[:, :, None, None, None] + offsets / torch.stack([width, height], dim=-1)


def rotated_sampling_locations(boxes: Tensor, offsets: Tensor, size: tuple[int, int]) -> Tensor:
    """Locations around reference boxes, with the offsets turned by the box's angle and scaled by its sides.

    An offset of P (the number of points) leads from the centre to a side. The two descriptions of a box, (w, h, angle)
    and (h, w, angle + pi/2), give the same locations: the one with an angle in [-pi/4, pi/4) is used, so that the first
    offset always points nearer to x than to y. With angle 0 these are the locations of Deformable DETR's boxes.

    Differs from the paper: the paper turns offsets in coordinates divided by the image's width and height, which shears
    them in an image that is not square; here they are turned in pixels. ``size=(1, 1)`` with boxes in such coordinates
    gives the paper's locations.

    Args:
        boxes: (B, Q, 5), pixels of the padded network input and radians, canonical or not.
        offsets: (B, Q, heads, L, P, 2) along w and along h.
        size: height and width of the padded network input in pixels.

    Returns:
        (B, Q, heads, L, P, 2) x, y for ``deformable_sample``, float32 at least; differentiable in boxes and offsets.
    """
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    angle, turns = wrap_angle(boxes[..., 4].double(), -math.pi / 4, math.pi / 2, boxes.dtype)
    sides = torch.where((turns % 2 == 1)[..., None], boxes[..., 2:4].flip(-1), boxes[..., 2:4])
    centre, sides = boxes[..., None, None, None, :2], sides[..., None, None, None, :]
    cos, sin = angle.cos()[..., None, None, None], angle.sin()[..., None, None, None]
    u, v = (offsets * sides / (2 * offsets.shape[4])).unbind(-1)
    points = centre + torch.stack([u * cos - v * sin, u * sin + v * cos], dim=-1)
    return points / points.new_tensor([size[1], size[0]])


def _sizes(shapes: Sequence[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Heights and widths (L, 1) of the levels, floating: float32 or the wider dtype of ``like``."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    height, width = torch.tensor(shapes, dtype=dtype, device=like.device)[:, None].unbind(-1)
    return height, width


def _check(values: Tensor, locations: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]) -> None:
    cells = sum(h * w for h, w in shapes)
    fits = values.ndim == 4 and locations.ndim == 6 and values.shape[1] == cells and locations.shape[5] == 2
    fits = fits and all(min(shape) > 0 for shape in shapes)  # the loop reads a cell for every sample
    if fits:
        fits = (values.shape[0], values.shape[2]) == (locations.shape[0], locations.shape[2])
        fits = fits and locations.shape[3] == len(shapes) and weights.shape == locations.shape[:5]
    if not fits:
        raise UsageError(
            f"deformable_sample: values {tuple(values.shape)}, locations {tuple(locations.shape)}, "
            f"weights {tuple(weights.shape)} and {len(shapes)} levels of {cells} cells: "
            "give (B, cells, heads, D), (B, Q, heads, levels, P, 2) and (B, Q, heads, levels, P)"
        )
