"""Fixed linear maps between widths that learn nothing and lose as little as can be."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonal_map(channels_in: int, channels_out: int, seed: int) -> Tensor:
    """A random 1×1 convolution that keeps angles: uniform among the matrices with orthonormal columns or rows.

    To as many channels or more, lengths and angles stay as they are; to fewer it is a projection on a random subspace.
    Mezzadri, "How to Generate Random Matrices from the Classical Compact Groups", 2007, arXiv math-ph/0609050.

    Args:
        channels_in, channels_out: widths.
        seed: of the map; the global generators are left alone.

    Returns:
        (channels_out, channels_in, 1, 1) float32, for ``conv2d``. Computed on the CPU in float64 and then rounded, so
        that the device does not matter.
    """
    generator = torch.Generator().manual_seed(seed)
    tall = torch.randn(
        max(channels_in, channels_out), min(channels_in, channels_out), generator=generator, dtype=torch.float64
    )
    q, r = torch.linalg.qr(tall)
    signed: Tensor = q * r.diagonal().sign()  # of the two signs that QR leaves open
    matrix = signed if channels_out >= channels_in else signed.T
    return matrix.float().contiguous()[:, :, None, None]
