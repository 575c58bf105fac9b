"""A map of edges, for which no weights are needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.models.embedders.embedder import Network, by_size

STEPS = (1, 2, 4)  # pixels that are averaged before differences are taken
CELL = 8
_LUMINANCE = (0.299, 0.587, 0.114)
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


class Edges(Network):
    """How strong edges are: the length of the Sobel gradient of the luminance (0…1), at three scales.

    Channel i is the gradient of means over s × s pixels, s = 1, 2 and 4, per mean, averaged over cells of 8 × 8 pixels;
    borders are repeated. A single step from black to white has 1/2 beside it, and the mean of that over its cell.
    """

    channels = len(STEPS)
    identity = "edges 1"

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images of one size are computed together."""
        return by_size(images, _edges)

    def cell(self, height: int, width: int) -> tuple[float, float]:  # noqa: ARG002
        """8 pixels."""
        return CELL, CELL

    def describe(self) -> str:
        """One line for a report."""
        return f"edges: Sobel magnitude of luminance over {', '.join(map(str, STEPS))} pixels; no weights"


def _edges(images: Tensor) -> Tensor:
    """(B, 3, h, w) uint8 to (B, 3, rows, columns)."""
    weights, sobel = (torch.tensor(x, device=images.device) for x in (_LUMINANCE, _SOBEL))
    light = (images.float() * weights[:, None, None]).sum(dim=1, keepdim=True) / 255
    kernels = torch.stack([sobel, sobel.T])[:, None] / 8
    scales = []
    for step in STEPS:
        slope = F.conv2d(F.pad(_means(light, step), (1, 1, 1, 1), mode="replicate"), kernels)
        scales.append(_means(slope.norm(dim=1, keepdim=True), CELL // step))
    return torch.cat(scales, dim=1)


def _means(maps: Tensor, step: int) -> Tensor:
    """Over step × step; at the right and bottom, over what there is."""
    return F.avg_pool2d(maps, step, ceil_mode=True)
