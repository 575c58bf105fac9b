"""The real run: from labels of a real mosaic to a GeoPackage whose boxes lie on its roofs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from benchmarks import roofs
from rasterio.warp import transform

GEO = Path(__file__).parents[1] / ".." / "shared" / "data" / "geo"


@pytest.mark.slow
@pytest.mark.skipif(not GEO.is_dir(), reason="no ../shared/data/geo here")
def test_boxes_lie_on_the_roofs(tmp_path: Path) -> None:
    """After a short training, most of the best boxes are centred on buildings, mapped as polygons in WGS 84."""
    figures = roofs.run(GEO / "mosaic_z21_A.tif", GEO / "mosaic_z21_A.dota.txt", tmp_path, epochs=60)
    assert (figures["labels west"], figures["labels east"]) == (61, 40)
    meta, _, shapes, values = pyogrio.raw.read(tmp_path / "roofs.gpkg")
    assert meta["crs"] == "EPSG:3857"
    table = dict(zip(meta["fields"], values, strict=True))
    best = np.argsort(-table["score"])[:30]
    centres = shapely.get_coordinates(shapely.centroid(shapely.from_wkb(shapes[best])))
    lon, lat = transform("EPSG:3857", "EPSG:4326", centres[:, 0], centres[:, 1])
    labels = json.loads((GEO / "labels.geojson").read_text())
    mapped = shapely.union_all([shapely.geometry.shape(f["geometry"]).buffer(0) for f in labels["features"]])
    hits = shapely.contains_xy(mapped, np.array(lon), np.array(lat))
    assert hits.mean() > 0.6, "a quarter of the scene is roof"
    assert (table["length_m"] < table["length_px"] * 0.0747).all(), "metres on the ground, not of the map"
    assert (tmp_path / "roofs.jpg").stat().st_size <= 150_000
