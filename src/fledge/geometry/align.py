"""RoIAlign for rotated boxes: features of each box on a grid of bins that turns with it.

He et al., "Mask R-CNN", ICCV 2017, https://arxiv.org/abs/1703.06870, section 3, in the frame of a rotated box as in
Ding et al., "Learning RoI Transformer for Oriented Object Detection in Aerial Images", CVPR 2019,
https://arxiv.org/abs/1812.00155. At angle 0 it is ``torchvision.ops.roi_align``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.bilinear import bilinear_taps, weighted_gather


def rotated_roi_align(
    features: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Average the features in every bin of a grid laid over each box.

    A row of bins runs along the box's side w, a column along h; the first bin is at the first of ``corners``. A sample
    up to one cell outside the map reads the border, one further out reads zero, as in torchvision. Differentiable in
    features and boxes; a NaN in a box makes its result NaN. Computed in float32 at least, also under autocast. A fixed
    sampling ratio compiles without a graph break; the adaptive one depends on the boxes and does not.

    Args:
        features: (B, C, H, W); in channels-last memory no copy is made.
        boxes: B tensors (N_i, 5), or one (N, 6) whose first column is the image index, 0 to B − 1; pixels of the
            network input and radians, canonical or not.
        output_size: bins (height, width), or one number for both.
        spatial_scale: cells of the map per pixel, 1 / stride.
        sampling_ratio: samples per bin and axis; 0 for one per cell of the map, rounded up.
        aligned: True puts the centre of cell i at pixel (i + 0.5) / scale. False is torchvision's older form: no half
            cell, and sides of at least one cell, longer ones growing from the box's first corner.

    Returns:
        (N, C, height, width), boxes in the order given, in channels-last memory and the dtype of ``features``.

    Raises:
        UsageError: a shape, size or ratio that does not fit.
    """
    bins = (output_size, output_size) if isinstance(output_size, int) else output_size
    if min(bins) < 1 or sampling_ratio < 0:
        raise UsageError(
            f"rotated_roi_align: output_size {output_size} with sampling_ratio {sampling_ratio}: "
            "give sizes of at least 1 and a ratio of at least 0"
        )
    image, rois = _flat_boxes(features, boxes)
    rois = rois.to(torch.promote_types(rois.dtype, torch.float32))
    regions = _Regions(features, image, rois, bins, spatial_scale, aligned)
    pooled = regions.pool(sampling_ratio, sampling_ratio) if sampling_ratio else regions.pool_adaptive()
    return pooled.view(-1, *bins, features.shape[1]).permute(0, 3, 1, 2).to(features.dtype)


class _Regions:
    """The boxes in cells of the map, and the map as a table of cells."""

    def __init__(
        self, features: Tensor, image: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, aligned: bool
    ) -> None:
        channels, self.height, self.width = features.shape[1:]
        table = features.permute(0, 2, 3, 1).reshape(-1, channels)
        self.table = table.to(torch.promote_types(table.dtype, torch.float32))
        self.first_cell = image.int() * (self.height * self.width)
        self.bins = bins
        centre, sides, angle = rois[:, :2] * scale, rois[:, 2:4] * scale, rois[:, 4]
        self.centre = centre - 0.5 if aligned else centre
        self.start = -sides / 2  # the first corner in the box's frame
        self.sides = sides if aligned else sides.clamp(min=1)
        self.cos, self.sin = angle.cos(), angle.sin()

    def pool(self, down: int, across: int, chosen: Tensor | slice = slice(None)) -> Tensor:
        """Averages (N, bins, C) of ``down`` × ``across`` samples per bin, of the chosen boxes."""
        u = self._along(0, self.bins[1], across, chosen)[:, None, :, None, :]
        v = self._along(1, self.bins[0], down, chosen)[:, :, None, :, None]
        cos, sin = (part[chosen, None, None, None, None] for part in (self.cos, self.sin))
        x0, y0 = self.centre[chosen, :, None, None, None, None].unbind(1)
        x, y = x0 + u * cos - v * sin, y0 + u * sin + v * cos  # (N, bins down, bins across, down, across)
        inside = (x >= -1) & (x <= self.width) & (y >= -1) & (y <= self.height)
        x, y = x.clamp(0, self.width - 1), y.clamp(0, self.height - 1)
        cells, weights = bilinear_taps(x, y, self.width, self.height)
        cells = cells + self.first_cell[chosen, None, None, None, None, None]
        weights = weights * inside[..., None] / (down * across)
        count = x0.shape[0] * self.bins[0] * self.bins[1]
        taps = down * across * 4
        sums = weighted_gather(self.table, cells.view(count, taps), weights.view(count, taps))
        return sums.view(x0.shape[0], self.bins[0] * self.bins[1], self.table.shape[1])

    def pool_adaptive(self) -> Tensor:
        """Averages (N, bins, C) with about one sample a cell; boxes with equal sample grids go together."""
        per_bin = self.sides.detach() / self.sides.new_tensor([self.bins[1], self.bins[0]])
        grids = per_bin.ceil().nan_to_num(nan=1, posinf=1).clamp(min=0).long()
        kinds, kind = torch.unique(grids, dim=0, return_inverse=True)
        pooled = [self.pool(1, 1, kind[:0])]
        for number, (across, down) in enumerate(kinds.tolist()):
            chosen = (kind == number).nonzero()[:, 0]
            empty = pooled[0].new_zeros(len(chosen), *pooled[0].shape[1:])
            pooled.append(self.pool(down, across, chosen) if down * across else empty)
        return torch.cat(pooled)[kind.argsort(stable=True).argsort()]

    def _along(self, axis: int, bins: int, samples: int, chosen: Tensor | slice) -> Tensor:
        """Positions (N, bins, samples) of the samples along one side, from the centre of the box."""
        steps = torch.arange(bins * samples, device=self.sides.device, dtype=self.sides.dtype)
        share = (steps + 0.5) / (bins * samples)
        position = self.start[chosen, axis, None] + self.sides[chosen, axis, None] * share
        return position.view(-1, bins, samples)


def _flat_boxes(features: Tensor, boxes: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Image index (N,) and boxes (N, 5) from either form."""
    if features.ndim != 4:
        raise UsageError(f"rotated_roi_align: features of shape {tuple(features.shape)}: give (B, C, H, W)")
    if isinstance(boxes, Tensor):
        if boxes.ndim != 2 or boxes.shape[1] != 6:
            raise UsageError(
                f"rotated_roi_align: boxes of shape {tuple(boxes.shape)}: give (N, 6) with the image index first, "
                "or a list of (N, 5)"
            )
        return boxes[:, 0], boxes[:, 1:]
    if len(boxes) != features.shape[0] or any(b.ndim != 2 or b.shape[1] != 5 for b in boxes):
        raise UsageError(
            f"rotated_roi_align: boxes of shapes {[tuple(b.shape) for b in boxes]} for {features.shape[0]} images: "
            "give one (N, 5) tensor per image"
        )
    image = [b.new_full((b.shape[0],), i, dtype=torch.int32) for i, b in enumerate(boxes)]
    return torch.cat(image), torch.cat(list(boxes))
