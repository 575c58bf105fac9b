"""From pixels to the ground: world coordinates, longitude and latitude, true lengths and bearings.

A transform is (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f, with rotation and either sense of rows. It
maps the corner of the first pixel, so that pixel (0, 0) spans 0 to 1, whatever the file's convention. Lengths and
bearings are taken on the WGS 84 ellipsoid around each box, not in the plane of the map, which in EPSG:3857 would be
twice too long at 60 degrees of latitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Transform = tuple[float, float, float, float, float, float]

_SEMI_MAJOR, _ECCENTRICITY2 = 6_378_137.0, 0.006_694_379_990_141_317  # WGS 84


@dataclass(frozen=True)
class Ground:
    """N boxes measured on the ground.

    Attributes:
        length, width: (N,) metres along and across the long side of the pixel box.
        bearing: (N,) degrees in [0, 180) of the long side, clockwise from true north (grid north where a reference
            system has no relation to longitude and latitude).
    """

    length: Floats
    width: Floats
    bearing: Floats


def corner_points(boxes: Floats) -> Floats:
    """Corners (N, 4, 2) of boxes (N, 5), clockwise on screen, the first one at the start of both sides."""
    u, v = _half_sides(boxes)
    centre = boxes[:, None, :2]
    return centre + np.stack([-u - v, u - v, u + v, v - u], axis=1)


def to_world(points: Floats, transform: Transform) -> Floats:
    """Pixel coordinates (..., 2) in the scene's reference system (..., 2)."""
    a, b, c, d, e, f = transform
    x, y = points[..., 0], points[..., 1]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)


def to_lonlat(points: Floats, crs: str) -> Floats | None:
    """World coordinates (..., 2) as longitude and latitude (..., 2) in degrees (WGS 84).

    None if the reference system has no relation to them.
    """
    from rasterio._err import CPLE_BaseError  # what a system of a building site gives
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    flat = points.reshape(-1, 2)
    if not len(flat):
        return points
    try:
        lon, lat = transform(crs, "EPSG:4326", flat[:, 0], flat[:, 1])
    except (RasterioError, CPLE_BaseError):
        return None
    found = np.stack([lon, lat], axis=-1)
    beyond = np.abs(found[:, 0]) > 180  # a scene over the antimeridian goes on counting
    found[beyond, 0] = (found[beyond, 0] + 180) % 360 - 180
    return found.reshape(points.shape) if np.isfinite(found).all() else None


def ground_sizes(boxes: Floats, transform: Transform, crs: str) -> Ground:
    """Lengths, widths and bearings of boxes (N, 5) in pixels of a georeferenced scene."""
    u, v = _half_sides(boxes)
    middle = boxes[:, None, :2]
    ends = to_world(middle + np.stack([-u, u, -v, v], axis=1), transform)
    lonlat = to_lonlat(ends, crs)
    along, across = (_plane(ends, crs) if lonlat is None else _ellipsoid(lonlat)).transpose(1, 0, 2)
    bearing = np.degrees(np.arctan2(along[:, 0], along[:, 1])) % 180
    return Ground(np.hypot(*along.T), np.hypot(*across.T), np.where(bearing >= 180, 0.0, bearing))


def measures(boxes: Floats, transform: Transform | None, crs: str | None) -> dict[str, Floats]:
    """What is told of boxes (N, 5) in every kind of file, by column: pixels, and metres where the scene has a place."""
    columns = {"angle": boxes[:, 4].round(6), "length_px": boxes[:, 2].round(3), "width_px": boxes[:, 3].round(3)}
    if transform is not None and crs is not None:
        ground = ground_sizes(boxes, transform, crs)
        columns["length_m"], columns["width_m"] = ground.length.round(3), ground.width.round(3)
        columns["bearing"] = ground.bearing.round(3)
    return columns


def geojson_geometries(corners: Floats, transform: Transform, crs: str) -> list[dict[str, Any]] | None:
    """Corners (N, 4, 2) in pixels as GeoJSON geometries (RFC 7946): longitude and latitude with 7 decimals, rings
    counter-clockwise, cut in two where they cross the 180th meridian. None if the system has no relation to them."""
    lonlat = to_lonlat(to_world(corners, transform), crs)
    if lonlat is None:
        return None
    across = crosses_antimeridian(lonlat)
    simple = [{"type": "Polygon", "coordinates": [ring]} for ring in _rings(lonlat)]
    return [_cut(quad) if cut else plain for plain, quad, cut in zip(simple, lonlat, across, strict=True)]


def crosses_antimeridian(lonlat: Floats) -> NDArray[np.bool_]:
    """Which rings (N, P, 2) of longitudes and latitudes cross the 180th meridian, being small otherwise: (N,)."""
    lon = lonlat[..., 0]
    crosses: NDArray[np.bool_] = lon.max(axis=1) - lon.min(axis=1) > 180 if lon.size else np.zeros(len(lon), np.bool_)
    return crosses


def _rings(points: Floats) -> list[list[list[float]]]:
    """Closed counter-clockwise rings of (N, 4, 2) points, rounded."""
    x, y = points[..., 0], points[..., 1]
    twice_area = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
    turned = np.where((twice_area > 0)[:, None, None], points, points[:, ::-1])
    closed = np.concatenate([turned, turned[:, :1]], axis=1).round(7)
    found: list[list[list[float]]] = closed.tolist()
    return found


def _cut(quad: Floats) -> dict[str, Any]:
    """A quadrilateral (4, 2) over the 180th meridian as two polygons, one on each side."""
    from shapely import Polygon, box, orient_polygons

    shape = Polygon(np.where((quad[:, :1] < 0) & [[True, False]], quad + np.array([360, 0]), quad))
    parts = []
    for side, shift in ((box(0, -90, 180, 90), 0), (box(180, -90, 540, 90), -360)):
        part = shape.intersection(side)
        if part.geom_type == "Polygon" and part.area > 0:
            ring = np.asarray(orient_polygons(part).exterior.coords) + np.array([shift, 0])
            parts.append([ring.round(7).tolist()])
    return {"type": "MultiPolygon", "coordinates": parts}


def _half_sides(boxes: Floats) -> tuple[Floats, Floats]:
    """Half of the long and of the short side as vectors (N, 2)."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    u = np.stack([cos, sin], axis=1) * boxes[:, 2:3] / 2
    v = np.stack([-sin, cos], axis=1) * boxes[:, 3:4] / 2
    return u, v


def _ellipsoid(lonlat: Floats) -> Floats:
    """From ends (N, 4, 2) of two lines to (N, 2, 2): east and north of each, in metres."""
    first, last = lonlat[:, 0::2], lonlat[:, 1::2]
    change = last - first
    turned = np.stack([(change[..., 0] + 180) % 360 - 180, change[..., 1]], axis=-1)
    latitude = np.radians((first[..., 1] + last[..., 1]) / 2)
    flat = 1 - _ECCENTRICITY2 * np.sin(latitude) ** 2
    east = np.radians(turned[..., 0]) * np.cos(latitude) * _SEMI_MAJOR / np.sqrt(flat)
    north = np.radians(turned[..., 1]) * _SEMI_MAJOR * (1 - _ECCENTRICITY2) / flat**1.5
    return np.stack([east, north], axis=-1)


def _plane(ends: Floats, crs: str) -> Floats:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        metres = CRS.from_user_input(crs).units_factor[1]
    except CRSError:
        metres = 1.0
    found: Floats = (ends[:, 1::2] - ends[:, 0::2]) * metres
    return found
