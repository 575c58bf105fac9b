"""The operators ``fledge::…`` of rotated boxes: loops on a CPU, tensor operations elsewhere, one piece for a compiler.

PyTorch calls them like its own operators: ``torch.compile`` finds no graph break in them, autograd knows their
derivatives. Both forms give the same numbers, but for a GPU's sine and cosine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fledge.geometry import overlap
from fledge.geometry.pairs import candidate_pairs, ranges, sweep, upper_bound

_PAIRS = 1 << 16  # pairs intersected at once as tensors: 5 MB a table
_FOUND = 1 << 14  # pairs that the loop hands over at once
_BLOCK = 1 << 12  # boxes whose suppression is settled at once


@torch.library.custom_op("fledge::box_table", mutates_args=())
def box_table(boxes: Tensor) -> Tensor:
    """``overlap.table`` (N, 9) float64 of boxes (N, 5) of any floating dtype."""
    if boxes.device.type != "cpu":
        return overlap.table(boxes)
    from fledge.geometry import overlap_kernels

    exact = boxes.double().contiguous()
    cos, sin = exact[:, 4].cos(), exact[:, 4].sin()
    return torch.from_numpy(overlap_kernels.table(exact.numpy(), cos.numpy(), sin.numpy()))


@torch.library.custom_op("fledge::aligned_overlap", mutates_args=())
def aligned_overlap(boxes1: Tensor, boxes2: Tensor, one: Tensor, two: Tensor, iof: bool) -> Tensor:
    """Overlap (N,) of boxes (N, 5) with boxes (N, 5), row with row, given their tables."""
    if one.device.type == "cpu":
        from fledge.geometry import overlap_kernels

        return torch.from_numpy(overlap_kernels.aligned(one.numpy(), two.numpy(), iof))
    chunks = zip(torch.split(one, _PAIRS), torch.split(two, _PAIRS), strict=True)
    return torch.cat([overlap.overlaps(a, b, iof) for a, b in chunks])


@torch.library.custom_op("fledge::overlapping_pairs", mutates_args=())
def overlapping_pairs(
    boxes1: Tensor, boxes2: Tensor, one: Tensor, two: Tensor, least: float, iof: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """i (P,), j (P,) and overlap (P,) of the pairs of boxes (N, 5), (M, 5) above ``least``, or NaN; by i, then j."""
    return _pairs_by_loop(one, two, least, iof) if one.device.type == "cpu" else pairs_as_tensors(one, two, least, iof)


@torch.library.custom_op("fledge::overlap_backward", mutates_args=())
def overlap_backward(grad: Tensor, one: Tensor, two: Tensor, i: Tensor, j: Tensor, iof: bool) -> tuple[Tensor, Tensor]:
    """Gradients (N, 5) and (M, 5) of boxes from those (P,) of the overlaps of the pairs i, j, given their tables."""
    grad1, grad2 = one.new_zeros(len(one), 5), two.new_zeros(len(two), 5)
    if one.device.type == "cpu":
        from fledge.geometry import overlap_kernels

        pairs = grad.contiguous().numpy(), one.numpy(), two.numpy(), i.numpy(), j.numpy()
        overlap_kernels.backward(*pairs, iof, grad1.numpy(), grad2.numpy())
        return grad1, grad2
    for g, a, b in zip(torch.split(grad, _PAIRS), torch.split(i, _PAIRS), torch.split(j, _PAIRS), strict=True):
        of_first, of_second = overlap.gradients(g, one[a], two[b], iof)
        grad1.index_add_(0, a, of_first)
        grad2.index_add_(0, b, of_second)
    return grad1, grad2


@torch.library.custom_op("fledge::greedy_nms", mutates_args=())
def greedy_nms(boxes: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Mask (N,) of what greedy suppression keeps of a table, the best first; labels (N,) int64 keep boxes apart."""
    if boxes.device.type == "cpu":
        from fledge.geometry import overlap_kernels

        return torch.from_numpy(overlap_kernels.greedy_nms(boxes.numpy(), labels.contiguous().numpy(), threshold))
    return nms_as_tensors(boxes, labels, threshold)


