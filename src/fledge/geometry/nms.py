"""Greedy non-maximum suppression of rotated boxes, exact; on a GPU and in exported graphs without a loop over boxes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry import operators
from fledge.geometry.overlap_export import dense_overlap


def rotated_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Keep each box unless a kept box of a higher score overlaps it by more than the threshold.

    Compiles without a graph break; an exported graph holds standard operators, for any number of boxes, with a matrix
    of all their overlaps in the dtype of the boxes.

    Args:
        boxes: (N, 5), pixels and radians, canonical or not.
        scores: (N,); of equal scores the earlier box comes first.
        iou_threshold: an intersection over union above it suppresses, in [0, 1].
        labels: (N,) integers; boxes of different labels do not suppress each other. None: one class. For several images
            at once give ``image * classes + label``.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.

    Raises:
        NumericError: a box or score is not finite (not looked for in a compiled or exported graph).
        UsageError: the threshold is outside [0, 1].
    """
    _check_threshold(iou_threshold)
    if not torch.compiler.is_compiling():
        _check_finite(boxes, scores)
    boxes, scores = boxes.detach(), scores.detach()
    if torch.compiler.is_exporting():
        return _exported(boxes, scores, iou_threshold, labels)
    order = scores.sort(descending=True, stable=True).indices
    groups = torch.zeros_like(order) if labels is None else labels[order].to(torch.int64)
    return order[operators.greedy_nms(operators.box_table(boxes[order]), groups, iou_threshold)]


def ranked_nms(parts: Iterable[Tensor], labels: Tensor, iou_threshold: float) -> Tensor:
    """``rotated_nms`` of boxes that are ranked already, and too many to lie in memory beside what it needs of them.

    Takes 72 bytes a box for that, about 100 in all.

    Args:
        parts: one after another, boxes (M, 5) that together are all N, the best first; finite.
        labels: (N,) int64; boxes of different labels do not suppress each other.
        iou_threshold: as there.

    Returns:
        Mask (N,) of the kept boxes.

    Raises:
        UsageError: the threshold is outside [0, 1].
    """
    _check_threshold(iou_threshold)
    table, end = torch.empty(len(labels), 9, dtype=torch.float64), 0
    for part in parts:
        table[end : end + len(part)] = operators.box_table(part)
        end += len(part)
    kept: Tensor = operators.greedy_nms(table, labels, iou_threshold)
    return kept


def _check_threshold(value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"rotated_nms: iou_threshold {value}: give a number from 0 to 1")


def _check_finite(boxes: Tensor, scores: Tensor) -> None:
    bad = ~(boxes.isfinite().all(dim=1) & scores.isfinite())
    if bad.any():
        where = int(bad.nonzero()[0])
        raise NumericError(
            f"rotated_nms: {int(bad.sum())} of {len(bad)} boxes or scores are not finite: box {where} is "
            f"{boxes[where].tolist()} with score {scores[where].item()}: look for the first NaN upstream"
        )


def _exported(boxes: Tensor, scores: Tensor, threshold: float, labels: Tensor | None) -> Tensor:
    """What ``rotated_nms`` returns, as a loop that a graph can hold.

    The greedy choice is the fixed point of "kept unless a kept, better box suppresses it". Each round settles at least
    one more rank of every chain of suppressions, so it ends, usually within ten rounds.
    """
    place = torch.arange(boxes.shape[0], device=boxes.device)
    tied = (scores[:, None] == scores) & (place[:, None] > place)
    hits = (dense_overlap(boxes, boxes, False) > threshold) & ((scores[:, None] < scores) | tied)
    if labels is not None:
        hits = hits & (labels[:, None] == labels)
    suppressed_by = hits.to(boxes.dtype)

    def unsettled(kept: Tensor, before: Tensor) -> Tensor:
        return (kept != before).any()

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return (suppressed_by @ kept == 0).to(kept.dtype), kept.clone()

    everything = torch.ones_like(boxes[:, 0])
    kept: Tensor = torch.while_loop(unsettled, settle, (everything, everything - 1))[0]  # type: ignore[no-untyped-call]
    chosen = kept.nonzero()[:, 0]
    return chosen[scores[chosen].argsort(descending=True)]
