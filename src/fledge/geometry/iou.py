"""Exact, differentiable overlap of rotated boxes: all pairs, row with row, or only the pairs that overlap.

How it is computed is told in ``fledge.geometry.overlap``. Everything is in float64 from centre differences: few pairs
are left after the horizontal hulls have ruled out the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fledge.geometry import operators
from fledge.geometry.overlap_export import dense_overlap, row_overlap

Mode = Literal["iou", "iof"]

_GATHERED = 1 << 16  # pairs gathered at once: 2.6 MB of boxes


def rotated_iou(boxes1: Tensor, boxes2: Tensor, aligned: bool = False, mode: Mode = "iou") -> Tensor:
    """Intersection over union of rotated boxes, exact up to rounding, differentiable once in both inputs.

    Boxes need not be canonical. A box with a side of zero or below has no area and overlaps nothing (0, not NaN); a NaN
    or infinity in a box makes all its overlaps NaN. Where boxes share a piece of boundary the gradient is one of the
    one-sided ones. Compiles without a graph break; an exported graph holds standard operators in the inputs' dtype.

    Args:
        boxes1: (N, 5), pixels and radians.
        boxes2: (M, 5), or (N, 5) when aligned; same frame.
        aligned: compare row with row instead of all pairs.
        mode: "iou", or "iof" for the intersection over the area of ``boxes1``.

    Returns:
        (N, M), or (N,) when aligned, in the inputs' dtype; float32 for half-precision inputs. Beyond the result itself
        the memory is bounded by the number of pairs that overlap.
    """
    dtype, iof = result_dtype(boxes1, boxes2), mode == "iof"
    if torch.compiler.is_exporting():
        return (row_overlap if aligned else dense_overlap)(boxes1.to(dtype), boxes2.to(dtype), iof)
    if aligned:
        return _row_overlap(boxes1, boxes2, iof).to(dtype)
    i, j, values = rotated_iou_pairs(boxes1, boxes2, 0.0, mode)
    rows, columns = boxes1.shape[0], boxes2.shape[0]
    dense = torch.zeros(rows * columns, dtype=dtype, device=boxes1.device)
    return dense.scatter_(0, i * columns + j, values).view(rows, columns)


def rotated_iou_pairs(
    boxes1: Tensor, boxes2: Tensor, min_iou: float = 0.0, mode: Mode = "iou"
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of boxes whose overlap exceeds ``min_iou``; differentiable like ``rotated_iou``.

    Args:
        boxes1: (N, 5), pixels and radians.
        boxes2: (M, 5), same frame.
        min_iou: pairs at or below it are left out; at least 0. Pairs with a box that is not finite are
            reported, as NaN.
        mode: "iou", or "iof" for the intersection over the area of ``boxes1``.

    Returns:
        i (P,) int64 rows of ``boxes1``, j (P,) int64 rows of ``boxes2``, in the order of i and then j, and the overlaps
        (P,) in the inputs' dtype (float32 for half-precision inputs).
    """
    one, two = operators.box_table(boxes1.detach()), operators.box_table(boxes2.detach())
    i, j, values = operators.overlapping_pairs(boxes1, boxes2, one, two, min_iou, mode == "iof")
    return i, j, values.to(result_dtype(boxes1, boxes2))


def pair_overlap(first: Tensor, second: Tensor, i: Tensor, j: Tensor, mode: Mode) -> Tensor:
    """Overlap (P,) of the float64 boxes ``first[i]`` (N, 5) with ``second[j]`` (M, 5), gathered in chunks."""
    chunks = zip(torch.split(i, _GATHERED), torch.split(j, _GATHERED), strict=True)
    return torch.cat([_row_overlap(first[a], second[b], mode == "iof") for a, b in chunks])


def _row_overlap(boxes1: Tensor, boxes2: Tensor, iof: bool) -> Tensor:
    """Overlap (N,) float64 of boxes (N, 5), row with row."""
    one, two = operators.box_table(boxes1.detach()), operators.box_table(boxes2.detach())
    values: Tensor = operators.aligned_overlap(boxes1, boxes2, one, two, iof)
    return values


def result_dtype(boxes1: Tensor, boxes2: Tensor) -> torch.dtype:
    """The common dtype of both inputs, at least float32."""
    return torch.promote_types(torch.promote_types(boxes1.dtype, boxes2.dtype), torch.float32)
