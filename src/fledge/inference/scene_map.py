"""Results of a scene as an HTML map, over the scene itself or on plain ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fledge.data.image_header import read_header
from fledge.data.raster import COLOUR, PixelRule
from fledge.data.scene_file import SceneFile
from fledge.errors import DataError, UsageError
from fledge.files import write_bytes
from fledge.geometry.boxes import boxes_from_quads
from fledge.inference.results import Floats, Results, read_results
from fledge.types import Detections, Frame
from fledge.visualize.images import Image, to_rgb
from fledge.visualize.map_page import map_page

SIDE = 3000  # pixels of the picture in the page
_PLAIN_SIDE = 4000  # pixels across ground without a picture
_USUAL = (2.0, 98.0)  # percentiles that become black and white where samples have more than 8 bits


def write_map(
    results: Path, out: Path, image: Path | None = None, bands: Sequence[int] = (), title: str | None = None
) -> int:
    """Draw the objects of a result file over their scene, as one HTML file that works offline.

    Args:
        results: GeoPackage or GeoJSON of ``fledge detect``.
        out: the page.
        image: the scene; None: the boxes lie on plain ground.
        bands: three bands of the scene to show, counted from 1.
        title: by default the name of the scene or of the results.

    Returns:
        How many objects it shows.

    Raises:
        DataError: a file cannot be read, or objects lie nowhere near the scene.
        UsageError: results in a reference system, and a scene without one.
        ResourceError: ``out`` cannot be written.
    """
    found = read_results(results)
    frame, picture = _plain(found, results.stem) if image is None else _scene(image, bands)
    detections = _detections(found, frame, results)
    facts = [frame.crs] if frame.crs and frame.crs.startswith("EPSG:") else []
    page = map_page(detections, picture, title or frame.image_id, facts)
    write_bytes(out, page.encode())
    return len(detections)


def _scene(image: Path, bands: Sequence[int]) -> tuple[Frame, Image]:
    rule = replace(COLOUR, bands=tuple(bands)) if bands else PixelRule()
    scene = SceneFile(image, rule, None if 1 <= read_header(image).bits <= 8 else _USUAL)
    try:
        return scene.frame, to_rgb(scene.overview(SIDE))
    finally:
        scene.close()


def _plain(found: Results, name: str) -> tuple[Frame, None]:
    """A frame around all corners, north up, for results without their scene."""
    points = found.quads.reshape(-1, 2) if len(found.quads) else np.zeros((1, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum((high - low) * 1.1, 1e-6 if found.crs else 1.0)
    if found.crs is None:
        height, width = (math.ceil(v) for v in high[::-1].clip(1))
        return Frame(name, (height, width)), None
    squeeze = math.cos(math.radians(middle[1])) if _in_degrees(found.crs) else 1.0  # a degree of longitude is shorter
    step = max(extent[0] * squeeze, extent[1]) / _PLAIN_SIDE
    width, height = math.ceil(extent[0] * squeeze / step), math.ceil(extent[1] / step)
    transform = (step / squeeze, 0.0, middle[0] - extent[0] / 2, 0.0, -step, middle[1] + extent[1] / 2)
    return Frame(name, (height, width), transform, found.crs), None


def _in_degrees(crs: str) -> bool:
    from rasterio.crs import CRS

    return bool(CRS.from_user_input(crs).is_geographic)


def _detections(found: Results, frame: Frame, path: Path) -> Detections:
    """The objects in pixels of a scene, best first."""
    quads = found.quads if found.crs is None else _pixels(found.quads, found.crs, frame)
    height, width = frame.size or (1, 1)
    inside = (quads >= 0) & (quads <= [width, height])
    if len(quads) and not inside.all(axis=2).any():
        raise DataError(f"objects elsewhere: {path}: not one lies in {frame.image_id}: give the scene they are of")
    classes = sorted(set(found.names))
    order = np.argsort(-found.scores, kind="stable")
    labels = torch.tensor([classes.index(found.names[i]) for i in order], dtype=torch.int64)
    boxes = boxes_from_quads(torch.from_numpy(quads[order].reshape(-1, 4, 2)))
    return Detections(boxes, torch.from_numpy(found.scores[order]), labels, tuple(classes), frame)


def _pixels(quads: Floats, crs: str, frame: Frame) -> Floats:
    """Corners (N, 4, 2) of a reference system in pixels of a scene."""
    if frame.transform is None or frame.crs is None:
        raise UsageError(f"no coordinates: {frame.image_id}: the results have {crs}: give the scene they were found in")
    from rasterio.warp import transform

    x, y = quads.reshape(-1, 2).T
    if len(x) and crs != frame.crs:
        x, y = (np.asarray(v) for v in transform(crs, frame.crs, x, y))
    a, b, c, d, e, f = frame.transform
    if _in_degrees(frame.crs):  # a scene over the 180th meridian counts on, or back, beyond it
        height, width = frame.size or (1, 1)
        x = x + 360 * np.round((a * width / 2 + b * height / 2 + c - x) / 360)
    points = np.linalg.solve(np.array([[a, b], [d, e]]), np.stack([x - c, y - f]))
    return points.T.reshape(-1, 4, 2)
