"""The index of one split of a scene classification dataset: a class an image."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import Summary
from fledge.data.raster import COLOUR, PixelRule, read_image
from fledge.errors import UsageError


@dataclass(frozen=True, eq=False)
class SceneDataset:
    """n images, each with one of K classes.

    Attributes:
        root: the dataset's folder.
        split: the split's name; "all" for a dataset that has none of its own.
        classes: the K class names; ``labels`` index them.
        names: n image files, as paths below ``root`` with slashes; the order is that of their characters.
        labels: (n,) int64 in 0…K-1.
        notes: what was odd on reading, one sentence each, to be shown to the user.
        pixels: how ``read`` turns stored samples into bytes; C channels.
        format: the key of the format, as in the catalogue.
    """

    root: Path
    split: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    pixels: PixelRule = COLOUR
    format: str = "folder_per_class"

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
        """Images of each class; an image counts as one object of its class."""
        counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return Summary(len(self), 0, dict(zip(self.classes, counts, strict=True)), 0, 0)

    def subset(self, indices: Sequence[int], split: str | None = None) -> SceneDataset:
        """The images picked, in the given order, under another name if one is given."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        names = tuple(self.names[i] for i in chosen.tolist())
        return replace(self, names=names, labels=self.labels[chosen], split=self.split if split is None else split)

    def divide(self, shares: Mapping[str, float], seed: int) -> dict[str, SceneDataset]:
        """Parts of given shares of every class, at random: for datasets without a split of their own.

        The same seed gives the same parts on every machine and in every copy of the dataset, whatever its suffixes and
        outer folders: images are ordered by a hash of seed, class and name. A part has the share of each class to
        within one image; together, shares of 1 take every image once.

        Args:
            shares: of each part by name, such as ``{"train": 0.2, "test": 0.8}``.
            seed: any whole number from 0; papers repeat with several.

        Raises:
            UsageError: a share is not above 0, they sum to more than 1, or the seed is negative.
        """
        if not shares or not all(0 < share <= 1 for share in shares.values()) or math.fsum(shares.values()) > 1 + 1e-9:
            raise UsageError(f"shares are {dict(shares)}: splits: give shares above 0 that sum to at most 1")
        if seed < 0:
            raise UsageError(f"seed is {seed}: splits: give 0 or more")
        bounds = np.concatenate([[0.0], np.cumsum(list(shares.values()))])
        parts: list[list[int]] = [[] for _ in shares]
        for label, name in enumerate(self.classes):
            mine = np.flatnonzero(self.labels == label)
            order = sorted(range(len(mine)), key=lambda k: self._draw(seed, name, int(mine[k])))
            cuts = np.floor(bounds * len(mine) + 0.5).astype(int).tolist()
            for part, low, high in zip(parts, cuts[:-1], cuts[1:], strict=True):
                part += [int(mine[k]) for k in order[low:high]]
        return {name: self.subset(sorted(part), name) for name, part in zip(shares, parts, strict=True)}

    def _draw(self, seed: int, name: str, i: int) -> tuple[bytes, str]:
        """A pseudo-random key of image i, of class ``name``."""
        text = f"{seed}/{name}/{PurePosixPath(self.names[i]).stem}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest(), self.names[i]
