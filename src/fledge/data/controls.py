"""Datasets that are wrong on purpose: controls of studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fledge.data.labels import DetectionDataset, minimum_boxes
from fledge.errors import DataError


def with_shuffled_labels(dataset: DetectionDataset, seed: int) -> DetectionDataset:
    """The dataset with the objects of another image in each image, stretched to its size: a control that keeps where
    objects tend to be, how large and how many, and nothing of what they look like.

    Args:
        dataset: at least two images.
        seed: of the one cycle, through all images, along which objects are passed on.

    Raises:
        DataError: there is only one image.
    """
    n = len(dataset)
    if n < 2:
        raise DataError(f"{n} images: {dataset.root}: labels are shuffled between images: give at least two")
    cycle = np.random.default_rng(seed).permutation(n)
    source = np.empty(n, dtype=np.int64)
    source[cycle] = np.roll(cycle, 1)
    given = dataset.subset(source.tolist())
    stretch = (dataset.sizes / given.sizes)[:, ::-1]  # of x and y
    quads = given.quads * np.repeat(stretch, np.diff(given.offsets), axis=0)[:, None]
    return replace(
        dataset,
        quads=quads.astype(np.float32),
        boxes=minimum_boxes(quads),
        labels=given.labels,
        difficult=given.difficult,
        ignore=given.ignore,
        offsets=given.offsets,
    )
