"""Box deltas as means of distributions over fixed values.

Li et al., "Generalized Focal Loss", NeurIPS 2020, arXiv 2006.04388, for the lengths. An angle has no ends, so that its
values lie on a circle and its mean is that of vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fledge.types import at_least_float32

REACH = (1.0, 1.0, 2.0, 2.0)
"""Largest dx and dy (in sides of the anchor), dw and dh (log ratios: sides of 0.14 to 7.4 times the anchor's) that a
distribution can say, either way; an object beyond them is learnt as far as they go."""

_LEAST = 1e-2  # length of the mean vector below which an angle's gradient grows no more
_PEAK = 2.0  # of the first distribution of angles, around the anchor's own


def length_values(bins: int) -> Tensor:
    """(4, bins) float32: the values of dx, dy, dw and dh, evenly from minus to plus their reach."""
    return torch.tensor(REACH)[:, None] * torch.linspace(-1, 1, bins)


def angle_values(bins: int) -> Tensor:
    """(bins,) float32: angles pi / bins apart around a circle whose turn is pi, one of them 0."""
    return (torch.arange(bins) - bins // 2) * (math.pi / bins)


def circular_mean(weights: Tensor, angles: Tensor, dim: int = -1) -> Tensor:
    """Half the direction of the mean of the unit vectors at twice the angles; pi/2 and -pi/2 are neighbours.

    Where the vectors cancel each other the mean has no direction. The value is then any, and the gradient, which would
    be infinite, is that of a mean vector of the length 0.01.

    Args:
        weights: of any shape, at least 0, of the sum 1 along ``dim``.
        angles: radians, broadcast against ``weights``.
        dim: where the angles lie.

    Returns:
        Angles in [-pi/2, pi/2], of the shape of ``weights`` without ``dim``.
    """
    x, y = (weights * (2 * angles).cos()).sum(dim), (weights * (2 * angles).sin()).sum(dim)
    x0, y0 = x.detach(), y.detach()
    # The second part is zero and has the gradient of atan2, bounded.
    turn = torch.atan2(y0, x0) + (x0 * y - y0 * x) / (x0 * x0 + y0 * y0).clamp(min=_LEAST**2)
    return turn / 2


class BoxBins(nn.Module):
    """From the scores of a distribution for each delta to the deltas: four lengths and, of oriented boxes, an angle.

    Args:
        bins: values a delta; at least 3.
    """

    lengths: Tensor
    angles: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.register_buffer("lengths", length_values(bins), persistent=False)
        self.register_buffer("angles", angle_values(bins), persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """(B, A, D·bins, H, W) scores, delta by delta, to codes (B, A, D, H, W), at least float32; D is 4 or 5."""
        scores: Tensor = at_least_float32(raw).unflatten(2, (-1, self.bins))  # type: ignore[no-untyped-call]
        share = scores.softmax(dim=3)
        means = (share[:, :, :4] * self.lengths[:, :, None, None]).sum(dim=3)
        if share.shape[2] == 4:
            return means
        turn = circular_mean(share[:, :, 4:], self.angles[:, None, None], dim=3)
        return torch.cat([means, turn], dim=2)

    def start(self, anchors: int, codes: int = 5) -> Tensor:
        """(A·D·bins,) biases of fresh scores: any length alike, so that boxes start at the anchors, and angles near 0.

        An even distribution of angles would have no mean.
        """
        bias = torch.zeros(anchors, codes, self.bins)
        bias[:, 4:] = _PEAK * (2 * self.angles).cos()
        return bias.flatten()
