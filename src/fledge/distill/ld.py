"""LD: Localization Distillation for Dense Object Detection, CVPR 2022 and TPAMI 2023.

https://arxiv.org/abs/2102.12252 and https://arxiv.org/abs/2204.05957

Where the heads predict each box delta as a distribution over values (`box_bins`), the student's distributions imitate
the teacher's, softened by a temperature: on the positives, and on the anchors around them that are nearly positive.

Differs from the paper:
- The anchors and deltas are RetinaNet's, five deltas for oriented boxes, and the angle's values lie on a circle
  (`fledge.models.box_bins`): over values on a line, as in the published rotated form, it breaks where pi/2 meets -pi/2.
- Both sums are divided by the positives of the step. The published code divides by the constants 4 (the deltas) and 16,
  so that its terms grow with the number of objects in a batch and its weights of 0.25 do not carry over. The defaults,
  not tuned, are 10, the weight of the published rotated form, and a quarter of it around the positives, the ratio of
  those constants. `"auto:0.3"` would make them far too large: it looks at the first step, where the scores that weigh
  the terms are near 0.
- The mean is taken over values and deltas, the temperature's square multiplies it, and the student's best score weighs
  each anchor, without a gradient, as in the code.
- Nearly positive: no positive, and the largest DIoU with an object between a quarter of `positive_iou` and itself. The
  paper's threshold is ATSS's for each object. The overlap is that of the oriented boxes, the distance counts in
  diagonals of the horizontal hull of both. Anchors near the positives that the class loss ignores belong to it.
- Boxes only: no distillation of the classes or features beside it. The distributions are learnt through the box loss on
  their mean alone; the distribution focal loss is not used.

Published results (COCO, mAP, alone and distilled): GFL R18 35.8 and 36.5, R34 38.9 and 39.8, R50 40.1 and 41.1, with
the region around the positives, class and feature terms 42.1. Rotated, DOTA val, AP50, R18: 67.2, with distributions
68.5, distilled with classes too 69.8: half of the gain is the head's, so compare with `box_bins` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.assign.overlaps import Overlaps
from fledge.distill.parts.levels import check_same_grid
from fledge.distributed import share_of_positives
from fledge.geometry.boxes import hulls
from fledge.types import Batch, Outputs, Targets, at_least_float32


def bin_divergence(student: Tensor, teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """τ² KL(softmax(t / τ) || softmax(s / τ)), the mean over the values of a distribution and over deltas.

    Args:
        student, teacher: (N, D, bins) scores; the teacher's get no gradient.
        temperature: τ.

    Returns:
        (N,), at least 0, at least float32.
    """
    s = (at_least_float32(student) / temperature).log_softmax(dim=2)
    t = (at_least_float32(teacher).detach() / temperature).log_softmax(dim=2)
    return temperature**2 * (t.exp() * (t - s)).mean(dim=(1, 2))


@torch.no_grad()
def valuable(anchors: Tensor, targets: Sequence[Targets], positive: Tensor, threshold: float) -> Tensor:
    """The valuable localization region: no positives, with the best DIoU in [threshold / 4, threshold).

    DIoU is the exact IoU less the squared distance of the centres over that of the opposite corners of the horizontal
    hull of both. Ignored objects do not count.

    Args:
        anchors: (A, 5), pixels and radians.
        targets: of the B images, in the anchors' frame.
        positive: (B, A) bool.
        threshold: from which IoU an anchor is positive.

    Returns:
        (B, A) bool.
    """
    boxes = torch.cat([t.boxes[~t.ignore] for t in targets]).to(anchors.dtype)
    counts = torch.tensor([int((~t.ignore).sum()) for t in targets], device=anchors.device)
    start = torch.repeat_interleave(torch.arange(len(targets), device=anchors.device) * len(anchors), counts)
    best = anchors.new_zeros(positive.numel())
    extents, around = hulls(anchors), hulls(boxes)
    for a, g, iou in Overlaps(anchors).above(boxes, threshold / 4):
        high = torch.maximum(extents[a, 2:], around[g, 2:])
        low = torch.minimum(extents[a, :2], around[g, :2])
        apart = (anchors[a, :2] - boxes[g, :2]).square().sum(dim=1) / (high - low).square().sum(dim=1)
        best.scatter_reduce_(0, start[g] + a, iou - apart, "amax")
    best = best.view(positive.shape)
    return (best >= threshold / 4) & (best < threshold) & ~positive


class LD(nn.Module):
    """The two terms of LD, on the scores ``box_bins.p3`` … of both heads.

    Args:
        assign: the student's assignment of a batch, so that it is computed once.
        anchor_boxes: of the student: (A, 5) in the order of ``flatten_levels``.
        threshold: from which IoU an anchor is positive.
        bins: values of a distribution in both heads.
        weight, vlr_weight: of the terms.
        temperature: of the distributions.
    """

    def __init__(
        self,
        assign: Callable[[Outputs, Batch], Assignment],
        anchor_boxes: Callable[[Outputs], Tensor],
        threshold: float,
        bins: int,
        weight: float = 10.0,
        vlr_weight: float = 2.5,
        temperature: float = 10.0,
    ) -> None:
        super().__init__()
        self.assign, self.anchor_boxes, self.threshold = assign, anchor_boxes, threshold
        self.bins, self.temperature = bins, temperature
        self.weights = {"kd_ld": weight, "kd_ld_vlr": vlr_weight}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms ``kd_ld`` and ``kd_ld_vlr``."""
        check_same_grid("LD", student, teacher)
        assignment = self.assign(student, batch)
        near = valuable(self.anchor_boxes(student), batch.targets, assignment.positive, self.threshold)
        divisor = share_of_positives(assignment.positives, near.device)
        chosen = {"kd_ld": assignment.positive, "kd_ld_vlr": near}
        return {
            name: self.weights[name] * self._sum(student, teacher, where) / divisor for name, where in chosen.items()
        }

    def _sum(self, student: Outputs, teacher: Outputs, chosen: Tensor) -> Tensor:
        """The divergences of the anchors chosen by a mask (B, A), weighted by the student's best score."""
        parts, start = [], 0
        for level, logits in zip(_levels(student), student.logits, strict=True):
            batch, anchors, _, height, width = logits.shape
            here = chosen[:, start : start + anchors * height * width].view(batch, height, width, anchors)
            start += anchors * height * width
            score = logits.detach().permute(0, 3, 4, 1, 2)[here].sigmoid().amax(dim=1)
            own, other = (_rows(outputs.features[level], here, self.bins) for outputs in (student, teacher))
            parts.append((score * bin_divergence(own, other, self.temperature)).sum())
        return torch.stack(parts).sum()


def _levels(outputs: Outputs) -> list[str]:
    """Names of the maps of scores, in the order of the outputs."""
    return [name for name in outputs.features if name.startswith("box_bins.")]


def _rows(raw: Tensor, chosen: Tensor, bins: int) -> Tensor:
    """The scores (N, D, bins) of the anchors chosen by a mask (B, H, W, A), from a map (B, A·D·bins, H, W)."""
    split: Tensor = raw.unflatten(1, (chosen.shape[3], -1, bins))  # type: ignore[no-untyped-call]
    return split.permute(0, 4, 5, 1, 2, 3)[chosen]
