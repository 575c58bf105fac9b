"""Scenes for the fault tests: painted ones, one that is huge and sparse, and a run folder that the command accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from tests.data.tiffs import write_tiff
from tests.inference.squares import GREEN, RED, Patch, painted

PLACE: dict[str, Any] = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5.2e6)}
TILED: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def patches(height: int, width: int, seed: int = 0) -> list[Patch]:
    """One patch smaller than the overlap in each cell of 41 pixels."""
    rng = np.random.default_rng(seed)
    made = []
    for x in range(1, width - 41, 41):
        for y in range(1, height - 41, 41):
            w, h = (int(v) for v in rng.integers(4, 40, 2))
            dx, dy = int(rng.integers(0, 41 - w)), int(rng.integers(0, 41 - h))
            made.append((x + dx, y + dy, w, h, RED if rng.random() < 0.5 else GREEN))
    return made


def scene(path: Path, height: int = 250, width: int = 300, **profile: Any) -> Path:
    """A georeferenced GeoTIFF in tiles of 64 pixels, full of patches."""
    image = painted(height, width, patches(height, width))
    return write_tiff(path, image, **{**TILED, **PLACE, **profile})


def sparse(path: Path, side: int, blocks: int) -> Path:
    """A square scene of which only some tiles of 512 pixels on the diagonal are stored, each with one red patch."""
    form = {"driver": "GTiff", "dtype": "uint8", "count": 3, "tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(
        path, "w", **form, height=side, width=side, SPARSE_OK=True, compress="deflate", BIGTIFF="YES", **PLACE
    ) as file:
        tile = np.moveaxis(painted(512, 512, [(100, 200, 40, 20, RED)]), 2, 0)
        for at in np.linspace(0, side // 512 - 1, blocks).astype(int).tolist():
            file.write(tile, window=Window(512 * at, 512 * at, 512, 512))
    return path
