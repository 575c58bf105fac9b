"""Max-IoU assignment: an anchor learns the object it overlaps most. Lin et al., RetinaNet, ICCV 2017."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fledge.assign.overlaps import Overlaps
from fledge.types import Targets

BACKGROUND = -1
IGNORED = -2
_BELOW = 1 - 1e-6  # looks below a threshold, so that what rounds to it is found


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

    The objects are handled a few at a time: beside the result, which has one number per anchor, the memory depends
    neither on their number nor on how many anchors they overlap.

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

        labels = torch.full((len(targets) * len(anchors),), BACKGROUND, dtype=torch.int64, device=anchors.device)
        overlaps = Overlaps(anchors)
        hidden, real = ignore.nonzero()[:, 0], (~ignore).nonzero()[:, 0]
        for a, g, iof in overlaps.above(boxes[hidden], 0.5 * _BELOW, "iof"):
            labels[(image[hidden[g]] * len(anchors) + a)[iof >= 0.5]] = IGNORED
        claims = self._claims(overlaps, boxes, real, image * len(anchors), len(labels))
        labels[(claims.best >= self.negative_iou) & (claims.best < self.positive_iou)] = IGNORED
        chosen = claims.objects < len(boxes)
        labels[chosen] = classes[claims.objects[chosen]]
        found = boxes[claims.objects[chosen]]
        labels = labels.view(len(targets), -1)
        return Assignment(labels, labels >= 0, labels != IGNORED, found)

    def _claims(self, overlaps: Overlaps, boxes: Tensor, real: Tensor, offset: Tensor, total: int) -> _Claims:
        """What the objects ``real`` claim of all ``total`` anchors, those of an object's image beginning at ``offset``.

        An IoU below ``negative_iou`` can decide only for an object that has no higher one, so the others' are not
        computed.
        """
        claims = _Claims(total, boxes)
        poor = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        for a, g, iou in overlaps.above(boxes[real], self.negative_iou * _BELOW):
            poor[real[g]] = False
            claims.overlap(offset[real[g]] + a, real[g], iou, self.positive_iou)
            claims.favourite(offset[real[g]] + a, real[g], iou)
        rest = real[poor[real]]
        for a, g, iou in overlaps.best(boxes[rest]):
            claims.favourite(offset[rest[g]] + a, rest[g], iou)
        return claims


class _Claims:
    """Which object each of some anchors learns, gathered bit by bit. The lowest index among equals gets an anchor.

    Attributes:
        best: (A,) the best IoU of each anchor so far.
    """

    def __init__(self, anchors: int, boxes: Tensor) -> None:
        self.best = torch.zeros(anchors, dtype=boxes.dtype, device=boxes.device)
        self._none = len(boxes)
        self._overlapping = torch.full((anchors,), self._none, dtype=torch.int64, device=boxes.device)
        self._favouring = self._overlapping.clone()

    @property
    def objects(self) -> Tensor:
        """(A,) the object of each anchor, or the number of objects for none."""
        return torch.where(self._favouring < self._none, self._favouring, self._overlapping)

    def overlap(self, a: Tensor, g: Tensor, iou: Tensor, least: float) -> None:
        """Pairs (P,) of anchors and objects: an anchor learns what it overlaps most, if by at least ``least``."""
        before = self.best[a]
        self.best.scatter_reduce_(0, a, iou, "amax")
        now = self.best[a]
        self._overlapping[a[now > before]] = self._none
        claim = (iou == now) & (iou >= least)
        self._overlapping.scatter_reduce_(0, a[claim], g[claim], "amin")

    def favourite(self, a: Tensor, g: Tensor, iou: Tensor) -> None:
        """Pairs (P,), all those of an object at once: it gets the anchors that it overlaps most."""
        _, row = torch.unique_consecutive(g, return_inverse=True)
        best = torch.zeros_like(iou).scatter_reduce(0, row, iou, "amax")
        claim = iou == best[row]
        self._favouring.scatter_reduce_(0, a[claim], g[claim], "amin")
