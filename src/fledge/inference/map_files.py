"""Objects of one scene to files that maps open: GeoPackage in the scene's own reference system, and GeoJSON."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.errors import NumericError, ResourceError, UsageError
from fledge.files import replacing, temporary
from fledge.geometry.georeference import geojson_geometries, measures, to_world
from fledge.inference.found import Found
from fledge.types import no_geojson

LAYER = "detections"
CHUNK = 50_000  # objects written at once
# GeoPackage stamps the time of writing into itself; the same objects shall give the same bytes.
_DATE = "2000-01-01T00:00:00.000Z"

Columns = dict[str, NDArray[Any]]


def chunks(found: Found) -> Iterator[Found]:
    """The objects, some at a time; one empty part if there are none."""
    for start in range(0, max(1, len(found)), CHUNK):
        yield found.part(start, start + CHUNK)


def columns(found: Found) -> Columns:
    """What is told of each object, by column; lengths in metres and the bearing only where the scene has a place.

    Raises:
        NumericError: a score or box is not finite.
    """
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        raise NumericError(f"not finite: {found.frame.image_id}: a score or box cannot be written")
    return {
        "class": np.array(found.classes, object)[found.labels],
        "score": found.scores.astype(np.float64).round(6),
        **measures(found.boxes, found.frame.transform, found.frame.crs),
        "window_x": found.windows[:, 0],
        "window_y": found.windows[:, 1],
        "image": np.full(len(found), found.frame.image_id, object),
    }


def map_points(found: Found) -> NDArray[np.float64]:
    """Corners (N, 4, 2) in the scene's reference system; without one, column and minus row, which has rows downwards
    as GIS programs place an image without a reference."""
    if found.frame.transform is not None and found.frame.crs is not None:
        return to_world(found.corners, found.frame.transform)
    return found.corners * [1, -1]


def write_geopackage(found: Found, out: Path) -> None:
    """One layer ``detections`` of polygons.

    Raises:
        UsageError: the folder has a name that GDAL does not take.
        ResourceError: it cannot be written; what was there before is untouched.
    """
    if set(str(out.absolute().parent)) & set(";?#"):
        raise UsageError(f"not a folder for GeoPackage: {out.parent}: GDAL cannot write below ';', '?' or '#'")
    with replacing(out) as part:
        # A folder of its own for GDAL, which insists on the ending, leaves files beside, and takes ';' for its own.
        scratch = temporary(out.with_name(f"gpkg-{zlib.crc32(os.fsencode(out.name)):08x}"))
        scratch.mkdir()
        try:
            _write_layer(found, scratch / "detections.gpkg")
            (scratch / "detections.gpkg").replace(part)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _write_layer(found: Found, path: Path) -> None:
    import pyogrio
    import shapely
    from pyogrio.errors import DataSourceError, FeatureError, GeometryError

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    georeferenced = found.frame.crs is not None and found.frame.transform is not None
    new: dict[str, Any] = {
        "crs": found.frame.crs if georeferenced else None,
        "layer_options": {} if georeferenced else {"SRID": "-1"},  # an undefined Cartesian system
        "layer_metadata": metadata(found),
    }
    try:
        for k, part in enumerate(chunks(found)):
            values = columns(part)
            shapes = shapely.to_wkb(shapely.polygons(map_points(part)))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")
                pyogrio.raw.write(
                    path,
                    shapes,
                    list(values.values()),
                    list(values),
                    geometry_type="Polygon",
                    driver="GPKG",
                    layer=LAYER,
                    append=k > 0,
                    **(new if k == 0 else {"crs": new["crs"]}),
                )
        written = pyogrio.read_info(path, layer=LAYER)["features"]
    except (DataSourceError, FeatureError, GeometryError) as error:
        reason = " ".join(str(error).split())
        raise ResourceError(
            f"cannot write: {found.frame.image_id}: {reason}: check the folder and free space"
        ) from error
    if written != len(found):  # what GDAL makes of a full disk
        raise ResourceError(
            f"cannot write: {found.frame.image_id}: the file did not take all objects: check free space"
        )


def metadata(found: Found) -> dict[str, str]:
    """What a file says of itself."""
    place = found.frame.crs if found.frame.transform else None
    about = {"coordinates": "reference system of the scene" if place else "pixels: x = column, y = minus row"}
    if found.holes:
        about["incomplete"] = json.dumps([[h.x, h.y, h.width, h.height] for h in found.holes])
    return about


def write_geojson(found: Found, out: Path) -> None:
    """A FeatureCollection as RFC 7946 has it, in longitude and latitude.

    Raises:
        UsageError: the scene has no reference system that leads to them.
        ResourceError: it cannot be written; what was there before is untouched.
    """
    frame = found.frame
    if frame.transform is None or frame.crs is None:
        raise UsageError(no_geojson(frame.image_id))
    with replacing(out) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", ')
        if found.holes:
            file.write(f'"incomplete": {metadata(found)["incomplete"]}, ')
        file.write('"features": [')
        first = True
        for some in chunks(found):
            values = columns(some)
            shapes = geojson_geometries(some.corners, frame.transform, frame.crs)
            if shapes is None:
                raise UsageError(no_geojson(frame.image_id))
            rows = zip(*(v.tolist() for v in values.values()), strict=True)
            for shape, row in zip(shapes, rows, strict=True):
                properties = {k: plain(v) for k, v in zip(values, row, strict=True)}
                feature = {"type": "Feature", "geometry": shape, "properties": properties}
                file.write(("\n" if first else ",\n") + json.dumps(feature, allow_nan=False))
                first = False
        file.write("\n]}\n")


def plain(value: Any) -> Any:
    """A whole float as it is read by everybody: 3.0, never -0.0."""
    return 0.0 if isinstance(value, float) and value == 0 and math.copysign(1, value) < 0 else value
