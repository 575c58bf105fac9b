"""Labels in coordinates of the world: ``ROOT/SPLIT/images/NAME.tif`` and ``ROOT/SPLIT/labels.geojson`` or ``.gpkg``.

A polygon of four corners an object, in the order of the labels, with the properties ``class``, ``image`` (the stem) and
``difficult``. GeoJSON has longitude and latitude (RFC 7946), to a hundredth of a millimetre; GeoPackage the images' own
reference system, or longitude and latitude where they have several. There is no word for an ignored object.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place
from fledge.errors import DataError, ResourceError

_DIGITS = 10  # of degrees: 0.01 mm
_WORLD = "EPSG:4326"


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return f"{split}/images"


def check_georeferences(datasets: Sequence[DetectionDataset]) -> None:
    """Refuse images that do not say where they lie.

    Raises:
        DataError: there is one.
    """
    from fledge.data.georeference import read_georeference  # GDAL takes its time to load and few need it

    for dataset in datasets:
        for path in dataset.paths:
            read_georeference(path)


def write_geojson(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    quads, rows = _world_corners(dataset, _WORLD)
    features = [
        {
            "type": "Feature",
            "properties": _properties(dataset, image, row),
            "geometry": {"type": "Polygon", "coordinates": [_ring(quads[row].round(_DIGITS).tolist())]},
        }
        for image, row in rows
    ]
    content = {"type": "FeatureCollection", "features": features}
    place(root / dataset.split / "labels.geojson", json.dumps(content, allow_nan=False, indent=1).encode())
    return _lost(dataset)


def write_geopackage(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    import pyogrio.errors
    import pyogrio.raw
    import shapely

    from fledge.data.georeference import read_georeference

    systems = {read_georeference(path).crs.to_wkt() for path in dataset.paths}
    system = systems.pop() if len(systems) == 1 else _WORLD
    quads, rows = _world_corners(dataset, system)
    properties = [_properties(dataset, image, row) for image, row in rows]
    shapes = shapely.to_wkb(shapely.polygons([quads[row] for _, row in rows])) if rows else np.zeros(0, dtype=object)
    fields = {"class": object, "image": object, "difficult": np.bool_}
    columns: list[NDArray[Any]] = [
        np.array([entry[name] for entry in properties], dtype=kind) for name, kind in fields.items()
    ]
    memory = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pyogrio.raw.write(
                memory,
                np.asarray(shapes, dtype=object),
                columns,
                list(fields),
                layer="labels",
                driver="GPKG",
                geometry_type="Polygon",
                crs=system,
            )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, RuntimeError, ValueError) as error:
        raise ResourceError(f"cannot write: {root / dataset.split}: {error}: write geojson instead") from error
    place(root / dataset.split / "labels.gpkg", memory.getvalue())
    return _lost(dataset)


def _world_corners(dataset: DetectionDataset, system: str) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """The corners (T, 4, 2) in a reference system, x or longitude first, and (image, row) of the objects to write."""
    from rasterio.crs import CRS

    from fledge.data.georeference import read_georeference

    quads = dataset.quads.astype(np.float64)
    rows = []
    for image, path in enumerate(dataset.paths):
        part = slice(int(dataset.offsets[image]), int(dataset.offsets[image + 1]))
        rows += [(image, row) for row in range(part.start, part.stop) if not dataset.ignore[row]]
        if part.start == part.stop:
            continue
        lies = read_georeference(path)
        moved = lies.world(quads[part].reshape(-1, 2), CRS.from_user_input(system))
        if not np.isfinite(moved).all():
            raise DataError(f"outside the world: {path}: its corners have no longitude and latitude: check its place")
        quads[part] = moved.reshape(-1, 4, 2)
    return quads, rows


def _ring(corners: list[list[float]]) -> list[list[float]]:
    return [*corners, corners[0]]


def _properties(dataset: DetectionDataset, image: int, row: int) -> dict[str, Any]:
    return {
        "class": dataset.classes[int(dataset.labels[row])],
        "image": dataset.ids[image],
        "difficult": bool(dataset.difficult[row]),
    }


def _lost(dataset: DetectionDataset) -> dict[str, int]:
    return {"ignored object, left out": int(dataset.ignore.sum())}
