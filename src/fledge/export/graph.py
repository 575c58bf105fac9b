"""The whole detector as one graph: from bytes to suppressed boxes, in standard operators.

Every step keeps its meaning for any number of images, any image size and any number of boxes, so that one trace holds
for all of them: what depends on the data comes out of ``nonzero``, comparisons and sorting, never out of a Python
number.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.geometry.overlap_export import row_overlap
from fledge.types import Outputs

STRIDE = 32  # sides of what the network sees are multiples of it
_HEAD = 256  # boxes settled first

NAMES = ("boxes", "scores", "labels", "counts")
"""The outputs of the graph, in their order."""


class Exportable(Protocol):
    """What a detector offers beyond its three verbs to be exported."""

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def nms_iou(self) -> float: ...  # noqa: D102
    @property
    def max_detections(self) -> int: ...  # noqa: D102

    def __call__(self, images: Tensor) -> Outputs:
        """Images (B, C, H, W) in 0…255, H and W multiples of 32, to raw outputs."""

    def candidates(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What scores above the detector's threshold: boxes (M, 5), scores (M,), images (M,), labels (M,).

        In the order of the images, and within an image in the order that decides between equal scores.
        """


class DetectorGraph(nn.Module):
    """A detector from bytes to boxes, as it is exported: the network in the dtype of its weights, the rest in float32.

    Args:
        detector: in eval mode.
        padding: (C,) what lies beyond the right and bottom border, in 0…255.
    """

    padding: Tensor

    def __init__(self, detector: Exportable, padding: tuple[int, ...]) -> None:
        super().__init__()
        self.network = detector
        self.register_buffer("padding", torch.tensor(padding, dtype=torch.float32)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find the objects of some images.

        Args:
            images: (B, C, H, W) uint8, H and W of at least 1; padded here to multiples of 32.

        Returns:
            ``boxes`` (B, N, 5) float32 le90 in pixels of the images, ``scores`` (B, N) float32, ``labels`` (B, N)
            int64 and ``counts`` (B,) int64: of image b the first ``counts[b]`` rows are its detections, best first;
            what follows is filling (zeros, label -1). A count of -1: the network's outputs were not finite.
        """
        height, width = images.shape[-2:]
        outputs = self.network(self._padded(images))
        boxes, scores, image, labels = self.network.candidates(outputs)
        chosen, valid = _best(scores, image, images.shape[0], self.network.max_detections)
        boxes, scores, labels = (_filled(x)[chosen] for x in (boxes, scores, labels))
        x, y = boxes[..., 0], boxes[..., 1]
        valid = valid & (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
        # Where none can be left after the first stage, runtimes refuse the second, whose tensors are all empty.
        settle = suppress if self.network.max_detections > _HEAD else _greedy
        kept = settle(boxes, labels, valid, self.network.nms_iou)
        return _packed(boxes, scores, labels, kept, outputs.finite())

    def _padded(self, images: Tensor) -> Tensor:
        """To multiples of 32, with zeros where the padding colour is taken away before and added again after."""
        height, width = images.shape[-2:]
        # Of positive numbers only: a graph's integer division rounds towards zero.
        right, bottom = ((side + STRIDE - 1) // STRIDE * STRIDE - side for side in (width, height))
        return F.pad(images.float() - self.padding, (0, right, 0, bottom)) + self.padding


def suppress(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Greedy suppression within each image: kept unless a kept, better box of the same label overlaps it more.

    The best 256 boxes are settled first. What they suppress is gone before the others are compared among themselves,
    which is then a small part of all pairs.

    Args:
        boxes: (B, N, 5) float32, best first.
        labels: (B, N).
        valid: (B, N) bool; the others are not kept and suppress nothing.
        threshold: intersection over union above which a box goes.

    Returns:
        (B, N) bool.
    """
    head = _greedy(boxes[:, :_HEAD], labels[:, :_HEAD], valid[:, :_HEAD], threshold)
    rest, names, left = boxes[:, _HEAD:], labels[:, _HEAD:], valid[:, _HEAD:]
    best, real = _compact(head)
    chosen, called = _taken(boxes[:, :_HEAD], best), _taken(labels[:, :_HEAD], best)
    image, index, _ = _overlapping(rest, names, chosen, called, left[:, :, None] & real[:, None, :], threshold)
    hits = torch.zeros_like(left, dtype=boxes.dtype).flatten()
    hits = hits.scatter_add(0, image * rest.shape[1] + index, torch.ones_like(index, dtype=boxes.dtype))
    left = left & (hits.view(left.shape) == 0)
    places, real = _compact(left)
    kept = _greedy(_taken(rest, places), _taken(names, places), real, threshold)
    tail = torch.zeros_like(F.pad(left, (0, 1)), dtype=boxes.dtype)
    tail = tail.scatter(1, torch.where(real, places, rest.shape[1]), kept.to(boxes.dtype))[:, :-1] > 0
    return torch.cat([head, tail], dim=1)


def _greedy(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """``suppress``, all boxes at once.

    The greedy choice is the fixed point of "kept unless a kept, better box overlaps it". Each round settles at least
    one more rank of every chain of suppressions, so the loop ends, usually within ten rounds.
    """
    place = torch.arange(boxes.shape[1], device=boxes.device)
    pairs = (place[None, :] < place[:, None]) & valid[:, :, None] & valid[:, None, :]
    image, worse, better = _overlapping(boxes, labels, boxes, labels, pairs, threshold)
    worse, better = image * boxes.shape[1] + worse, image * boxes.shape[1] + better
    allowed = valid.to(boxes.dtype).flatten().clone()

    def unsettled(kept: Tensor, before: Tensor) -> Tensor:
        return (kept != before).any()

    def settle(kept: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        suppressors = torch.zeros_like(kept).scatter_add(0, worse, kept[better])
        return torch.where(suppressors > 0, torch.zeros_like(kept), allowed), kept.clone()

    start = torch.ones_like(allowed)
    kept: Tensor = torch.while_loop(unsettled, settle, (start, start - 1))[0]  # type: ignore[no-untyped-call]
    return kept.view(valid.shape) > 0


def _overlapping(
    boxes1: Tensor, labels1: Tensor, boxes2: Tensor, labels2: Tensor, pairs: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the ``pairs`` (B, N, M) of boxes (B, N, 5), (B, M, 5) have one label and overlap above a threshold.

    Returns:
        image, row and column (P,). Exact overlaps are computed where the circles around two boxes meet.
    """
    (x1, y1, radius1), (x2, y2, radius2) = _circles(boxes1), _circles(boxes2)
    x, y, reach = (a[:, :, None] - b[:, None, :] for a, b in ((x1, x2), (y1, y2), (radius1, -radius2)))
    meet = x * x + y * y < reach * reach
    image, row, column = (meet & (labels1[:, :, None] == labels2[:, None, :]) & pairs).nonzero(as_tuple=True)
    first = boxes1.flatten(0, 1)[image * boxes1.shape[1] + row]
    second = boxes2.flatten(0, 1)[image * boxes2.shape[1] + column]
    hit = (row_overlap(first, second, False) > threshold).nonzero()[:, 0]
    return image[hit], row[hit], column[hit]


def _circles(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centres and radii of the circles around boxes (..., 5)."""
    x, y, w, h = boxes[..., :4].unbind(-1)
    return x, y, (w * w + h * h).sqrt() / 2


def _compact(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (B, M) of the True places of a mask (B, N), in order, and which of them are real; the others hold 0."""
    image, column = chosen.nonzero(as_tuple=True)
    rows, real = _slots(image, chosen.shape[0], 1)
    return _filled(column)[rows], real


def _taken(x: Tensor, columns: Tensor) -> Tensor:
    """(B, M, …) of (B, N, …) at columns (B, M)."""
    start = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return _filled(x.flatten(0, 1))[start + columns]


def _best(scores: Tensor, image: Tensor, images: int, limit: int) -> tuple[Tensor, Tensor]:
    """The best candidates of each image, best first, the earlier one of equal scores: rows (B, N), and which are real.

    N is the largest number of candidates of an image, at least 1 and at most ``limit``.
    """
    rows, real = _slots(image, images, 1)
    # Not asked to be stable, for which the exporter has no word; the runtimes' sorting is (a test looks).
    order = _filled(scores)[rows].where(real, -1.0).sort(dim=1, descending=True).indices[:, :limit]
    return rows.gather(1, order), real.gather(1, order)


def _slots(image: Tensor, images: int, least: int) -> tuple[Tensor, Tensor]:
    """Places (B, N) for rows (M,) sorted by image: the row in each place, and whether there is one.

    N is the largest number of rows of an image, or ``least``. Places without a row hold M, one beyond the last row.
    """
    total = image.shape[0]
    counts = (image == torch.arange(images, device=image.device)[:, None]).sum(dim=1)
    starts = counts.cumsum(0) - counts
    everything = torch.arange(total + 1, device=image.device)
    place = everything[everything < counts.amax(dim=0).clamp(min=least)]
    real = place < counts[:, None]
    return torch.where(real, starts[:, None] + place, total), real


def _filled(x: Tensor) -> Tensor:
    """One more row of zeros, which rows that are not real point to."""
    return F.pad(x, (0,) * (2 * x.ndim - 1) + (1,))


def _packed(
    boxes: Tensor, scores: Tensor, labels: Tensor, kept: Tensor, finite: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The outputs of the graph: kept rows moved to the front, the others cleared, as many as the fullest image has."""
    image, place = kept.nonzero(as_tuple=True)
    rows, real = _slots(image, kept.shape[0], 0)
    boxes, scores, labels = (
        _filled(x.flatten(0, 1)[image * kept.shape[1] + place])[rows] for x in (boxes, scores, labels)
    )
    return boxes, scores, torch.where(real, labels, -1), torch.where(finite, real.sum(dim=1), -1)
