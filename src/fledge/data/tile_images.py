"""The tiles of one image after the other, as files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.raster import IMAGE_SUFFIXES, MAX_PIXELS
from fledge.data.samples import ImageForm, Stored, encode_stored, read_stored, resize_stored
from fledge.data.staging import place, placed
from fledge.data.tiling import TiledSplit, scaled_size
from fledge.errors import DataError


class TileFile(NamedTuple):
    """A tile on disk: its file below the folder of images, x and y in the scaled image, the rate, and its SHA-256."""

    file: str
    x: int
    y: int
    rate: float
    sha256: str


class CutImage(NamedTuple):
    """An image file as a path below the dataset's folder, its SHA-256, and its tiles."""

    file: str
    sha256: str
    tiles: list[TileFile]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        tiles = {tile.file: {"x": tile.x, "y": tile.y, "rate": tile.rate, "sha256": tile.sha256} for tile in self.tiles}
        return {"file": self.file, "sha256": self.sha256, "tiles": tiles}


class Cutter:
    """Writes the tiles of one image after the other into a folder; those that are there already stay.

    Args:
        dataset: the split to cut.
        tiled: its tiles.
        names: their files below the folder, without suffix.
        folder: where the tiles go.
        form: how they are encoded.
    """

    def __init__(
        self, dataset: DetectionDataset, tiled: TiledSplit, names: Sequence[str], folder: Path, form: ImageForm
    ) -> None:
        self.dataset, self.tiled, self.names, self.folder, self.form = dataset, tiled, names, folder, form
        found = (path for path in folder.rglob("*") if path.suffix in IMAGE_SUFFIXES and placed(path))
        self.there = {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}
        self.bounds = np.searchsorted(tiled.source, np.arange(len(dataset) + 1)).tolist()

    def cut(self, image: int) -> CutImage:
        """Write the tiles of one image that are not there yet."""
        tiles = range(self.bounds[image], self.bounds[image + 1])
        written = {}
        missing = [tile for tile in tiles if self.names[tile] not in self.there]
        if missing:
            stored = _read(self.dataset, image)
            for rate in dict.fromkeys(self.tiled.rate[missing].tolist()):
                scaled = resize_stored(stored, *self._scaled(image, rate))
                for tile in (tile for tile in missing if self.tiled.rate[tile] == rate):
                    written[tile] = self._write(scaled, tile)
        path = self.dataset.paths[image]
        return CutImage(
            Path(os.path.relpath(path, self.dataset.root)).as_posix(),
            _sha256(path.read_bytes()),
            [written.get(tile) or self._found(tile) for tile in tiles],
        )

    def _scaled(self, image: int, rate: float) -> tuple[int, int]:
        height, width = self.dataset.sizes[image].tolist()
        height, width = scaled_size(height, width, rate)
        if height * width > MAX_PIXELS:
            path = self.dataset.paths[image]
            raise DataError(f"image too large: {path}: {width}x{height} pixels at rate {rate}: choose lower rates")
        return height, width

    def _write(self, scaled: Stored, tile: int) -> TileFile:
        (x, y), (height, width) = self.tiled.origin[tile].tolist(), self.tiled.index.sizes[tile].tolist()
        image = int(self.tiled.source[tile])
        window = scaled._replace(samples=scaled.samples[y : y + height, x : x + width])
        if scaled.place is not None:
            rows, columns = self.dataset.sizes[image].tolist()
            factors = columns / scaled.samples.shape[1], rows / scaled.samples.shape[0]
            window = window._replace(place=scaled.place.window(x, y, *factors))
        data, suffix = encode_stored(window, self.form, self.dataset.paths[image])
        path = self.folder / f"{self.names[tile]}{suffix}"
        place(path, data)
        return self._tile(tile, path, data)

    def _found(self, tile: int) -> TileFile:
        path = self.there[self.names[tile]]
        return self._tile(tile, path, path.read_bytes())

    def _tile(self, tile: int, path: Path, data: bytes) -> TileFile:
        x, y = self.tiled.origin[tile].tolist()
        return TileFile(path.relative_to(self.folder).as_posix(), x, y, float(self.tiled.rate[tile]), _sha256(data))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(dataset: DetectionDataset, image: int) -> Stored:
    stored = read_stored(dataset.paths[image])
    height, width = dataset.sizes[image].tolist()
    if stored.samples.shape[:2] != (height, width):
        raise DataError(
            f"image changed: {dataset.paths[image]}: it was {width}x{height} pixels when its labels were read: do not "
            "change a dataset while it is in use"
        )
    return stored
