"""Results of ``fledge detect`` read again: polygons with a class and a score in a GeoPackage or GeoJSON file."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.errors import DataError

Floats = NDArray[np.float64]

_MOST_BYTES = 1_000_000_000
_DATABASE, _GEOPACKAGE = b"SQLite format 3\0", (b"GPKG", b"GP10", b"GP11")  # at the start, and from byte 68 on
_WHAT = "give a result of `fledge detect`: polygons with `class` and `score`"


@dataclass(frozen=True)
class Results:
    """N objects of a scene.

    Attributes:
        quads: (N, 4, 2) float64 corners in the reference system, or in pixels of the scene.
        names: class of each.
        scores: (N,) float64.
        crs: reference system; None: pixels.
    """

    quads: Floats
    names: list[str]
    scores: Floats
    crs: str | None


def read_results(path: Path) -> Results:
    """The objects in a file; its first bytes, not its name, say what it is.

    Raises:
        DataError: it cannot be read, is neither, or holds other things than polygons with a class and a score.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"results too large: {path}: the limit is {_MOST_BYTES // 10**6} MB: draw a part of them")
    except OSError as error:
        raise DataError(f"cannot open results: {path}: {error.strerror}: check the path") from error
    if head.startswith(_DATABASE) and head[68:72] in _GEOPACKAGE:
        return _read_geopackage(path)
    if head.lstrip()[:1] == b"{":
        return _read_geojson(path)
    raise DataError(f"unknown results: {path}: neither GeoPackage nor GeoJSON: {_WHAT}")


def _read_geopackage(path: Path) -> Results:
    import pyogrio
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GDAL: what matters is in its errors
            # From memory: no name is taken for an address, and no file beside it is opened.
            about, _, wkb, columns = pyogrio.raw.read(path.read_bytes(), columns=["class", "score"])
    except (DataLayerError, DataSourceError, ValueError) as error:
        raise DataError(f"unreadable results: {path}: {' '.join(str(error).split())}: {_WHAT}") from error
    fields = dict(zip(list(about["fields"]), columns, strict=True))
    if not {"class", "score"} <= fields.keys():
        raise DataError(f"no class or score: {path}: its columns have other names: {_WHAT}")
    shapes = shapely.from_wkb(wkb)
    quads = np.stack([_quad(_points(shape), path, i) for i, shape in enumerate(shapes)]) if len(shapes) else _none()
    located = about["crs"] is not None and "Undefined" not in about["crs"]
    if not located:
        quads = quads * [1, -1]  # rows are stored downwards, as minus y
    return _checked(Results(quads, list(map(str, fields["class"])), np.asarray(fields["score"], np.float64),
                            about["crs"] if located else None), path)  # fmt: skip


def _points(shape: Any) -> Floats:
    """Corners (P, 2) of a polygon without the closing one; none of any other shape."""
    import shapely

    if shape is None or shape.geom_type != "Polygon":
        return np.zeros((0, 2))
    return np.asarray(shapely.get_coordinates(shape.exterior)[:-1], np.float64)


def _read_geojson(path: Path) -> Results:
    try:
        collection = json.loads(path.read_bytes())
        rows = [
            (feature["geometry"], str(feature["properties"]["class"]), float(feature["properties"]["score"]))
            for feature in collection["features"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"unreadable results: {path}: {type(error).__name__} {error}: {_WHAT}") from error
    quads = [_quad(_ring(geometry), path, i) for i, (geometry, _, _) in enumerate(rows)]
    scores = np.array([score for _, _, score in rows], np.float64)
    return _checked(Results(np.stack(quads) if quads else _none(), [n for _, n, _ in rows], scores, "EPSG:4326"), path)


def _ring(geometry: Any) -> Floats:
    """Corners (P, 2) of a GeoJSON geometry; of one that was cut at the 180th meridian, those of both parts."""
    try:
        kind, coordinates = geometry["type"], geometry["coordinates"]
        parts = {"Polygon": [coordinates], "MultiPolygon": coordinates}[kind]
        points = np.concatenate([np.asarray(part[0], np.float64)[:-1, :2] for part in parts])
    except (KeyError, IndexError, TypeError, ValueError):
        return np.zeros((0, 2))
    if len(parts) > 1:
        points[:, 0] %= 360
    return points


def _quad(points: Floats, path: Path, row: int) -> Floats:
    """Four corners: as they are, or of the rectangle of least area around others."""
    if len(points) == 4:
        return points
    if len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"not a polygon: {path}: feature {row}: {_WHAT}")
    import shapely

    around = shapely.MultiPoint(points).minimum_rotated_rectangle
    found = _points(around)
    if len(found) != 4:
        raise DataError(f"polygon without area: {path}: feature {row}: {_WHAT}")
    return found


def _none() -> Floats:
    return np.zeros((0, 4, 2))


def _checked(results: Results, path: Path) -> Results:
    if not (np.isfinite(results.quads).all() and np.isfinite(results.scores).all()):
        raise DataError(f"not finite: {path}: a corner or score: {_WHAT}")
    return results
