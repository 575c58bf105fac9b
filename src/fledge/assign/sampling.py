"""What of an assignment is learnt: a balanced sample. Ren et al., "Faster R-CNN", NeurIPS 2015, arXiv 1506.01497."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from fledge.assign.max_iou import BACKGROUND, IGNORED
from fledge.geometry.upright import extents
from fledge.types import Targets


def balanced_sample(labels: Tensor, count: int, share: float, seed: int) -> Tensor:
    """Rows to learn from: positives up to a share of them, the rest background.

    Every row draws a number, a function of the seed and its place alone, and the lowest win: the same rows on every
    device, however a batch is split.

    Args:
        labels: (R,) int64: a class of at least 0, ``BACKGROUND`` or ``IGNORED``, which is never taken.
        count: how many rows, if there are enough.
        share: of positives, at most.
        seed: of the draw.

    Returns:
        (S,) int64, rising.
    """
    drawn = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    positive = _lowest(drawn, labels >= 0, int(count * share))
    negative = _lowest(drawn, labels == BACKGROUND, count - len(positive))
    return torch.cat([positive, negative]).sort().values


def _lowest(drawn: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Rows of the ``count`` lowest numbers among those allowed."""
    rows = allowed.nonzero()[:, 0]
    if len(rows) <= count:
        return rows
    return rows[drawn[rows].topk(count, largest=False).indices]


def match_regions(regions: Tensor, objects: Targets, least_iou: float = 0.5) -> tuple[Tensor, Tensor]:
    """What each region shows: the class of the object it overlaps most, if by at least ``least_iou``.

    A region that lies at least half inside an *ignored* object, and shows no other, is ignored.

    Args:
        regions: (R, 4) extents in pixels.
        objects: of the image, their boxes upright (the angle 0).
        least_iou: from which a region shows an object.

    Returns:
        labels (R,) int64: a class, ``BACKGROUND`` or ``IGNORED``; and rows (R,) of ``objects``, of meaning where the
        label is a class.
    """
    labels = torch.full((len(regions),), BACKGROUND, dtype=torch.int64, device=regions.device)
    corners = extents(objects.boxes).to(regions.dtype)
    hidden, real = objects.ignore.nonzero()[:, 0], (~objects.ignore).nonzero()[:, 0]
    if len(hidden):
        labels[(_inside(regions, corners[hidden]) >= 0.5).any(dim=1)] = IGNORED
    if not len(real):
        return labels, torch.zeros_like(labels)
    best, row = box_iou(regions, corners[real]).max(dim=1)
    shows = best >= least_iou
    labels[shows] = objects.labels[real[row[shows]]]
    return labels, real[row]


def _inside(regions: Tensor, corners: Tensor) -> Tensor:
    """The share (R, N) of each region's area that lies in each box."""
    low = torch.maximum(regions[:, None, :2], corners[:, :2])
    high = torch.minimum(regions[:, None, 2:], corners[:, 2:])
    area = (regions[:, 2:] - regions[:, :2]).prod(dim=1).clamp(min=torch.finfo(regions.dtype).tiny)
    return (high - low).clamp(min=0).prod(dim=2) / area[:, None]
