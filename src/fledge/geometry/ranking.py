"""What suppressions that lower scores share: checks, and the overlaps of boxes ranked by score."""

from __future__ import annotations

from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry.iou import rotated_iou_pairs


def check_scored(name: str, boxes: Tensor, scores: Tensor) -> None:
    """Refuse boxes (N, 5) and scores (N,) that cannot be ranked.

    Raises:
        NumericError: a box or score is not finite.
        UsageError: a score is negative, so that lowering it by a factor would raise it.
    """
    bad = ~(boxes.isfinite().all(dim=1) & scores.isfinite())
    if bad.any():
        where = int(bad.nonzero()[0])
        raise NumericError(
            f"{name}: {int(bad.sum())} of {len(bad)} boxes or scores are not finite: box {where} is "
            f"{boxes[where].tolist()} with score {scores[where].item()}: look for the first NaN upstream"
        )
    if (scores < 0).any():
        raise UsageError(f"{name}: scores down to {scores.min().item()}: give scores of at least 0, such as sigmoids")


def ranked_overlaps(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, min_iou: float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The overlaps of boxes with others of their label.

    Returns:
        The indices (N,) of the boxes by score, of equal scores the earlier box first; and for every ordered pair of
        different ranks whose IoU exceeds ``min_iou``: one rank (P,) and the other (P,) int64, in this order, and the
        IoU (P,) float64.
    """
    order = scores.detach().argsort(descending=True, stable=True)
    ranked = boxes.detach()[order].double()
    i, j, iou = rotated_iou_pairs(ranked, ranked, min_iou)
    wanted = i != j
    if labels is not None:
        wanted &= labels[order[i]] == labels[order[j]]
    return order, i[wanted], j[wanted], iou[wanted]
