"""Detections as JSON that a client can use."""

from __future__ import annotations

from typing import Any

from fledge.errors import UsageError
from fledge.types import Detections
from fledge.visualize.map_page import ground


def in_pixels(found: Detections) -> dict[str, Any]:
    """Boxes and polygons in pixels of the image: x to the right, y down, from the outer corner of the first pixel.

    Where the image is georeferenced, its transform and reference system, the ground length of a pixel in its middle
    and the direction of north there (radians clockwise from the top) are told, too.
    """
    height, width = found.frame.size or (0, 0)
    rows = zip(found.names, found.scores.tolist(), found.boxes.tolist(), found.corners.tolist(), strict=True)
    return {
        "image": found.frame.image_id,
        "width": width,
        "height": height,
        "coordinates": "pixels",
        **ground(found.frame),
        "classes": list(found.classes),
        "detections": [
            {
                "class": name,
                "score": round(score, 6),
                "box": dict(zip(("cx", "cy", "w", "h", "angle"), (round(v, 4) for v in box), strict=True)),
                "polygon": [[round(x, 3), round(y, 3)] for x, y in quad],
            }
            for name, score, box, quad in rows
        ],
    }


def answer(found: Detections, form: str) -> tuple[dict[str, Any], str]:
    """The JSON object and its media type.

    Args:
        found: the objects.
        form: ``geojson``, ``pixels``, or ``auto`` for the first where the image is georeferenced.

    Raises:
        UsageError: GeoJSON of an image without coordinates.
    """
    if form == "geojson" and not found.frame.has_lonlat():
        raise UsageError("no GeoJSON: the image has no coordinates on the ground: ask for format=pixels")
    if form == "pixels" or not found.frame.has_lonlat():
        return in_pixels(found), "application/json"
    return found.to_geojson(), "application/geo+json"
