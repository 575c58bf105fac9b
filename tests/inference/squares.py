"""A detector whose answers are known: it finds pure red and pure green patches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fledge.data.raster import COLOUR, PixelRule
from fledge.inference.model import TorchModel
from fledge.types import Batch, Detections, Frame, Outputs

Image = NDArray[np.uint8]
COLOURS = ((255, 0, 0), (0, 255, 0))
RED, GREEN = COLOURS
Patch = tuple[int, int, int, int, tuple[int, int, int]]


class SquareFinder(nn.Module):
    """Finds connected patches of pure red and pure green; patches cut by the border of what it sees are missed.

    The score falls with the distance from the middle of the window, as a real detector's does.
    """

    classes = ("red", "green")

    def __init__(self, tolerance: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.tolerance = tolerance
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, targets: Any = None) -> Outputs:
        assert images.dtype == torch.uint8
        assert images.shape[2] % 32 == images.shape[3] % 32 == 0
        assert not self.training
        self.batches.append(tuple(images.shape))
        return Outputs((images,), (), {})

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def decode(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        pixels = outputs.logits[0].permute(0, 2, 3, 1).numpy()
        return [self._find(image, *size) for image, size in zip(pixels, sizes.tolist(), strict=True)]

    def _find(self, image: Image, height: int, width: int) -> Detections:
        rows: list[tuple[list[float], float, int]] = []
        for label, colour in enumerate(COLOURS):
            seen = image[:height, :width].astype(np.int16)
            far = np.abs(seen - np.resize(colour, seen.shape[2])).max(axis=2)
            _, _, stats, _ = cv2.connectedComponentsWithStats((far <= self.tolerance).astype(np.uint8))
            for x, y, w, h, _ in stats[1:].tolist():
                if x == 0 or y == 0 or x + w == width or y + h == height:
                    continue
                cx, cy = x + w / 2, y + h / 2
                score = 1 - (abs(cx - width / 2) / width + abs(cy - height / 2) / height) / 2
                rows.append(([cx, cy, max(w, h), min(w, h), 0.0 if w >= h else -np.pi / 2], score, label))
        rows.sort(key=lambda row: -row[1])
        return Detections(
            torch.tensor([r[0] for r in rows], dtype=torch.float32).reshape(-1, 5),
            torch.tensor([r[1] for r in rows], dtype=torch.float32),
            torch.tensor([r[2] for r in rows], dtype=torch.int64),
            self.classes,
            Frame(size=(height, width)),
        )


def square_model(
    image_size: int = 96,
    overlap: int = 40,
    fit: bool = False,
    pixel_scale: float = 1.0,
    tolerance: int = 0,
    pixels: PixelRule = COLOUR,
    short_side: int = 0,
) -> TorchModel:
    """``SquareFinder`` on 96-pixel windows that overlap by 40, unless told otherwise."""
    device = torch.device("cpu")
    return TorchModel(SquareFinder(tolerance), image_size, overlap, fit, pixel_scale, 0.1, device, pixels, short_side)


def painted(height: int, width: int, patches: list[Patch]) -> Image:
    """A grey image (H, W, 3) with patches (x, y, w, h, colour)."""
    image = np.full((height, width, 3), 60, dtype=np.uint8)
    for x, y, w, h, colour in patches:
        image[y : y + h, x : x + w] = colour
    return image


def truth(patches: list[Patch]) -> list[tuple[float, ...]]:
    """(label, cx, cy, w, h, angle) of patches, sorted."""
    angle = float(np.float32(-np.pi / 2))
    return sorted(
        (int(c == GREEN), x + w / 2, y + h / 2, max(w, h), min(w, h), 0.0 if w >= h else angle)
        for x, y, w, h, c in patches
    )
