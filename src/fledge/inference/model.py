"""What windows are shown to: a detector behind one verb, whatever computes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.raster import COLOUR, PixelRule
from fledge.data.transforms import pad_colour
from fledge.types import Detections, Detector

Image = NDArray[np.uint8]

# Sides of what a detector sees are multiples of it: five halvings.
STRIDE = 32


class WindowModel(Protocol):
    """A trained detector as the predictor and scenes use it: a PyTorch module, or an exported file.

    Attributes:
        classes: the K class names.
        image_size: side of a window, pixels of the network's input.
        overlap: of neighbouring windows, in the same pixels; should exceed the largest object.
        fit: trained on whole images shrunk to ``image_size``; images up to one and a half times as large as those of
            the training set are then shrunk to one window.
        short_side: with ``fit``, the short side of an image is shrunk to at most as many pixels; 0: to any number.
        pixel_scale: network pixels for each image pixel in training.
        nms_iou: overlap above which two boxes of one class are one object.
        pixels: how files are read, as in training; C channels.
        fingerprint: 64 hexadecimal digits that differ between models that may find different boxes.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def overlap(self) -> int: ...  # noqa: D102
    @property
    def fit(self) -> bool: ...  # noqa: D102
    @property
    def short_side(self) -> int: ...  # noqa: D102
    @property
    def pixel_scale(self) -> float: ...  # noqa: D102
    @property
    def nms_iou(self) -> float: ...  # noqa: D102
    @property
    def pixels(self) -> PixelRule: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def run(self, images: Image, sizes: NDArray[np.int64]) -> list[Detections]:
        """Find the objects in B windows.

        Args:
            images: (B, H, W, C) uint8, H and W multiples of 32 up to the first one above ``image_size``, padded on the
                right and bottom; a model for one size only pads further by itself.
            sizes: (B, 2) int64, true (height, width) of each.

        Returns:
            B detections on the CPU, in pixels of each window, after the model's own suppression; none centred in the
            padding.

        Raises:
            NumericError: an output is not finite.
            MemoryError: there is too little memory for B windows; fewer may fit.
        """


class TorchModel:
    """A PyTorch detector as a ``WindowModel``.

    Args:
        detector: trained; moved to ``device`` and put in eval mode.
        image_size, overlap, fit, pixel_scale, nms_iou, pixels, short_side: see ``WindowModel``.
        device: where to compute.
    """

    def __init__(
        self,
        detector: Detector,
        image_size: int,
        overlap: int,
        fit: bool,
        pixel_scale: float,
        nms_iou: float,
        device: torch.device,
        pixels: PixelRule = COLOUR,
        short_side: int = 0,
    ) -> None:
        self.detector = detector
        self.image_size, self.overlap = image_size, overlap
        self.fit, self.short_side, self.pixel_scale = fit, short_side, pixel_scale
        self.nms_iou, self.device, self.pixels = nms_iou, device, pixels
        self.module: torch.nn.Module = detector.to(device).eval()  # type: ignore[attr-defined]

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names."""
        return self.detector.classes

    @property
    def fingerprint(self) -> str:
        """Of the weights, their names and the class names."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for name, value in self.module.state_dict().items():
            digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def run(self, images: Image, sizes: NDArray[np.int64]) -> list[Detections]:
        """See ``WindowModel``."""
        try:
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self.device)
            outputs = self.detector(batch)
            found = self.detector.decode(outputs, torch.from_numpy(sizes).to(self.device))
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error).splitlines()[0]) from error
        except RuntimeError as error:
            if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
                raise
            raise MemoryError(str(error).splitlines()[0]) from error  # what PyTorch's CPU allocator says
        return [d.to("cpu") for d in found]


def stack(windows: Sequence[Image], channels: int) -> tuple[Image, NDArray[np.int64]]:
    """Windows (h, w, C) of any sizes as one padded (B, H, W, C) batch for ``run``, and their (B, 2) sizes."""
    sizes = np.array([w.shape[:2] for w in windows], dtype=np.int64).reshape(-1, 2)
    height, width = (int(-(-side // STRIDE) * STRIDE) for side in sizes.max(axis=0))
    images = np.empty((len(windows), height, width, channels), dtype=np.uint8)
    grey = pad_colour(channels)
    for row, window, (h, w) in zip(images, windows, sizes.tolist(), strict=True):
        row[:h, :w] = window
        row[h:], row[:h, w:] = grey, grey
    return images, sizes
