"""Faster R-CNN for horizontal boxes, on a feature pyramid.

Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015, arXiv
1506.01497; Lin et al., "Feature Pyramid Networks", CVPR 2017, arXiv 1612.03144. The layout (three anchors a cell on P2
to P6, RoIAlign of 7×7 cells on P2 to P5, two hidden layers, boxes for each class, L1 on the deltas) and the sampling
(256 anchors and 512 regions an image) are those IFKD distils, known from MMDetection.

Differs from MMDetection: an object always gets the anchors that it overlaps most, where MMDetection wants an IoU of
0.3 of them; boxes are not clipped to the image at the end, since an object that a window cuts is learnt at its full
extent; what is drawn at random is a function of the targets' ``draw``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.assign.max_iou import Assignment, MaxIoUAssigner
from fledge.assign.sampling import balanced_sample, match_regions
from fledge.distributed import mean_over_processes
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.upright import as_le90, decode_upright, encode_upright, extents, from_extents, upright_hulls
from fledge.losses.smooth_l1 import l1_loss
from fledge.models.detectors.dense import MEAN, STD, DenseDetector, check_targets
from fledge.models.detectors.retinanet import DeltaLoss
from fledge.models.regions import pool_regions, propose
from fledge.types import Batch, Outputs, Regions, Targets, at_least_float32, flatten_levels

STRIDES = (4, 8, 16, 32, 64)
"""Pixels a cell of P2 to P6."""

_POOLED = ("p2", "p3", "p4", "p5")
_PROPOSAL_IOU = 0.7
_MOST = 1 << 40  # regions of a batch
_ANCHOR_SHARE, _REGION_SHARE = 0.5, 0.25  # of positives among what is sampled, at most
# The second stage's deltas are learnt in units of these, in which they are about as large as its class scores.
_UNITS = (0.1, 0.1, 0.2, 0.2)


class FasterRCNN(DenseDetector):
    """Two-stage horizontal detector; oriented objects are learnt as their hulls.

    ``Outputs.logits`` and ``codes`` are those of the region proposal network, and so is the assignment, whose label is
    0. ``Outputs.regions`` holds the second stage: every proposal, or with targets the regions drawn to learn from.

    Args:
        backbone: returns ``{"c2", "c3", "c4", "c5"}``.
        neck: turns them into ``{"p2", …, "p6"}``.
        head: the region proposal network: turns the levels into objectness and codes of four numbers.
        region_head: turns pooled regions (R, C, 7, 7) into logits (R, K + 1) and codes (R, K, 4).
        anchors: the grid of anchors.
        assigner: decides which anchor learns which object.
        classes: the K class names.
        delta_loss: predicted and encoded deltas (P, 4) to (P,) losses.
        box_weight: weight of the box losses of both stages.
        proposals: regions of an image that the second stage looks at.
        anchor_samples, region_samples: anchors and regions of an image that are learnt from.
        score_threshold, nms_iou, max_detections: what ``decode`` keeps.
        mean, std: pixel statistics of the C channels, on the scale 0…255.
    """

    horizontal: ClassVar[bool] = True
    class_layers: ClassVar[tuple[str, ...]] = ("region_head.cls_out.", "region_head.box_out.")

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        region_head: nn.Module,
        anchors: AnchorGrid,
        assigner: MaxIoUAssigner,
        classes: Sequence[str],
        delta_loss: DeltaLoss = l1_loss,
        box_weight: float = 1.0,
        proposals: int = 1000,
        anchor_samples: int = 256,
        region_samples: int = 512,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        max_detections: int = 2000,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        keeps = (score_threshold, nms_iou, max_detections)
        super().__init__(backbone, neck, head, anchors, assigner, classes, box_weight, *keeps, mean, std)
        self.region_head, self.delta_loss = region_head, delta_loss
        self.proposals, self.anchor_samples, self.region_samples = proposals, anchor_samples, region_samples

    def learnt(self, targets: Targets) -> Targets:
        """The horizontal hulls of the objects, of one class: any."""
        return replace(targets, boxes=upright_hulls(targets.boxes), labels=torch.zeros_like(targets.labels))

    def forward(self, images: Tensor, targets: Sequence[Targets] | None = None) -> Outputs:
        """uint8 or float images (B, C, H, W) in 0…255 to the outputs of both stages.

        Args:
            images: the batch.
            targets: of each image, to draw the regions from that are learnt from: among the proposals and the objects
                themselves; without them, every proposal is looked at.

        Raises:
            DataError: a target has no area or no class.
        """
        outputs = self.dense(images)
        height, width = images.shape[-2:]
        # Twice as many before suppression where there is much to learn from.
        before = self.proposals if targets is None else 2 * self.proposals
        corners, real = propose(outputs, self.grids(outputs), (height, width), before, self.proposals, _PROPOSAL_IOU)
        if targets is None:
            image, place = real.nonzero(as_tuple=True)
            # For a graph of any size: without a bound, that of the class scores would exceed 64 bits.
            torch._check(image.shape[0] <= _MOST)
            return replace(outputs, regions=self._look(outputs, corners[image, place], image))
        check_targets(targets, len(self.classes))
        drawn = [self._drawn(c[r], t) for c, r, t in zip(corners, real, targets, strict=True)]
        chosen, labels, objects = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        counts = torch.tensor([len(part[0]) for part in drawn], device=images.device)
        image = torch.repeat_interleave(torch.arange(len(drawn), device=images.device), counts)
        return replace(outputs, regions=replace(self._look(outputs, chosen, image), labels=labels, objects=objects))

    def _look(self, outputs: Outputs, corners: Tensor, image: Tensor) -> Regions:
        """The second stage."""
        maps = [outputs.features[name] for name in _POOLED]
        logits, codes = self.region_head(pool_regions(maps, STRIDES[:4], corners, image))
        return Regions(corners, image, logits, codes)

    @torch.no_grad()
    def _drawn(self, corners: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Regions of one image to learn from: extents (S, 4), labels (S,) and objects (S, 4)."""
        hulls = replace(targets, boxes=upright_hulls(targets.boxes).to(corners.dtype))
        corners = torch.cat([corners, extents(hulls.boxes[~hulls.ignore])])
        labels, row = match_regions(corners, hulls)
        chosen = balanced_sample(labels, self.region_samples, _REGION_SHARE, 2 * targets.draw + 1)
        labels, row = labels[chosen], row[chosen]
        objects = hulls.boxes[row, :4] if len(hulls) else corners.new_zeros(len(chosen), 4)
        return corners[chosen], torch.where(labels >= 0, labels, len(self.classes)), objects

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy and box loss of both stages, each divided by what its stage learns from.

        Raises:
            ValueError: ``forward`` was not given the targets.
        """
        regions = outputs.regions
        if regions is None or regions.labels is None or regions.objects is None:
            raise ValueError("no regions to learn from: Faster R-CNN: call forward with the targets")
        return {**self._first(outputs, batch), **self._second(regions, regions.labels, regions.objects)}

    def _first(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        assignment = self.assign(outputs, batch)
        image, anchor = self._sampled(assignment, batch)
        positive = assignment.positive[image, anchor]
        logits = at_least_float32(flatten_levels(outputs.logits)[image, anchor, 0])
        cls = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="sum")
        # The assignment lists the objects of all positives: the place of those sampled among them.
        place = assignment.positive.flatten().cumsum(0).view_as(assignment.positive) - 1
        image, anchor = image[positive], anchor[positive]
        codes = at_least_float32(flatten_levels(outputs.codes)[image, anchor])
        box = self.box_terms(codes, self.anchor_boxes(outputs)[anchor], assignment.boxes[place[image, anchor]])
        count = _share(len(positive), cls.device)
        return {"rpn_cls": cls / count, "rpn_box": self.box_weight * box.sum() / count}

    def _sampled(self, assignment: Assignment, batch: Batch) -> tuple[Tensor, Tensor]:
        """Image (S,) and anchor (S,) of the anchors to learn from."""
        rows = [
            balanced_sample(labels, self.anchor_samples, _ANCHOR_SHARE, 2 * target.draw)
            for labels, target in zip(assignment.labels, batch.targets, strict=True)
        ]
        return torch.cat([torch.full_like(row, i) for i, row in enumerate(rows)]), torch.cat(rows)

    def _second(self, regions: Regions, labels: Tensor, objects: Tensor) -> dict[str, Tensor]:
        cls = F.cross_entropy(at_least_float32(regions.logits), labels, reduction="sum")
        rows = (labels < len(self.classes)).nonzero()[:, 0]
        codes = at_least_float32(regions.codes[rows, labels[rows]])
        wanted = encode_upright(from_extents(regions.corners[rows]), objects[rows])
        count = _share(len(labels), cls.device)
        box = self.delta_loss(codes, wanted.to(codes.dtype) / codes.new_tensor(_UNITS)).sum()
        return {"cls": cls / count, "box": self.box_weight * box / count}

    def box_terms(self, codes: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Of the first stage; see ``DenseDetector``."""
        return self.delta_loss(codes, encode_upright(anchors, boxes))

    def boxes_at(self, anchors: Tensor, codes: Tensor) -> Tensor:
        """Of the first stage; see ``DenseDetector``."""
        return as_le90(decode_upright(anchors, codes))

    def candidates(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``DenseDetector``; in the order of image, region and label."""
        regions = outputs.regions
        if regions is None:
            raise ValueError("no regions: Faster R-CNN: give what forward returned")
        scores = regions.logits.float().softmax(dim=1)[:, :-1]
        row, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        codes = regions.codes[row, label].float()
        codes = codes * codes.new_tensor(_UNITS)
        boxes = decode_upright(from_extents(regions.corners[row].float()), codes)
        return as_le90(boxes), scores[row, label], regions.image[row], label


def _share(count: int, device: torch.device) -> Tensor:
    """What the sum over the samples of a batch is divided by: their mean number over the processes, at least 1."""
    return mean_over_processes(torch.tensor(float(count), device=device)).clamp(min=1)
