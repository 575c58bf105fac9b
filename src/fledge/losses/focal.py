"""Focal loss on sigmoid scores. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss


def focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of each anchor, summed over classes.

    Args:
        logits: (N, K) raw scores.
        labels: (N,) int64, class index, or K (or more) for background.
        alpha: weight of the positive class.
        gamma: focusing exponent.

    Returns:
        (N,) losses, not normalised.
    """
    classes = logits.shape[1]
    target = F.one_hot(labels.clamp(max=classes), classes + 1)[:, :classes].to(logits.dtype)
    loss: Tensor = sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma, reduction="none")
    return loss.sum(dim=1)
