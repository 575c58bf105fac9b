"""Where the pixels of a raster lie in the world."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from fledge.data.image_header import read_header
from fledge.data.stored_bands import ALONE, DRIVERS
from fledge.errors import DataError

# The ways in which GeoJSON files name a reference system; anything else could be the name of a file or an address.
_NAMED = re.compile(r"(?:urn:ogc:def:crs:)?EPSG:(?:[\d.]*:)?(\d{4,6})", re.IGNORECASE | re.ASCII)
_LONGITUDE_FIRST = re.compile(r"(?:urn:ogc:def:crs:)?OGC:(?:[\d.]*:)?CRS84", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Georeference:
    """From pixels of a raster to the world.

    Attributes:
        crs: the reference system.
        transform: (column, row) in continuous pixels, pixel i being [i, i + 1], to coordinates of ``crs``; a rotation
            is part of it.
    """

    crs: CRS
    transform: Affine

    def window(self, x: float, y: float, wide: float, high: float) -> Georeference:
        """That of a window of the scaled raster, each of whose pixels is ``wide`` by ``high`` of these; the window's
        corner is at (x, y) in the scaled one."""
        to = self.transform
        a, b, d, e = to.a * wide, to.b * high, to.d * wide, to.e * high
        return replace(self, transform=Affine(a, b, a * x + b * y + to.c, d, e, d * x + e * y + to.f))

    def world(self, points: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
        """Pixels (N, 2) as points of a reference system, x or longitude first; not finite where there is no such."""
        x, y, to = points[:, 0], points[:, 1], self.transform
        found = np.stack([to.a * x + to.b * y + to.c, to.d * x + to.e * y + to.f], axis=1)
        return found if crs == self.crs else _moved(found, self.crs, crs)

    def pixels(self, points: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
        """Points (N, 2) of a reference system, x or longitude first, as pixels; not finite where there is no such."""
        x, y = (points if crs == self.crs else _moved(points, crs, self.crs)).T
        inverse = ~self.transform
        with np.errstate(invalid="ignore", over="ignore"):
            return np.stack(
                [inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1
            )


def _moved(points: NDArray[np.float64], source: CRS, target: CRS) -> NDArray[np.float64]:
    """Points (N, 2) in another reference system; NaN where the projection has no answer, such as beyond a pole."""
    try:
        return np.stack(rasterio.warp.transform(source, target, points[:, 0], points[:, 1]), axis=1)
    except CPLE_BaseError:  # one bad point spoils all of them
        if len(points) == 1:
            return np.full((1, 2), np.nan)
        half = len(points) // 2
        return np.concatenate([_moved(part, source, target) for part in (points[:half], points[half:])])


def read_georeference(path: Path) -> Georeference:
    """Where a GeoTIFF (or JPEG 2000 file) lies, by its own header; files beside it are not looked at.

    Raises:
        DataError: it cannot be read, or does not say where it lies.
    """
    header = read_header(path)
    if header.format not in DRIVERS:
        raise DataError(f"no georeference: {path}: a {header.format} file: labels in the world need GeoTIFF images")
    try:
        with warnings.catch_warnings(), rasterio.Env(**ALONE):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path.absolute(), driver=DRIVERS[header.format]) as file:
                crs, transform, points = file.crs, file.transform, file.gcps[0]
    except (RasterioError, CRSError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"unreadable image: {path}: {reason}: replace the file by an intact copy") from error
    if crs is None or transform == Affine.identity() or not transform.determinant:
        how = "only ground control points" if points else "no reference system and transform"
        raise DataError(f"no georeference: {path}: it has {how}: warp it with gdalwarp, or label it in pixels")
    return Georeference(crs, transform)


def named_crs(name: object) -> CRS | None:
    """The reference system of a name such as ``EPSG:32650`` or ``urn:ogc:def:crs:OGC:1.3:CRS84``; None if unknown."""
    text = name if isinstance(name, str) else ""
    if _LONGITUDE_FIRST.fullmatch(text):
        return CRS.from_epsg(4326)
    found = _NAMED.fullmatch(text)
    if not found:
        return None
    try:
        return CRS.from_epsg(int(found[1]))
    except CRSError:
        return None
