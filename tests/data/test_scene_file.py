"""How often the blocks of a scene are decoded when it is read window by window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.tiffs import write_tiff

from fledge.data import scene_file
from fledge.data.raster import PixelRule
from fledge.data.scene_file import SceneFile
from fledge.inference.windows import WindowGrid

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts bytes by /proc")
SIDE, BLOCK, SIZE, OVERLAP = 1024, 128, 256, 50


def scene(path: Path, bands: int = 3, **profile: Any) -> Path:
    """Noise in tiles: what it takes on the disk is all blocks."""
    samples = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, bands)).astype(np.uint8)
    form = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "interleave": "pixel"}
    return write_tiff(path, samples, **{**form, **profile})


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def times_decoded(path: Path, rule: PixelRule) -> float:
    """How often each block was read on average, with all windows read row by row."""
    file = SceneFile(path, rule)
    before = bytes_read()
    for w in WindowGrid(SIDE, SIDE, SIZE, OVERLAP):
        file.read(w.x, w.y, w.width, w.height)
    read = bytes_read() - before
    file.close()
    return read / path.stat().st_size


def once_a_row() -> float:
    """The same if each row of windows read its blocks once."""
    rows = {w.y for w in WindowGrid(SIDE, SIDE, SIZE, OVERLAP)}
    blocks = sum((y + SIZE - 1) // BLOCK - y // BLOCK + 1 for y in rows)
    assert blocks > SIDE // BLOCK
    return blocks / (SIDE // BLOCK)


@linux
def test_blocks_that_fit_the_cache_are_decoded_once(tmp_path: Path) -> None:
    assert times_decoded(scene(tmp_path / "a.tif"), PixelRule()) == pytest.approx(1, abs=0.1)


@linux
@pytest.mark.parametrize(("bands", "cache"), [(3, 700_000), (12, 1000)])
def test_blocks_beyond_the_cache_are_decoded_once_for_each_row_of_windows(
    bands: int, cache: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the blocks that one window touches are larger than the cache, for the bands that are not used."""
    monkeypatch.setattr(scene_file, "CACHE", cache)
    path = scene(tmp_path / "a.tif", bands)
    assert times_decoded(path, PixelRule((1, 2, 3))) <= 1.05 * once_a_row()


@linux
def test_bands_that_lie_apart_are_read_alone(tmp_path: Path) -> None:
    path = scene(tmp_path / "a.tif", 12, interleave="band")
    assert times_decoded(path, PixelRule((1, 2, 3))) == pytest.approx(3 / 12, abs=0.1)


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    file = SceneFile(scene(tmp_path / "a.tif", 12), PixelRule((1, 2, 3)))
    for side, least, most in ((256, 64, 64), (3000, 65, 255), (1 << 15, 256, 256), (256, 256, 256)):
        file._fit_cache(side, side)
        assert least << 20 <= file.cache <= most << 20
