"""Instance-aware Distillation for Efficient Object Detection in Remote Sensing Images (InsDist), TGRS 2023.

Li et al. https://doi.org/10.1109/TGRS.2023.3238801 (authors' code: swift1988/InsDist)

Two parts: the student's neck imitates the teacher's where the teacher finds cells similar to a labelled object, and
elsewhere with another weight; and the labelled objects' mean features are as alike or unlike as the teacher's.

Differs from the paper:
- Similarity is brought to 0 ... 1 for each object by its smallest and largest value; the authors' code divides by the
  largest alone, which leads above 1.
- The second part was never released and the article was not available: it is the mean squared difference of the cosine
  similarities of all pairs of objects in the batch, of at most 256, at the finest level. `insdist_balanced` lets pairs
  of one class weigh as much in all as pairs of two.
- An object is the cells whose centres lie in its oriented box, at least one. Ignored objects do not count.
- The similarity is that of the teacher's level of stride 32 (P5), as released; its mask is brought to the other levels
  by the nearest cell.
- Weights and threshold are not known: they are ours. The lengths are not squared, as in the authors' code: the same
  images twice give the square root of two times that part.
- A 1×1 convolution a level for the first part, though the widths agree. The second compares the student's own map.

Published results: not available. As the baseline of IFKD (RetinaNet, R50 to MobileNetV2, mAP alone and distilled):
SAR-AIRcraft-1.0 53.3 and 50.2, ShipRSImageNet 40.6 and 42.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters, pair
from fledge.distill.parts.masks import object_cells, stride_of
from fledge.types import Batch, Outputs, Targets, at_least_float32

TERMS = ("kd_insdist_fg", "kd_insdist_bg", "kd_insdist_relation")
WEIGHTS = dict(zip(TERMS, (1e-3, 5e-4, 1.0), strict=True))
_MOST = 256  # objects whose pairs are compared
_EPS = 1e-6  # the least length of a feature, so that one of nothing but zeros has a sound gradient


def object_means(x: Tensor, boxes: Tensor, stride: float) -> Tensor:
    """The mean of a map (C, H, W) over the cells of each of N oriented boxes: (N, C)."""
    objects, cells = object_cells(boxes, (x.shape[1], x.shape[2]), stride)
    sums = x.new_zeros(len(boxes), len(x)).index_add(0, objects, x.flatten(1).T[cells])
    return sums / torch.bincount(objects, minlength=len(boxes))[:, None]


def similarities(x: Tensor, means: Tensor) -> Tensor:
    """Dot products of N features (N, C) with each cell of a map (C, H, W): (N, H, W)."""
    return (means @ x.flatten(1)).view(-1, *x.shape[1:])


def alike(x: Tensor, boxes: Tensor, stride: float, threshold: float) -> Tensor:
    """(H, W) bool: the cells of a map (C, H, W) that are similar to one of N labelled objects.

    Each object's similarities are brought to 0 ... 1 by their smallest and largest; a map that is the same everywhere
    is similar nowhere.
    """
    found = similarities(x, object_means(x, boxes, stride)).flatten(1)
    low, high = found.aminmax(dim=1, keepdim=True)
    scaled = (found - low) / (high - low).clamp(min=torch.finfo(found.dtype).tiny)
    return (scaled > threshold).any(dim=0).view(x.shape[1:])


def relation_loss(student: Tensor, teacher: Tensor, labels: Tensor, balanced: bool = False) -> Tensor:
    """Mean squared difference of the cosines of N objects, over the ordered pairs of two different ones.

    Args:
        student: (N, C) features.
        teacher: (N, C') features.
        labels: (N,) classes.
        balanced: the mean over pairs of one class and that over pairs of two weigh the same, if there are both.

    Returns:
        A scalar; 0 with a gradient for fewer than two objects.
    """
    own, other = (F.normalize(x, dim=1, eps=_EPS) for x in (student, teacher))
    squares = (own @ own.T - other @ other.T).square()
    apart = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = labels[:, None] == labels[None, :]
    groups = [apart & same, apart & ~same] if balanced else [apart]
    means = [squares[group].mean() for group in groups if group.any()]
    return torch.stack(means).mean() if means else squares.sum() * 0


class InsDist(nn.Module):
    """The terms of InsDist: inside and outside the mask, summed over the levels, and the relation.

    Args:
        student_channels, teacher_channels: of the necks.
        levels: names of the maps, from the finest on.
        weights: of the terms.
        threshold: of the similarity, 0 ... 1.
        balanced: of the relation, see ``relation_loss``.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        levels: Sequence[str],
        weights: Mapping[str, float] = WEIGHTS,
        threshold: float = 0.5,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.weights, self.threshold, self.balanced = dict(weights), threshold, balanced
        self.adapters = Adapters(levels, student_channels, teacher_channels, always=True)
        self.finest = levels[0]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms ``kd_insdist_fg``, ``kd_insdist_bg`` and ``kd_insdist_relation``."""
        targets = [t.select(~t.ignore) for t in batch.targets]
        coarse = at_least_float32(teacher.features["p5"]).detach()
        mask = torch.stack([alike(x, t.boxes, 32, self.threshold) for x, t in zip(coarse, targets, strict=True)])
        inside, outside = [], []
        for own, other in self.adapters(student, teacher).values():
            here = F.interpolate(mask[:, None].to(own.dtype), own.shape[2:], mode="nearest")
            difference = own - other
            inside.append(torch.linalg.vector_norm(difference * here))
            outside.append(torch.linalg.vector_norm(difference * (1 - here)))
        terms = (torch.stack(inside).sum(), torch.stack(outside).sum(), self._relation(student, teacher, targets))
        return {term: self.weights[term] * value for term, value in zip(TERMS, terms, strict=True)}

    def _relation(self, student: Outputs, teacher: Outputs, targets: Sequence[Targets]) -> Tensor:
        own, other = pair(student.features[self.finest], teacher.features[self.finest])
        stride = stride_of(self.finest)
        means = [
            torch.cat([object_means(x, t.boxes, stride) for x, t in zip(maps, targets, strict=True)])
            for maps in (own, other)
        ]
        labels = torch.cat([t.labels for t in targets])
        chosen = torch.linspace(0, len(labels) - 1, min(_MOST, len(labels)), device=own.device).long()
        return relation_loss(means[0][chosen], means[1][chosen], labels[chosen], self.balanced)
