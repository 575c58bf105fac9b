"""Max-IoU assignment: an anchor learns the object it overlaps most. Lin et al., RetinaNet, ICCV 2017."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fledge.geometry.iou import rotated_iou, rotated_iou_pairs
from fledge.types import Targets

BACKGROUND = -1
IGNORED = -2


@dataclass(frozen=True)
class Assignment:
    """Who learns what, for a whole batch.

    Attributes:
        labels: (B, A) int64; a class index for positives, ``BACKGROUND`` or ``IGNORED`` otherwise.
        positive: (B, A) bool, ``labels >= 0``.
        valid: (B, A) bool, ``labels != IGNORED``.
        boxes: (P, 5) the object of each positive, in the order of ``positive.nonzero()``.
    """

    labels: Tensor
    positive: Tensor
    valid: Tensor
    boxes: Tensor

    @property
    def positives(self) -> int:
        """Number of positive anchors in the batch."""
        return self.boxes.shape[0]


class MaxIoUAssigner:
    """Assigns anchors by rotated IoU.

    An anchor is positive where its best IoU is at least ``positive_iou``, background where it is below
    ``negative_iou``, ignored between. Every object also gets the anchors it overlaps most (all ties), however little,
    so that no object goes unlearnt. An anchor that lies at least half inside an *ignored* object, and is not positive,
    is ignored as well.

    Differs from MMRotate: an object that no anchor touches stays unassigned instead of taking an arbitrary anchor.
    """

    def __init__(self, positive_iou: float = 0.5, negative_iou: float = 0.4) -> None:
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou

    @torch.no_grad()
    def __call__(self, anchors: Tensor, targets: Sequence[Targets]) -> Assignment:
        """Assign ``anchors`` (A, 5) to the objects of each image, in pixels of one frame.

        All images are handled at once: their N objects in one list, the anchors of image b at b·A … b·A + A - 1.
        """
        boxes = torch.cat([t.boxes for t in targets]).to(anchors.dtype)
        classes = torch.cat([t.labels for t in targets])
        ignore = torch.cat([t.ignore for t in targets])
        counts = torch.tensor([len(t) for t in targets], device=anchors.device)
        image = torch.repeat_interleave(torch.arange(len(targets), device=anchors.device), counts)

        total = len(targets) * anchors.shape[0]
        labels = torch.full((total,), BACKGROUND, dtype=torch.int64, device=anchors.device)
        match = torch.full_like(labels, len(boxes))
        if ignore.any():
            a, g = (rotated_iou(anchors, boxes[ignore], mode="iof") >= 0.5).nonzero(as_tuple=True)
            labels[image[ignore][g] * anchors.shape[0] + a] = IGNORED

        a, g, iou = self._pairs(anchors, boxes, (~ignore).nonzero()[:, 0])
        a = image[g] * anchors.shape[0] + a
        best = torch.zeros(total, dtype=iou.dtype, device=iou.device).scatter_reduce(0, a, iou, "amax")
        labels[(best >= self.negative_iou) & (best < self.positive_iou)] = IGNORED
        best_of_object = torch.zeros(len(boxes), dtype=iou.dtype, device=iou.device).scatter_reduce(0, g, iou, "amax")
        for claim in ((iou == best[a]) & (iou >= self.positive_iou), iou == best_of_object[g]):
            # Where several objects claim one anchor, the one with the lowest index gets it.
            match[a[claim]] = len(boxes)
            match = match.scatter_reduce(0, a[claim], g[claim], "amin")
        chosen = match < len(boxes)
        labels[chosen] = classes[match[chosen]]
        labels = labels.view(len(targets), -1)
        return Assignment(labels, labels >= 0, labels != IGNORED, boxes[match[chosen]])

    def _pairs(self, anchors: Tensor, boxes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Overlaps (anchor, object, IoU) of the objects ``rows``; those below ``negative_iou`` only where they matter.

        Such a low overlap can decide only for an object that has no higher one, so the others' are not computed.
        """
        least = self.negative_iou * (1 - 1e-6)
        a, g, iou = rotated_iou_pairs(anchors, boxes[rows], least)
        poor = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        poor[g] = False
        left = rows[poor]
        b, h, low = rotated_iou_pairs(anchors, boxes[left])
        return torch.cat([a, b]), torch.cat([rows[g], left[h]]), torch.cat([iou, low])
