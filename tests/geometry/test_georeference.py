from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import transform

from fledge.geometry.boxes import corners
from fledge.geometry.georeference import corner_points, geojson_geometries, ground_sizes, to_lonlat, to_world

UTM = "EPSG:32632"  # central meridian 9 E, where grid and true north agree


def boxes(*rows: tuple[float, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(rows, np.float64).reshape(-1, 5)


def turned(degrees: float, pixel: float = 1.0, flip: bool = True) -> tuple[float, float, float, float, float, float]:
    """Rows and columns turned clockwise on the map by some degrees, about (500000, 5200000)."""
    a = np.deg2rad(degrees)
    right, down = np.array([np.cos(a), -np.sin(a)]), np.array([-np.sin(a), -np.cos(a)])
    down = down if flip else -down
    return pixel * right[0], pixel * down[0], 5e5, pixel * right[1], pixel * down[1], 5.2e6


def test_corners_are_those_of_the_tensor_code() -> None:
    some = boxes((10, 20, 8, 4, 0.3), (5, 5, 7, 1, -1.5), (0, 0, 3, 3, 0))
    np.testing.assert_allclose(corner_points(some), corners(torch.from_numpy(some)).numpy(), atol=1e-12)
    assert corner_points(boxes()).shape == (0, 4, 2)


@pytest.mark.parametrize("degrees", [0, 30, 90, 200])
@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
def test_bearings_of_turned_and_south_up_scenes(degrees: float, angle: float) -> None:
    """North up, the long side at angle 0 points east: 90 degrees; turning scene or box clockwise adds to it."""
    for flip in (True, False):
        ground = ground_sizes(boxes((50, 60, 20, 8, angle)), turned(degrees, 0.25, flip), UTM)
        sign = 1 if flip else -1  # south up, the picture is mirrored and so is the turn
        expected = (90 + degrees + sign * np.rad2deg(angle)) % 180
        assert abs((ground.bearing[0] - expected + 90) % 180 - 90) < 0.01
        np.testing.assert_allclose([ground.length[0], ground.width[0]], [5, 2], rtol=1e-3)


@given(st.floats(-80, 80), st.floats(-179, 179), st.floats(0, 180))
def test_metres_do_not_depend_on_the_map(latitude: float, longitude: float, bearing: float) -> None:
    """A stick of 10 m drawn in degrees and in Web Mercator, whose own metres are too long by 1 / cos(latitude)."""
    radius, a = 6_371_000.0, np.deg2rad(bearing)
    dlat = np.rad2deg(10 * np.cos(a) / radius)
    dlon = np.rad2deg(10 * np.sin(a) / radius / np.cos(np.deg2rad(latitude)))
    lon, lat = [longitude - dlon / 2, longitude + dlon / 2], [latitude - dlat / 2, latitude + dlat / 2]
    for crs in ("EPSG:4326", "EPSG:3857"):
        x, y = transform("EPSG:4326", crs, lon, lat)
        # one pixel along x is the whole stick
        place = (x[1] - x[0], -(y[1] - y[0]), x[0], y[1] - y[0], x[1] - x[0], y[0])
        ground = ground_sizes(boxes((0.5, 0.0, 1, 0.1, 0)), place, crs)
        np.testing.assert_allclose(ground.length, 10, rtol=0.01)  # a sphere of the mean radius against the ellipsoid
        assert abs((ground.bearing[0] - bearing + 90) % 180 - 90) < 0.5


def test_a_plane_without_relation_to_the_earth() -> None:
    crs = 'LOCAL_CS["site",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]'
    assert to_lonlat(np.zeros((1, 2)), crs) is None
    assert geojson_geometries(np.zeros((1, 4, 2)), turned(0), crs) is None
    ground = ground_sizes(boxes((0, 0, 10, 5, 0)), (2.0, 0.0, 0.0, 0.0, -2.0, 0.0), crs)
    np.testing.assert_allclose([ground.length[0], ground.width[0], ground.bearing[0]], [6.096, 3.048, 90], rtol=1e-6)


@given(st.floats(-70, 70), st.floats(-179, 179))
def test_there_and_back_within_a_hundredth_of_a_pixel(latitude: float, longitude: float) -> None:
    """CRS not WGS84: to longitude and latitude with 7 decimals and back, the corners move by 0.01 pixels at most."""
    zone = int((longitude + 180) // 6) + 1
    crs = f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"
    x, y = transform("EPSG:4326", crs, [longitude], [latitude])
    place = (1.0, 0.2, x[0], 0.2, -1.0, y[0])  # metres a pixel, turned
    quads = corner_points(boxes((40, 30, 20, 9, 0.7)))
    shapes = geojson_geometries(quads, place, crs)
    assert shapes is not None
    if shapes[0]["type"] == "MultiPolygon":
        return
    ring = np.array(shapes[0]["coordinates"][0])
    assert (np.roll(ring[:-1], -1, axis=0) - ring[:-1]).shape == (4, 2)
    area = np.sum(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1])
    assert area > 0, "counter-clockwise"
    back = np.stack(transform("EPSG:4326", crs, ring[:-1, 0], ring[:-1, 1]), axis=-1)
    expected = to_world(quads, place)[0]
    distance = np.linalg.norm(back[:, None] - expected[None], axis=2).min(axis=1)
    assert distance.max() < 0.01 * np.hypot(1.0, 0.2) + 0.01, distance


def test_no_boxes() -> None:
    assert geojson_geometries(np.zeros((0, 4, 2)), turned(0), UTM) == []
    assert ground_sizes(boxes(), turned(0), UTM).length.shape == (0,)
