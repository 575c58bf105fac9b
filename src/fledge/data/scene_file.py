"""A scene opened for its windows: GeoTIFF and JPEG 2000 of any size through GDAL, other images decoded whole.

Pixels follow the rules of ``fledge.data.raster``. Only windows can be read, so that no caller can hold a large scene;
GDAL's own cache is bounded. Magic bytes, not names, choose the only driver that may open a file.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from fledge.data.image_header import Header, read_header
from fledge.data.raster import COLOUR, MEASURED, Missing, PixelRule, band_choice, read_image, stored_samples, to_bytes
from fledge.data.stored_bands import ALONE, DRIVERS, missing_samples
from fledge.errors import DataError
from fledge.types import Frame

Image = NDArray[np.uint8]

CACHE = 64 << 20  # bytes that GDAL keeps of decoded blocks, if one window does not touch more
_MOST_CACHE = 256 << 20
_MOST_BLOCK = 1 << 30  # bytes of one block, which a window of one pixel must decode
_SAMPLED = 64  # places of a file that its fingerprint reads
_ADDRESS = re.compile(r"(/vsi|[A-Za-z][A-Za-z0-9+.\-]*:/?/|(zip|tar|gzip|[A-Z_0-9]{3,}):)")


@dataclass(frozen=True)
class Piece:
    """One part of a scene.

    Attributes:
        pixels: (H, W, C) as the network sees them.
        empty: not one pixel of data lies in it.
    """

    pixels: Image
    empty: bool


class SceneFile:
    """An image or raster, read window by window.

    Args:
        path: the file.
        rule: how its samples become bytes.
        percentiles: (low, high); instead of the rule's range, the samples of the scene between which these parts lie.

    Raises:
        DataError: it cannot be opened or has not the bands; its blocks are too large; it is located by control points
            or a camera model only.
    """

    def __init__(
        self, path: str | Path, rule: PixelRule = COLOUR, percentiles: tuple[float, float] | None = None
    ) -> None:
        self.path = local_file(path)
        header = read_header(self.path)
        self.height, self.width = header.height, header.width
        name = os.fsencode(self.path.stem).decode(errors="replace")  # it becomes text in results
        self.frame = Frame(name, (self.height, self.width))
        self.rule = rule
        self.cache = CACHE
        self._file: Any = None
        self._whole: Image | None = None
        with _translated(self.path):
            if header.format in DRIVERS and not header.turned:
                self._open(header)
            if percentiles is not None:
                self.rule = replace(rule, range=self._measure(percentiles))
            if self._file is None:
                self._whole = read_image(self.path, self.rule)
        if self._file is not None:
            to_bytes(np.zeros((1, 1, 1), self._file.dtypes[0]), self.rule.range, self.path)  # refuse the type now

    def _open(self, header: Header) -> None:
        with warnings.catch_warnings(), _environment(self.cache):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            file = rasterio.open(self.path.absolute(), driver=DRIVERS[header.format])
            ycbcr = file.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE") == "YCbCr"  # GDAL makes it RGB
        if not (header.plain or ycbcr or header.format == "JPEG 2000"):
            file.close()  # colour tables, CMYK, samples of less than a byte: OpenCV knows what they mean
            return
        self._file = file
        self._bands = band_choice(file.count, header.alpha, self.rule.bands, self.path)
        self._nodata = [file.nodatavals[band - 1] for band in self._bands]
        self._masked = bool({flag.name for flag in file.mask_flag_enums[self._bands[0] - 1]} & {"per_dataset", "alpha"})
        self._sparse = header.format == "TIFF" and file.block_shapes[0][1] != file.width  # in tiles
        self._check_blocks()
        self._locate()

    def _check_blocks(self) -> None:
        file = self._file
        height, width = file.block_shapes[0]
        self._shared = file.profile.get("interleave") == "pixel"
        pixel = np.dtype(file.dtypes[0]).itemsize * (file.count if self._shared else 1)
        if height * width * pixel > _MOST_BLOCK:
            raise DataError(
                f"blocks too large: {self.path}: one block of {width}x{height} pixels takes "
                f"{height * width * pixel >> 20} MiB: store it in tiles, such as with gdal_translate -of COG"
            )

    def _fit_cache(self, width: int, height: int) -> None:
        """Make room for the tiles that a window touches, among which the next one of its row finds many of its own."""
        (rows, columns), bands = self._file.block_shapes[0], self._file.count if self._shared else len(self._bands)
        if columns < self.width:
            tiles = (height // rows + 2) * (width // columns + 2)
            needed = tiles * rows * columns * bands * np.dtype(self._file.dtypes[0]).itemsize
            self.cache = min(max(self.cache, needed), _MOST_CACHE)

    def _locate(self) -> None:
        file = self._file
        if file.transform.is_identity and (file.gcps[0] or file.rpcs is not None):
            how = "ground control points" if file.gcps[0] else "a camera model (RPC)"
            raise DataError(
                f"no transform: {self.path}: it is located by {how} only, which fledge does not solve: rectify it, "
                f"such as with gdalwarp{'' if file.gcps[0] else ' -rpc'} IN.tif OUT.tif"
            )
        if file.crs is None or file.transform.is_identity:
            return
        transform = tuple(float(v) for v in file.transform[:6])
        code = file.crs.to_epsg(confidence_threshold=100)
        crs = f"EPSG:{code}" if code else file.crs.to_wkt()
        self.frame = replace(self.frame, transform=transform, crs=crs)  # type: ignore[arg-type]

    @property
    def wide_strips(self) -> bool:
        """Whether each row of windows has to be decoded again and again: blocks span a width beyond the cache."""
        if self._file is None:
            return False
        width = self._file.block_shapes[0][1]
        size = np.dtype(self._file.dtypes[0]).itemsize * self._file.count
        return bool(width == self.width > 4096 and 1024 * width * size > CACHE)

    def read(self, x: int, y: int, width: int, height: int) -> Piece:
        """The pixels of a window that lies inside the scene.

        Raises:
            DataError: they cannot be decoded.
        """
        if self._whole is not None:
            return Piece(self._whole[y : y + height, x : x + width], False)
        self._fit_cache(width, height)
        if self._sparse and self._nothing_stored(x, y, width, height):
            return Piece(np.zeros((height, width, self.rule.channels), np.uint8), True)
        window = Window(x, y, width, height)
        pixels, missing = self._pixels(window)
        empty = missing is not None and bool(missing.all())
        return Piece(pixels, empty or (self._masked and self._outside(window)))

    def overview(self, side: int) -> Image:
        """The whole scene reduced to at most ``side`` pixels: (H, W, C)."""
        shrink = max(1.0, max(self.height, self.width) / side)
        height, width = (max(1, round(n / shrink)) for n in (self.height, self.width))
        if self._whole is not None:
            import cv2

            return np.asarray(cv2.resize(self._whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        return self._pixels(Window(0, 0, self.width, self.height), (height, width))[0]

    def _pixels(self, window: Window, shape: tuple[int, int] | None = None) -> tuple[Image, Missing]:
        samples, missing = self._samples(window, shape)
        pixels = to_bytes(samples, self.rule.range, self.path)
        if missing is not None:
            pixels = np.where(missing, np.uint8(0), pixels)
        if pixels.shape[2] < self.rule.channels:  # grey
            pixels = np.repeat(pixels, self.rule.channels, axis=2)
        return np.ascontiguousarray(pixels), missing

    def _samples(self, window: Window, shape: tuple[int, int] | None = None) -> tuple[NDArray[Any], Missing]:
        with _translated(self.path), _environment(self.cache):
            out = None if shape is None else (len(self._bands), *shape)
            samples = self._file.read(list(self._bands), window=window, out_shape=out)
        return samples.transpose(1, 2, 0), missing_samples(samples, self._nodata)

    def _outside(self, window: Window) -> bool:
        """Whether a mask or alpha channel leaves nothing of a window."""
        with _translated(self.path), _environment(self.cache):
            return not self._file.read_masks(self._bands[0], window=window).any()

    def _nothing_stored(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether a sparse TIFF file holds no block of a window, for any of the bands."""
        rows, columns = self._file.block_shapes[0]
        with _environment(self.cache):
            return all(
                self._file.get_tag_item(f"BLOCK_OFFSET_{i}_{j}", "TIFF", bidx=band) is None
                for j in range(y // rows, (y + height - 1) // rows + 1)
                for i in range(x // columns, (x + width - 1) // columns + 1)
                for band in self._bands
            )

    def _measure(self, percentiles: tuple[float, float]) -> tuple[float, float]:
        """The samples at two percentiles: of up to 64 places spread over the scene, or of a grid over a decoded one."""
        if self._file is None:
            samples, missing = stored_samples(self.path, self.rule)
            step = max(1, int(np.sqrt(samples.size / (16 * MEASURED))))
            parts = [(samples[::step, ::step], None if missing is None else missing[::step, ::step])]
        else:
            parts = [self._samples(place) for place in self._places(256, 8)]
        values = [samples.reshape(-1) if missing is None else samples[~missing] for samples, missing in parts]
        everything = np.concatenate([v[:: max(1, v.size * len(parts) // (16 * MEASURED))] for v in values])
        if not everything.size:
            raise DataError(f"no pixels: {self.path}: all samples looked at are missing: give --range")
        low, high = np.percentile(everything.astype(np.float64), percentiles).tolist()
        return (low, high) if low < high else (low, low + max(1.0, abs(low)))

    def _places(self, side: int, count: int) -> Iterator[Window]:
        """Up to ``count`` times ``count`` windows spread over the scene."""
        xs = np.unique(np.linspace(0, max(self.width - side, 0), count).astype(int)).tolist()
        ys = np.unique(np.linspace(0, max(self.height - side, 0), count).astype(int)).tolist()
        for y in ys:
            for x in xs:
                yield Window(x, y, min(side, self.width - x), min(side, self.height - y))

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()


def local_file(path: str | Path) -> Path:
    """A path on this machine.

    Raises:
        DataError: it is an address, or a name that only GDAL understands.
    """
    if _ADDRESS.match(str(path)) and not Path(path).exists():
        raise DataError(f"not a file: {path}: fledge opens files of this machine only: download or mount it first")
    return Path(path)


def fingerprint(path: Path) -> str:
    """64 hexadecimal digits from a file's size, time of change and 64 places of its content."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
    with path.open("rb") as file:
        for at in np.unique(np.linspace(0, max(status.st_size - 65_536, 0), _SAMPLED).astype(np.int64)).tolist():
            file.seek(at)
            digest.update(file.read(65_536))
    return digest.hexdigest()


@contextmanager
def _environment(cache: int = CACHE) -> Iterator[None]:
    with rasterio.Env(**ALONE, GDAL_CACHEMAX=cache):  # in bytes, where GDAL itself would take it for megabytes
        yield


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """GDAL's errors as ours."""
    try:
        yield
    except (RasterioError, IndexError, ValueError, MemoryError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"unreadable image: {path}: {reason}: replace the file by an intact copy") from error