def pairs_as_tensors(one: Tensor, two: Tensor, least: float, iof: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``overlapping_pairs`` of two tables (N, 9), (M, 9) as tensor operations."""
    none = torch.zeros(0, dtype=torch.int64, device=one.device)
    found = [(none, none, one[:0, 0])]
    hulls1, hulls2 = overlap.hulls(one), overlap.hulls(two)
    for i, j in candidate_pairs(hulls1, hulls2):
        most = upper_bound(hulls1[i], hulls2[j], one[i, overlap.AREA], two[j, overlap.AREA], iof)
        possible = ~(most <= least)
        for a, b in zip(torch.split(i[possible], _PAIRS), torch.split(j[possible], _PAIRS), strict=True):
            value = overlap.overlaps(one[a], two[b], iof)
            above = ~(value <= least)
            found.append((a[above], b[above], value[above]))
    i, j, value = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = (i * max(len(two), 1) + j).argsort()
    return i[order], j[order], value[order]


def nms_as_tensors(boxes: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """``greedy_nms`` of a table (N, 9), the best first, as tensor operations.

    Block by block: what is kept so far suppresses boxes of the block, and those left settle it among themselves. The
    memory does not grow with how many boxes lie upon each other, but for the pairs within a block.
    """
    kept = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    for start in range(0, len(boxes), _BLOCK):
        block = torch.arange(start, min(start + _BLOCK, len(boxes)), device=boxes.device)
        free = torch.ones(len(block), dtype=torch.bool, device=boxes.device)
        for old in torch.split(kept, _BLOCK):
            free[_overlapping(boxes, labels, old, block, threshold)[1]] = False
        block = block[free]
        better, worse = _overlapping(boxes, labels, block, block, threshold)
        before = better < worse
        kept = torch.cat([kept, block[_fixed_point(better[before], worse[before], len(block))]])
    return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device).index_fill(0, kept, True)


def _overlapping(
    boxes: Tensor, labels: Tensor, rows: Tensor, columns: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Places in ``rows`` and in ``columns`` of boxes of one label that overlap by more than the threshold."""
    a, b, _ = pairs_as_tensors(boxes[rows], boxes[columns], threshold, False)
    same = labels[rows[a]] == labels[columns[b]]
    return a[same], b[same]


def _fixed_point(better: Tensor, worse: Tensor, count: int) -> Tensor:
    """Mask (count,) of the greedy choice: the fixed point of "kept unless a kept, better box suppresses it".

    Each round settles at least one more rank of every chain of suppressions, so it ends, usually within ten rounds.
    """
    kept = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        settled = torch.ones_like(kept).index_fill(0, worse[kept[better]], False)
        if torch.equal(settled, kept):
            return kept
        kept = settled


def _pairs_by_loop(one: Tensor, two: Tensor, least: float, iof: bool) -> tuple[Tensor, Tensor, Tensor]:
    from fledge.geometry import overlap_kernels

    order = sweep(overlap.hulls(two))
    first, last = ranges(order, overlap.hulls(one))
    arrays = order.columns.numpy(), order.odd.numpy(), first.numpy(), last.numpy()
    room = max(_FOUND, len(two))
    i, j = torch.empty(2, room, dtype=torch.int64).unbind()
    value = torch.empty(room, dtype=torch.float64)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    row = 0
    while row < len(one) or not found:
        row, count = overlap_kernels.pairs(
            one.numpy(), two.numpy(), least, iof, order.axis, *arrays, row, i.numpy(), j.numpy(), value.numpy()
        )
        found.append((i[:count].clone(), j[:count].clone(), value[:count].clone()))
    i, j, value = (torch.cat(parts) for parts in zip(*found, strict=True))
    return i, j, value


@box_table.register_fake
def _(boxes: Tensor) -> Tensor:
    return boxes.new_empty(boxes.shape[0], 9, dtype=torch.float64)


@aligned_overlap.register_fake
def _(boxes1: Tensor, boxes2: Tensor, one: Tensor, two: Tensor, iof: bool) -> Tensor:
    return one.new_empty(one.shape[0])


@overlapping_pairs.register_fake
def _(
    boxes1: Tensor, boxes2: Tensor, one: Tensor, two: Tensor, least: float, iof: bool
) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    i, j = (one.new_empty(count, dtype=torch.int64) for _ in range(2))
    return i, j, one.new_empty(count)


@overlap_backward.register_fake
def _(grad: Tensor, one: Tensor, two: Tensor, i: Tensor, j: Tensor, iof: bool) -> tuple[Tensor, Tensor]:
    return one.new_empty(one.shape[0], 5), two.new_empty(two.shape[0], 5)


@greedy_nms.register_fake
def _(boxes: Tensor, labels: Tensor, threshold: float) -> Tensor:
    return torch.empty_like(labels, dtype=torch.bool)


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, one, two, ctx.iof = inputs
    ctx.dtypes = boxes1.dtype, boxes2.dtype
    ctx.save_for_backward(one, two)


def _rows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    one, two = ctx.saved_tensors
    rows = torch.arange(one.shape[0], device=one.device)
    grad1, grad2 = overlap_backward(grad, one, two, rows, rows, ctx.iof)
    return grad1.to(ctx.dtypes[0]), grad2.to(ctx.dtypes[1]), None, None, None


def _keep_pairs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    boxes1, boxes2, one, two, _, ctx.iof = inputs
    ctx.dtypes = boxes1.dtype, boxes2.dtype
    ctx.save_for_backward(one, two, output[0], output[1])


def _pairs_backward(ctx: Any, _i: None, _j: None, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad1, grad2 = overlap_backward(grad, *ctx.saved_tensors, ctx.iof)
    return grad1.to(ctx.dtypes[0]), grad2.to(ctx.dtypes[1]), None, None, None, None


aligned_overlap.register_autograd(_rows_backward, setup_context=_keep_rows)
overlapping_pairs.register_autograd(_pairs_backward, setup_context=_keep_pairs)
