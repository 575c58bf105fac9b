"""Matrix NMS of rotated boxes: scores are lowered in one pass, without an order to follow.

Wang et al., "SOLOv2: Dynamic and Fast Instance Segmentation", NeurIPS 2020, https://arxiv.org/abs/2003.10152,
section 3.3, with the exact IoU of rotated boxes in place of masks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.ranking import check_scored, ranked_overlaps


def rotated_matrix_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    method: Literal["linear", "gaussian"] = "gaussian",
    sigma: float = 0.5,
    min_score: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Lower each score by the overlap with better boxes, unless these are themselves likely to be suppressed.

    With f(IoU) = 1 − IoU or exp(−IoU² / sigma), the factor of box j is the least f(IoU_ij) / f(max_k IoU_ki) over
    better boxes i, whose better boxes are k; at most 1. Plain tensor code on any device; memory grows with the number
    of pairs that overlap. Not differentiable.

    Args:
        boxes: (N, 5), pixels and radians, canonical or not.
        scores: (N,), at least 0; of equal scores the earlier box counts as the better one.
        labels: (N,) integers; boxes of different labels do not touch each other. None: one class. For several images
            at once give ``image * classes + label``.
        method: the function f.
        sigma: of the Gaussian, above 0.
        min_score: boxes whose score falls below it are dropped.

    Returns:
        (K,) int64 indices of the remaining boxes, the best new score first, and these scores (K,).

    Raises:
        NumericError: a box or score is not finite.
        UsageError: an unknown method, a sigma of 0 or below, or a negative score.
    """
    if method not in ("linear", "gaussian") or sigma <= 0:
        raise UsageError(
            f'rotated_matrix_nms: method "{method}", sigma {sigma}: give "linear" or "gaussian" and a sigma above 0'
        )
    check_scored("rotated_matrix_nms", boxes, scores)
    order, i, j, iou = ranked_overlaps(boxes, scores, labels)
    better, worse, iou = i[i < j], j[i < j], iou[i < j]
    most = iou.new_zeros(len(order)).scatter_reduce(0, worse, iou, "amax")  # of each box with better ones
    if method == "gaussian":
        factor = ((most[better].square() - iou.square()) / sigma).exp()
    else:
        # A box that a better one covers whole suppresses nothing: the better one does.
        room = 1 - most[better]
        factor = torch.where(room > 0, (1 - iou) / room, 1.0)
    # Over all pairs, disjoint ones too, the least is at most 1: the best box of all has nothing above it.
    lowered = scores.detach()[order].double() * torch.ones_like(most).scatter_reduce(0, worse, factor, "amin")
    rank = lowered.argsort(descending=True, stable=True)
    rank = rank[lowered[rank] >= min_score]
    return order[rank], lowered[rank].to(scores.dtype)
