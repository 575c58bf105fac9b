"""The square frame that SAM sees an image in, and the way back from it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.models.sam.prompt_encoder import CELLS, SIDE

MEAN = (123.675, 116.28, 103.53)  # of red, green and blue, 0…255
STD = (58.395, 57.12, 57.375)
CELL = SIDE // CELLS  # pixels of the frame along the side of a cell of the embedding


def scaled_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in the frame: the long side becomes 1024, halves are rounded up, no side vanishes."""
    factor = SIDE / max(height, width)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def valid_cells(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the embedding that an image of this size reaches into; the rest is padding."""
    rows, columns = (-(-side // CELL) for side in scaled_size(height, width))
    return rows, columns


def to_frame(image: Tensor) -> Tensor:
    """One image as the encoder takes it: scaled, normalised, and then padded with zeros on the right and bottom.

    Args:
        image: (3, h, w) uint8, RGB.

    Returns:
        (3, 1024, 1024) float32. Scaling is bilinear with antialias and in whole grey levels, as Pillow's, from which
        it differs by one level at most: Pillow rounds after each axis.
    """
    values = image.float()
    size = scaled_size(*image.shape[1:])
    if size != tuple(image.shape[1:]):
        scaled = F.interpolate(values[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
        values = scaled.round().clamp(0, 255)
    mean, std = (values.new_tensor(v)[:, None, None] for v in (MEAN, STD))
    return F.pad((values - mean) / std, (0, SIDE - size[1], 0, SIDE - size[0]))


def prompts_to_frame(points: Tensor, height: int, width: int) -> Tensor:
    """Places (…, 2) as (x, y) in pixels of an image to pixels of the frame, each axis by its own factor."""
    rows, columns = scaled_size(height, width)
    return points.float() * torch.tensor([columns / width, rows / height], device=points.device)


def masks_to_image(logits: Tensor, height: int, width: int) -> Tensor:
    """Mask logits (P, M, 256, 256) of the frame to (P, M, h, w) of the image; positive is object.

    Bilinear to the frame, without the padding, bilinear to the image: 4·P·M·(1024² + h·w) bytes, so few prompts at a
    time.
    """
    rows, columns = scaled_size(height, width)
    framed = F.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=False)[..., :rows, :columns]
    return F.interpolate(framed, (height, width), mode="bilinear", align_corners=False)
