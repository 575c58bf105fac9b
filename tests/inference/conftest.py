from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fledge.data.raster import COLOUR, PixelRule
from fledge.inference.model import TorchModel
from fledge.inference.predictor import Predictor
from fledge.types import Batch, Detections, Frame, Outputs

Image = NDArray[np.uint8]
COLOURS = ((255, 0, 0), (0, 255, 0))


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


@pytest.fixture
def finder() -> Callable[..., Predictor]:
    """A predictor over ``SquareFinder``: 96-pixel windows that overlap by 40, unless told otherwise."""

    def make(
        image_size: int = 96,
        overlap: int = 40,
        fit: bool = False,
        pixel_scale: float = 1.0,
        batch_size: int = 4,
        tolerance: int = 0,
        pixels: PixelRule = COLOUR,
    ) -> Predictor:
        device = torch.device("cpu")
        detector = SquareFinder(tolerance)
        model = TorchModel(detector, image_size, overlap, fit, pixel_scale, 0.1, device, pixels)
        return Predictor(model, batch_size)

    return make
