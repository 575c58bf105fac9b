"""Hyperbolic similarity mask (IFKD's HSM): how far apart two maps are, place by place, in the Poincaré ball.

The ball of curvature -c has the radius 1/√c. Khrulkov et al., "Hyperbolic Image Embeddings", CVPR 2020,
arXiv 1904.02239.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fledge.types import at_least_float32

_RIM = 1 - 1e-3  # largest length in the ball, as a part of its radius


def exponential_map(u: Tensor, c: float = 1.0) -> Tensor:
    """From the plane that touches the ball at 0 into the ball, clipped to 0.999 of its radius.

    Args:
        u: (B, C, …) vectors along dimension 1.
        c: curvature, above 0.
    """
    least = torch.finfo(u.dtype).tiny ** 0.5
    length: Tensor = math.sqrt(c) * torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp(min=least)
    factor: Tensor = length.tanh().clamp(max=_RIM) / length
    return u * factor


def poincare_distance(x: Tensor, y: Tensor, c: float = 1.0) -> Tensor:
    """Equation 10, 2/√c · artanh(√c |(-x) ⊕ y|) with the Möbius addition of equation 9.

    Computed as 2/√c · arsinh(√c |x - y| / √((1 - c|x|²)(1 - c|y|²))), which is the same and exact near the rim.

    Args:
        x, y: (B, C, …) points of the ball, vectors along dimension 1.
        c: curvature, above 0; towards 0 the distance becomes 2 |x - y|.

    Returns:
        (B, 1, …) distances; NaN for a point outside the ball.
    """
    between: Tensor = torch.linalg.vector_norm(x - y, dim=1, keepdim=True)
    rims = [(1 - c * z.square().sum(dim=1, keepdim=True)).sqrt() for z in (x, y)]
    return 2 / math.sqrt(c) * torch.asinh(math.sqrt(c) * between / (rims[0] * rims[1]))


@torch.no_grad()
def hyperbolic_mask(student: Tensor, teacher: Tensor, c: float = 1.0) -> Tensor:
    """Equation 11: the distance of two maps (B, C, H, W) at each place, (B, 1, H, W), at least float32.

    Vectors are divided by √C first: otherwise all would lie at the rim and all distances be the same.
    """
    scale = teacher.shape[1] ** -0.5
    x, y = (exponential_map(at_least_float32(z) * scale, c) for z in (teacher, student))
    return poincare_distance(x, y, c)
