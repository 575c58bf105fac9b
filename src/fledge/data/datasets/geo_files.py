"""Polygons with a class in GeoJSON and GeoPackage files, in coordinates of the world."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from fledge.data.datasets.json_labels import read_json
from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.georeference import named_crs
from fledge.errors import DataError

SUFFIXES = (".geojson", ".gpkg")
_FARTHEST = 1e9  # of coordinates in the world, in any unit
_POLYGON = "label polygons of at least three corners"
_CLASS = "add a property class with the name of the object's class"
_MARKS = (b"GPKG", b"GP10", b"GP11")


class Feature(NamedTuple):
    """One labelled polygon.

    Attributes:
        place: ``feature N``, counted from 0.
        name: its class.
        image: the image named by its property ``image``, or "".
        points: (N, 2) corners, x or longitude first; a ring is not closed.
        difficult: its property ``difficult``.
    """

    place: str
    name: str
    image: str
    points: NDArray[np.float64]
    difficult: bool


@dataclass
class GeoLabels:
    """What one file holds; ``crs`` is None for coordinates in pixels."""

    crs: CRS | None
    features: list[Feature] = field(default_factory=list)
    faults: list[tuple[str, BadLabelError]] = field(default_factory=list)

    def add(self, position: int, read: Callable[[], tuple[NDArray[np.float64], Mapping[str, object]]]) -> None:
        """Note a feature, or what is wrong with it."""
        place = f"feature {position}"
        try:
            points, properties = read()
            self.features.append(Feature(place, *_described(properties), points, _flag(properties.get("difficult"))))
        except BadLabelError as bad:
            self.faults.append((place, bad))


def read_geo(path: Path) -> GeoLabels:
    """The polygons of a GeoJSON or GeoPackage file.

    Raises:
        DataError: it cannot be read, is none, or its reference system is not known.
    """
    return _read_package(path) if path.suffix.lower() == ".gpkg" else _read_json(path)


def _read_json(path: Path) -> GeoLabels:
    """GeoJSON (RFC 7946): longitude and latitude, or what the member ``crs`` of older files names.

    What ``fledge detect`` writes without a reference system says ``"coordinates": "pixels"``.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        raise DataError(f"not GeoJSON: {path}: it is no FeatureCollection with a list features: export it again")
    labels = GeoLabels(None if content.get("coordinates") == "pixels" else _json_crs(path, content.get("crs")))
    for position, entry in enumerate(content["features"]):
        labels.add(position, partial(_json_feature, entry))
    return labels


def _json_crs(path: Path, stated: Any) -> CRS:
    if stated is None:
        return CRS.from_epsg(4326)
    properties = stated.get("properties") if isinstance(stated, dict) else None
    crs = named_crs(properties.get("name") if isinstance(properties, dict) else None)
    if crs is None:
        raise DataError(f"unknown crs: {path}: {str(stated)[:80]}: name it as urn:ogc:def:crs:EPSG::NUMBER")
    return crs


def _json_feature(entry: object) -> tuple[NDArray[np.float64], Mapping[str, object]]:
    geometry = entry.get("geometry") if isinstance(entry, dict) else None
    properties = entry.get("properties") if isinstance(entry, dict) else None
    kind, rings = (geometry.get("type"), geometry.get("coordinates")) if isinstance(geometry, dict) else (None, None)
    if kind not in ("Polygon", "MultiPolygon") or not isinstance(rings, list):
        raise BadLabelError(f"geometry is {str(kind)[:64]}", _POLYGON, "geometry")
    outer = [rings[:1]] if kind == "Polygon" else [part[:1] for part in rings if isinstance(part, list)]
    points = [point for part in outer for ring in part if isinstance(ring, list) for point in _open(ring)]
    if not all(isinstance(point, list) and len(point) >= 2 and all(map(_is_number, point[:2])) for point in points):
        raise BadLabelError("a corner is no pair of numbers", "write [longitude, latitude]", "number")
    return _checked([point[:2] for point in points]), properties if isinstance(properties, dict) else {}


def _open(ring: Sequence[Any]) -> Sequence[Any]:
    return ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FARTHEST


def _checked(points: Any) -> NDArray[np.float64]:
    corners = np.array(points, dtype=np.float64).reshape(-1, 2)
    if len(corners) < 3:
        raise BadLabelError(f"the polygon has {len(corners)} corners", _POLYGON, "geometry")
    if not (np.abs(corners) <= _FARTHEST).all():
        raise BadLabelError("a corner is not finite", "write finite coordinates", "number")
    return corners


def _read_package(path: Path) -> GeoLabels:
    """GeoPackage: its only layer, or the one called labels."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError as error:
        raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
    if not head.startswith(b"SQLite format 3\0") or head[68:72] not in _MARKS:
        raise DataError(f"not a GeoPackage: {path}: its first bytes are others: export it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = [str(name) for name in pyogrio.list_layers(path.absolute())[:, 0]]
            if len(layers) != 1 and "labels" not in layers:
                raise DataError(f"{len(layers)} layers: {path}: {', '.join(layers)[:200]}: call the one to use labels")
            chosen = "labels" if "labels" in layers else layers[0]
            meta, _, shapes, columns = pyogrio.raw.read(path.absolute(), layer=chosen)
        crs = named_crs(meta["crs"]) or CRS.from_wkt(meta["crs"] or "")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, CRSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"unreadable GeoPackage: {path}: {reason}: export it again, with a reference system") from error
    labels = GeoLabels(crs)
    names = [str(name) for name in meta["fields"]]
    for position, shape in enumerate(shapes if shapes is not None else ()):
        values = {name: column[position] for name, column in zip(names, columns, strict=True)}
        labels.add(position, partial(_package_feature, shape, values))
    return labels


def _package_feature(
    shape: bytes | None, values: Mapping[str, object]
) -> tuple[NDArray[np.float64], Mapping[str, object]]:
    try:
        geometry = shapely.from_wkb(shape)
    except (shapely.GEOSException, TypeError) as error:
        raise BadLabelError("the geometry is damaged", _POLYGON, "geometry") from error
    kind = "nothing" if geometry is None else geometry.geom_type
    if kind not in ("Polygon", "MultiPolygon"):
        raise BadLabelError(f"geometry is {kind}", _POLYGON, "geometry")
    parts = [part for part in shapely.get_parts(geometry) if not part.is_empty]
    return _checked([point[:2] for part in parts for point in part.exterior.coords[:-1]]), values


def _described(properties: Mapping[str, object]) -> tuple[str, str]:
    """The class, and the stem of the image or ""."""
    name, image = properties.get("class"), properties.get("image")
    if not isinstance(name, str) or not name.strip():
        raise BadLabelError("no class", _CLASS, "class name")
    return name.strip(), image if isinstance(image, str) else ""


def _flag(value: object) -> bool:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return False
    if value in (0, 1):  # also False and True
        return bool(value)
    raise BadLabelError(f"difficult is {str(value)[:64]!r}", "write true or false", "difficult")
