"""A scene and the objects in it as one HTML file that pans, zooms and filters, and asks nobody for anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fledge.geometry.georeference import ground_sizes, to_lonlat, to_world
from fledge.types import Detections, Frame
from fledge.visualize.images import Image, data_uri
from fledge.visualize.markup import Markup, escape
from fledge.visualize.shell import document
from fledge.visualize.style import own_file
from fledge.visualize.viewer import class_rows, embedded, viewer_markup, viewer_script, viewer_style


def map_page(found: Detections, picture: Image | None, title: str, facts: Sequence[str] = ()) -> str:
    """The page.

    Args:
        found: the objects; their frame's size is that of the scene. Lengths are in metres and north is shown where
            the frame has a transform and a reference system.
        picture: (H, W, 3) uint8 RGB, the whole scene reduced to any size; None: the boxes lie on plain ground.
        title: of the page.
        facts: a few words each, below the title.
    """
    image = "" if picture is None else f'<img id="picture" alt="" hidden src="{data_uri(picture, quality=80)}">'
    kinds = len(set(found.labels.tolist()))
    words = [f"{len(found)} objects of {kinds} classes", *facts]
    body = Markup(
        f'<main class="map"><header><h1>{escape(title)}</h1><p>{escape(" · ".join(words))}</p></header>'
        f"{viewer_markup()}<noscript><p>The map needs JavaScript, which this page brings with it.</p></noscript></main>"
        f"{image}{embedded(scene_data(found), 'scene')}"
    )
    return document(title, viewer_style() + own_file("map.css"), body, viewer_script(own_file("map.js")))


def scene_data(found: Detections) -> dict[str, Any]:
    """What ``viewer.py`` describes, of some detections: of their classes only those that occur."""
    height, width = found.frame.size or (1, 1)
    boxes = found.boxes.double().numpy()
    used, labels = np.unique(found.labels.numpy(), return_inverse=True)
    colours = class_rows(found.classes)
    transform, crs = found.frame.transform, found.frame.crs
    sizes, bearings = boxes[:, 2:4], None
    if transform is not None and crs is not None:
        measured = ground_sizes(boxes, transform, crs)
        sizes, bearings = np.stack([measured.length, measured.width], axis=1), measured.bearing.round(1).tolist()
    return {
        "width": width,
        "height": height,
        "classes": [colours[i] for i in used.tolist()],
        "boxes": np.concatenate([boxes[:, :4].round(2), boxes[:, 4:].round(4)], axis=1).reshape(-1).tolist(),
        "sizes": sizes.round(2).reshape(-1).tolist(),
        "bearings": bearings,
        "scores": found.scores.double().numpy().round(3).tolist(),
        "labels": labels.reshape(-1).tolist(),
        **ground(found.frame),
    }


def ground(frame: Frame) -> dict[str, Any]:
    """Scale and orientation of a scene in its middle, its transform and its reference system; of one without a place
    in the world, nothing."""
    if frame.transform is None or frame.crs is None:
        return {}
    height, width = frame.size or (1, 1)
    at = width / 2, height / 2
    box = np.array([[*at, 1.0, 1.0, 0.0]])
    across = ground_sizes(box, frame.transform, frame.crs)
    points = to_world(np.array(at) + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), frame.transform)
    lonlat = to_lonlat(points, frame.crs)
    plane = points if lonlat is None else lonlat * [math.cos(math.radians(lonlat[0, 1])), 1.0]
    # North (0, 1) as a combination of a step to the right and a step down.
    right, down = np.linalg.solve((plane[1:] - plane[0]).T, [0.0, 1.0]).tolist()
    return {
        "metres_per_pixel": math.sqrt(float(across.length[0] * across.width[0])),
        "north": round(math.atan2(right, -down), 4) + 0.0,
        "transform": list(frame.transform),
        "crs": frame.crs if frame.crs.startswith("EPSG:") else "",
    }
