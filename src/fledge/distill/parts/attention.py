"""Where, and in which channels, a map is active: the attentions of FKD and FGD."""

from __future__ import annotations

from torch import Tensor


def spatial_attention(magnitude: Tensor, temperature: float) -> Tensor:
    """Softmax over the places of the mean magnitude of the channels, times their number, so that its mean is 1.

    Args:
        magnitude: (B, C, H, W) absolute values of a map.
        temperature: divides the means; the lower, the fewer places count.

    Returns:
        (B, 1, H, W).
    """
    mean = magnitude.mean(dim=1, keepdim=True)
    return (mean.flatten(1) / temperature).softmax(dim=1).view(mean.shape) * (mean[0].numel())


def channel_attention(magnitude: Tensor, temperature: float) -> Tensor:
    """Softmax over the channels of their mean magnitude over the places, times their number, so that its mean is 1.

    Args:
        magnitude: (B, C, H, W) absolute values of a map.
        temperature: divides the means.

    Returns:
        (B, C, 1, 1).
    """
    mean = magnitude.mean(dim=(2, 3), keepdim=True)
    return (mean / temperature).softmax(dim=1) * mean.shape[1]
