"""The index of one split of a segmentation dataset: a mask an image, whose values stand for classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import Summary
from fledge.data.raster import COLOUR, PixelRule, read_image
from fledge.data.samples import read_stored
from fledge.errors import DataError

# The class of pixels that are not to be learnt or scored.
NO_DATA = 255
UNKNOWN = 254


@dataclass(frozen=True, eq=False)
class SegmentationDataset:
    """n images of K classes.

    Attributes:
        root: the dataset's folder.
        split: the split's name.
        classes: the K class names.
        names: n image files, as paths below ``root`` with slashes.
        masks: their mask files, likewise; empty for a split whose masks are not public.
        domains: what kind of scene each image is, such as Urban or Rural.
        lookup: (256,) uint8, from values of the mask files to classes 0…K-1, ``NO_DATA``, or ``UNKNOWN`` for values
            that must not occur.
        format: the key of the format, as in the catalogue.
        notes: what was odd on reading.
        pixels: how ``read`` turns stored samples into bytes; C channels.
    """

    root: Path
    split: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    masks: tuple[str, ...]
    domains: tuple[str, ...]
    lookup: NDArray[np.uint8]
    format: str
    notes: tuple[str, ...] = ()
    pixels: PixelRule = COLOUR

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """The file of image i."""
        return self.root / self.names[i]

    def read(self, i: int) -> NDArray[np.uint8]:
        """Image i as (H, W, C) uint8: RGB, or what ``pixels`` asks for.

        Raises:
            DataError: the file cannot be read.
        """
        return read_image(self.path(i), self.pixels)

    def summary(self) -> Summary:
        """The number of images; what their masks hold takes reading them."""
        return Summary(len(self), 0, {}, 0, 0)

    def mask(self, i: int) -> NDArray[np.uint8]:
        """The classes of image i, (H, W) uint8 in 0…K-1, and ``NO_DATA``.

        Raises:
            DataError: there is no mask, it cannot be read, has several bands or a value that stands for no class.
        """
        if not self.masks:
            raise DataError(f"no masks: {self.root}: those of the split {self.split} are not there: use another split")
        path = self.root / self.masks[i]
        samples = read_stored(path).samples
        if samples.dtype != np.uint8 or samples.shape[2] != 1:
            what = f"{samples.shape[2]} bands of {samples.dtype}"
            raise DataError(f"not a mask: {path}: it has {what}: masks have one band of 8 bits")
        classes = self.lookup[samples[..., 0]]
        if (classes == UNKNOWN).any():
            value = int(samples[..., 0][classes == UNKNOWN][0])
            allowed = np.flatnonzero(self.lookup != UNKNOWN)
            raise DataError(
                f"value {value} in a mask: {path}: values are {allowed.min()} to {allowed.max()}: "
                "restore it from an intact copy"
            )
        return classes
