"""LoveDA: land cover of urban and rural scenes, a class a pixel.

Mask files hold 0 for no data and 1 to 7 for the classes; classes count from 0 here, as in the authors' training code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.catalogue.loveda import LOVEDA_CLASSES
from fledge.data.datasets.draft import first_few
from fledge.data.datasets.folders import image_files
from fledge.data.image_header import read_header
from fledge.data.scenes.segmentation_dataset import NO_DATA, UNKNOWN, SegmentationDataset
from fledge.errors import DataError, UsageError

TREE = """\
LoveDA:         ROOT/{Train,Val}/{Urban,Rural}/images_png/0.png
                ROOT/{Train,Val}/{Urban,Rural}/masks_png/0.png
                ROOT/Test/{Urban,Rural}/images_png/0.png        the masks of Test are not public"""
DOMAINS = ("Urban", "Rural")
_SPLITS = {"train": "Train", "val": "Val", "test": "Test"}


def loveda_splits(root: Path) -> tuple[str, ...]:
    """The splits found under a root, of train, val and test."""
    return tuple(
        split
        for split, folder in _SPLITS.items()
        if any((root / folder / domain / "images_png").is_dir() for domain in DOMAINS)
    )


def open_loveda(root: Path, split: str, domains: Sequence[str] = DOMAINS) -> SegmentationDataset:
    """One split: train, val or test, of both domains or of one (as for domain adaptation).

    Raises:
        UsageError: an unknown domain.
        DataError: the folders are not there or hold no images (the expected tree is shown), images lack masks or masks
            images, or a mask has not its image's size.
    """
    for domain in domains:
        if domain not in DOMAINS:
            raise UsageError(f"no domain {domain!r}: LoveDA: choose from {', '.join(DOMAINS)}")
    folders = [root / _SPLITS.get(split, split) / domain for domain in domains]
    missing = [folder for folder in folders if not (folder / "images_png").is_dir()]
    if missing or split not in _SPLITS:
        where = missing[0] / "images_png" if missing else root
        raise DataError(f"no LoveDA split {split!r}: {where}: make it look like this:\n{TREE}")
    images = {folder: image_files(folder / "images_png") for folder in folders}
    for folder, found in images.items():
        if not found:
            raise DataError(f"no images: {folder / 'images_png'}: put the split's images there:\n{TREE}")
    masked = split != "test" or any((folder / "masks_png").is_dir() for folder in folders)
    masks = [mask for folder, found in images.items() for mask in _masks(folder, found)] if masked else []
    paths = [path for found in images.values() for path in found]
    return SegmentationDataset(
        root=root,
        split=split,
        classes=LOVEDA_CLASSES,
        names=tuple(path.relative_to(root).as_posix() for path in paths),
        masks=tuple(path.relative_to(root).as_posix() for path in masks),
        domains=tuple(folder.name for folder, found in images.items() for _ in found),
        lookup=_lookup(),
        format="loveda",
    )


def _lookup() -> NDArray[np.uint8]:
    values = np.full(256, UNKNOWN, dtype=np.uint8)
    values[0] = NO_DATA
    values[1 : 1 + len(LOVEDA_CLASSES)] = np.arange(len(LOVEDA_CLASSES))
    return values


def _masks(folder: Path, images: Sequence[Path]) -> list[Path]:
    """The mask of each image, of the same name."""
    found = {path.stem: path for path in image_files(folder / "masks_png")}
    without = [path.name for path in images if path.stem not in found]
    if without:
        raise DataError(
            f"{len(without)} images have no mask: {folder / 'masks_png'}: {first_few(without)}: add their masks"
        )
    orphans = sorted(found.keys() - {path.stem for path in images})
    if orphans:
        raise DataError(
            f"{len(orphans)} masks have no image: {folder / 'masks_png'}: {first_few(orphans)}: add the images"
        )
    for path in images:
        image, mask = read_header(path), read_header(found[path.stem])
        if (image.height, image.width) != (mask.height, mask.width):
            sizes = f"{mask.width}x{mask.height} pixels, {path.name} has {image.width}x{image.height}"
            raise DataError(f"sizes differ: {found[path.stem]}: it has {sizes}: restore the mask of this image")
    return [found[path.stem] for path in images]
