"""Greedy non-maximum suppression of rotated boxes, exact and without a loop over boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry.boxes import hulls
from fledge.geometry.iou import candidate_pairs, pair_iou

_ROWS = 256  # boxes compared at once with their neighbours


def rotated_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Keep each box unless a kept box of a higher score overlaps it by more than the threshold.

    Args:
        boxes: (N, 5), pixels and radians, canonical or not.
        scores: (N,); of equal scores the earlier box comes first.
        iou_threshold: an intersection over union above it suppresses, in [0, 1].
        labels: (N,) class of each box; boxes of different classes do not suppress each other. None: one class.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.

    Raises:
        NumericError: a box or score is not finite.
        UsageError: the threshold is outside [0, 1].
    """
    if not 0 <= iou_threshold <= 1:
        raise UsageError(f"rotated_nms: iou_threshold {iou_threshold}: give a number from 0 to 1")
    _check_finite(boxes, scores)
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes.detach()[order].double()
    better, worse = _suppressions(ranked, None if labels is None else labels[order], iou_threshold)
    return order[_greedy(better, worse, len(order))]


def _check_finite(boxes: Tensor, scores: Tensor) -> None:
    bad = ~(boxes.isfinite().all(dim=1) & scores.isfinite())
    if bad.any():
        where = int(bad.nonzero()[0])
        raise NumericError(
            f"rotated_nms: {int(bad.sum())} of {len(bad)} boxes or scores are not finite: box {where} is "
            f"{boxes[where].tolist()} with score {scores[where].item()}: look for the first NaN upstream"
        )


def _suppressions(ranked: Tensor, labels: Tensor | None, threshold: float) -> tuple[Tensor, Tensor]:
    """Ranks (better, worse) of the pairs that overlap by more than the threshold and share a class.

    Boxes are visited from left to right, so that a block is compared only with the boxes that begin before it ends.
    """
    extents = hulls(ranked)
    left, visit = extents[:, 0].sort()
    found = [torch.zeros(2, 0, dtype=torch.int64, device=ranked.device)]
    for start in range(0, len(ranked), _ROWS):
        rows = visit[start : start + _ROWS]
        columns = visit[start : int(torch.searchsorted(left, extents[rows, 2].max()))]
        for i, j in candidate_pairs(extents[rows], extents[columns]):
            once = j > i
            pair = torch.stack([rows[i[once]], columns[j[once]]])
            if labels is not None:
                pair = pair[:, labels[pair[0]] == labels[pair[1]]]
            found.append(pair[:, pair_iou(ranked, pair[0], pair[1]) > threshold])
    pairs = torch.cat(found, dim=1)
    return pairs.amin(dim=0), pairs.amax(dim=0)


def _greedy(better: Tensor, worse: Tensor, count: int) -> Tensor:
    """Mask (count,) of the greedy choice: the fixed point of "kept unless a kept, better box suppresses it".

    Each round settles at least one more rank of every chain of suppressions, so it ends, usually within ten rounds.
    """
    kept = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        settled = torch.ones_like(kept)
        settled[worse[kept[better]]] = False
        if torch.equal(settled, kept):
            return kept
        kept = settled
