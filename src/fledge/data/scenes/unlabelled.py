"""Images without labels: every image below a folder, such as those of Million-AID's test part.

What lies around them, labels among it, is not read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import Summary
from fledge.data.raster import COLOUR, IMAGE_SUFFIXES, PixelRule, read_image
from fledge.data.scenes.walk import walk
from fledge.data.splits import WHOLE
from fledge.errors import DataError

TREE = """\
Unlabelled:     ROOT/NAME.jpg, in as many folders as there are"""

_LABELS = (".txt", ".xml", ".json", ".geojson", ".gpkg", ".csv", ".yaml", ".yml")


@dataclass(frozen=True)
class UnlabelledImages:
    """n images.

    Attributes:
        root: the folder.
        names: n image files, as paths below ``root`` with slashes; folder by folder, in the order of their characters.
        pixels: how ``read`` turns stored samples into bytes; C channels.
        split, format, classes, notes: as in datasets that have such.
    """

    root: Path
    names: tuple[str, ...]
    pixels: PixelRule = COLOUR
    split: str = WHOLE
    format: str = "unlabelled"
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, i: int) -> Path:
        """The file of image i."""
        return self.root / self.names[i]

    def summary(self) -> Summary:
        """The number of images."""
        return Summary(len(self), 0, {}, 0, 0)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Image i as (H, W, C) uint8: RGB, or what ``pixels`` asks for.

        Raises:
            DataError: the file cannot be read.
        """
        return read_image(self.path(i), self.pixels)


def only_images(root: Path) -> bool:
    """Whether a folder holds images, and nothing below it could be a label."""
    found = False
    for here, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(name.lower().endswith(_LABELS) for name in files):
            return False
        found = found or any(Path(here, name).suffix.lower() in IMAGE_SUFFIXES for name in files)
    return found


def open_unlabelled(root: Path, pixels: PixelRule = COLOUR) -> UnlabelledImages:
    """All images below a folder; no file is opened.

    Raises:
        DataError: no such folder, or no image in it (the expected tree is shown).
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}: make it look like this:\n{TREE}")
    names = tuple(path for folder in walk(root) for path in folder.paths())
    if not names:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"no images: {root}: put {kinds} files there:\n{TREE}")
    return UnlabelledImages(root, names, pixels)
