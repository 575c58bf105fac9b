"""From a first stage's outputs to the regions a second stage looks at, and to what it sees there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from fledge.geometry.upright import decode_upright, extents, greedy_mask
from fledge.types import Outputs, at_least_float32

CELLS = 7
"""Side of the grid that a region is pooled to."""

_FINEST = 56.0  # side of a region in pixels, from twice of which on it is pooled from the second level


@torch.no_grad()
def propose(
    outputs: Outputs, grids: Sequence[Tensor], size: tuple[int, int], before: int, count: int, iou: float
) -> tuple[Tensor, Tensor]:
    """The most promising regions of each image: of every level the best, suppressed; of all levels the best.

    Shapes do not depend on the data, so that a graph can hold it.

    Args:
        outputs: objectness (B, A, 1, H, W) and codes (B, A, 4, H, W) of each level.
        grids: of each level the anchors (H·W·A, 5).
        size: (height, width) of the padded images, to which regions are clipped.
        before: regions of a level, image and forward pass that suppression looks at.
        count: regions of an image afterwards; at most ``before``.
        iou: overlap above which the worse of two regions of a level goes.

    Returns:
        extents (B, count, 4) in pixels, best first, and which of them are regions (B, count); the others are filling.
        A region that is not finite, or has no area, is none.
    """
    found, scores = [], []
    for logits, codes, anchors in zip(outputs.logits, outputs.codes, grids, strict=True):
        objectness = at_least_float32(logits).permute(0, 3, 4, 1, 2).flatten(1)
        score, index = F.pad(objectness, (0, before), value=-torch.inf).topk(before, dim=1)
        index = index.clamp(max=anchors.shape[0] - 1)
        deltas = codes.permute(0, 3, 4, 1, 2).flatten(1, 3).gather(1, index[..., None].expand(-1, -1, 4))
        corners = _clipped(extents(decode_upright(anchors[index], deltas)), size)
        real = (score > -torch.inf) & corners.isfinite().all(dim=2) & (corners[..., 2:] > corners[..., :2]).all(dim=2)
        kept = greedy_mask(corners, real, iou)
        found.append(corners)
        scores.append(score.where(kept, -torch.inf))
    best, index = torch.cat(scores, dim=1).topk(count, dim=1)
    return torch.cat(found, dim=1).gather(1, index[..., None].expand(-1, -1, 4)), best > -torch.inf


def _clipped(corners: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    x, y = corners[..., 0::2].clamp(min=0, max=width), corners[..., 1::2].clamp(min=0, max=height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def region_levels(corners: Tensor, levels: int) -> Tensor:
    """The level 0 … ``levels`` - 1 that each region (R, 4) is pooled from: one coarser for each doubling of its side.

    Lin et al., "Feature Pyramid Networks", CVPR 2017, arXiv 1612.03144, eq. 1: a region of 224 pixels squared is
    pooled from the third level, P4.
    """
    side = (corners[:, 2:] - corners[:, :2]).prod(dim=1).sqrt()
    return (side / _FINEST + 1e-6).log2().floor().clamp(0, levels - 1).to(torch.int64)


def pool_regions(maps: Sequence[Tensor], strides: Sequence[int], corners: Tensor, image: Tensor) -> Tensor:
    """What the maps show in each region, by RoIAlign (He et al., "Mask R-CNN", ICCV 2017, arXiv 1703.06870).

    Args:
        maps: of each level (B, C, H, W).
        strides: pixels a cell of each level.
        corners: (R, 4) extents in pixels.
        image: (R,) which image each region is of.

    Returns:
        (R, C, 7, 7), at least float32.
    """
    maps = [at_least_float32(x) for x in maps]
    corners = corners.to(maps[0].dtype)
    level = region_levels(corners, len(maps))
    regions = torch.cat([image[:, None].to(corners.dtype), corners], dim=1)
    pooled = [
        roi_align(x, regions[(level == k).nonzero()[:, 0]], CELLS, 1 / stride, sampling_ratio=0, aligned=True)
        for k, (x, stride) in enumerate(zip(maps, strides, strict=True))
    ]
    return torch.cat(pooled)[_places(level, len(maps))]


def _places(level: Tensor, levels: int) -> Tensor:
    """Where each region (R,) comes when those of a level stand together, in their order."""
    own = level[:, None] == torch.arange(levels, device=level.device)
    counts = own.sum(dim=0)
    return ((own.cumsum(dim=0) - 1 + counts.cumsum(dim=0) - counts) * own).sum(dim=1)
