"""Soft-NMS of rotated boxes: what overlaps a better box loses score instead of being dropped.

Bodla et al., "Soft-NMS – Improving Object Detection With One Line of Code", ICCV 2017,
https://arxiv.org/abs/1704.04503, with the exact IoU of rotated boxes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.ranking import check_scored, ranked_overlaps


def rotated_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    method: Literal["linear", "gaussian"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Take the box with the best score, lower the scores of the rest by their overlap with it, and so on.

    The overlaps are found on the boxes' device, the order is settled on the CPU: memory grows with the number of pairs
    that overlap. Not differentiable.

    Args:
        boxes: (N, 5), pixels and radians, canonical or not.
        scores: (N,), at least 0; of equal scores the earlier box comes first.
        labels: (N,) integers; boxes of different labels do not touch each other. None: one class. For several images
            at once give ``image * classes + label``.
        method: "gaussian" multiplies by exp(−IoU² / sigma), "linear" by 1 − IoU where the IoU exceeds
            ``iou_threshold``.
        sigma: of the Gaussian, above 0.
        iou_threshold: of the linear form, in [0, 1].
        min_score: boxes whose score falls below it are dropped.

    Returns:
        (K,) int64 indices of the remaining boxes, the best new score first, and these scores (K,).

    Raises:
        NumericError: a box or score is not finite.
        UsageError: an unknown method, a number out of its range, or a negative score.
    """
    if method not in ("linear", "gaussian") or sigma <= 0 or not 0 <= iou_threshold <= 1:
        raise UsageError(
            f'rotated_soft_nms: method "{method}", sigma {sigma}, iou_threshold {iou_threshold}: '
            'give "linear" or "gaussian", a sigma above 0 and a threshold from 0 to 1'
        )
    check_scored("rotated_soft_nms", boxes, scores)
    gaussian = method == "gaussian"
    order, i, j, iou = ranked_overlaps(boxes, scores, labels, 0.0 if gaussian else iou_threshold)
    factor = (-iou.square() / sigma).exp() if gaussian else 1 - iou
    picked, lowered = _settle(scores.detach()[order].double(), i, j, factor, min_score)
    return order[picked], lowered.to(scores.dtype)


def _settle(ranked: Tensor, i: Tensor, j: Tensor, factor: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Ranks in the order in which they are taken, and their scores by then."""
    from fledge.geometry import soft_nms_kernels

    ends = torch.searchsorted(i, torch.arange(len(ranked) + 1, device=i.device))
    scores, begin, others, factors = (t.cpu().numpy() for t in (ranked, ends, j, factor))
    picked, lowered = soft_nms_kernels.settle(scores, begin, others, factors, least)
    return torch.from_numpy(picked).to(i.device), torch.from_numpy(lowered).to(i.device)
