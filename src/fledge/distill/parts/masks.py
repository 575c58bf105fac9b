"""Which cells of a feature map lie inside which labelled object: oriented boxes rasterised exactly."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fledge.types import Targets

_CELLS = 4_000_000  # that are tested at once


def object_cells(boxes: Tensor, shape: tuple[int, int], stride: float) -> tuple[Tensor, Tensor]:
    """The cells whose centre lies inside a box, or on its edge; at least one cell of each object.

    The centre of cell (i, j) is (stride (j + 1/2), stride (i + 1/2)). A box that covers no centre has the cell that its
    own centre lies in, or the nearest one if that is outside.

    Args:
        boxes: (N, 5) oriented boxes in pixels of the image.
        shape: (H, W) of the map.
        stride: pixels a cell.

    Returns:
        objects (M,) and cells (M,) int64, in the objects' order; a cell is numbered i · W + j.
    """
    height, width = shape
    boxes = boxes.to(torch.promote_types(boxes.dtype, torch.float32))
    pairs = list(_inside(boxes, height, width, stride))
    objects = torch.cat([p[0] for p in pairs]) if pairs else boxes.new_zeros(0, dtype=torch.int64)
    cells = torch.cat([p[1] for p in pairs]) if pairs else objects.clone()
    bare = (torch.bincount(objects, minlength=len(boxes)) == 0).nonzero()[:, 0]
    column = (boxes[bare, 0] / stride).floor().clamp(0, width - 1).long()
    row = (boxes[bare, 1] / stride).floor().clamp(0, height - 1).long()
    objects, cells = torch.cat([objects, bare]), torch.cat([cells, row * width + column])
    order = objects.argsort(stable=True)
    return objects[order], cells[order]


def _inside(boxes: Tensor, height: int, width: int, stride: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of object and cell, from the cells in each box's horizontal hull, some objects at a time."""
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    half_w = (boxes[:, 2] * cos).abs() / 2 + (boxes[:, 3] * sin).abs() / 2
    half_h = (boxes[:, 2] * sin).abs() / 2 + (boxes[:, 3] * cos).abs() / 2
    left = ((boxes[:, 0] - half_w) / stride - 0.5).ceil().sub(1).clamp(0, width).long()
    right = ((boxes[:, 0] + half_w) / stride - 0.5).floor().add(2).clamp(0, width).long()
    top = ((boxes[:, 1] - half_h) / stride - 0.5).ceil().sub(1).clamp(0, height).long()
    bottom = ((boxes[:, 1] + half_h) / stride - 0.5).floor().add(2).clamp(0, height).long()
    columns = (right - left).clamp(min=0)
    counts = columns * (bottom - top).clamp(min=0)
    for some in _shares(counts):
        which = torch.repeat_interleave(some, counts[some])
        place = torch.arange(len(which), device=boxes.device)
        place -= torch.repeat_interleave(counts[some].cumsum(0) - counts[some], counts[some])
        row = top[which] + place.div(columns[which], rounding_mode="floor")
        column = left[which] + place % columns[which]
        x, y = (column + 0.5) * stride - boxes[which, 0], (row + 0.5) * stride - boxes[which, 1]
        along = (x * cos[which] + y * sin[which]).abs() <= boxes[which, 2] / 2
        across = (y * cos[which] - x * sin[which]).abs() <= boxes[which, 3] / 2
        yes = along & across
        yield which[yes], row[yes] * width + column[yes]


def _shares(counts: Tensor) -> Iterator[Tensor]:
    """Indices of objects in groups whose cells are few enough to be tested at once."""
    group = (counts.cumsum(0) - counts).div(_CELLS, rounding_mode="floor")
    for value in group.unique().tolist():  # type: ignore[no-untyped-call]
        yield (group == value).nonzero()[:, 0]


def object_mask(targets: Targets, shape: tuple[int, int], stride: float) -> Tensor:
    """(H, W) bool: the cells of any object that is not ignored."""
    mask = targets.boxes.new_zeros(shape[0] * shape[1], dtype=torch.bool)
    mask[object_cells(targets.boxes[~targets.ignore], shape, stride)[1]] = True
    return mask.view(shape)


def inverse_areas(targets: Targets, shape: tuple[int, int], stride: float) -> Tensor:
    """(H, W) float32: one over the number of cells of the smallest object that a cell lies in, 0 outside all objects.

    Ignored objects do not count.
    """
    objects, cells = object_cells(targets.boxes[~targets.ignore], shape, stride)
    return _largest(cells, 1 / torch.bincount(objects)[objects].float(), shape)


def largest_weights(boxes: Tensor, weights: Tensor, shape: tuple[int, int], stride: float) -> Tensor:
    """(H, W): the largest of the weights (N,) of the boxes (N, 5) that a cell lies in, 0 outside all of them."""
    objects, cells = object_cells(boxes, shape, stride)
    return _largest(cells, weights[objects], shape)


def _largest(cells: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    mask = values.new_zeros(shape[0] * shape[1])
    return mask.scatter_reduce(0, cells, values, "amax").view(shape)


def stride_of(level: str) -> int:
    """Pixels of the image a cell of level ``pN``: 2 to the power N."""
    return int(2 ** int(level[1:]))
