"""How scenes are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["gpkg", "geojson", "csv", "dota", "coco", "yolo"]


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is looked at and what becomes of the result.

    Attributes:
        format: of the result; one file a scene, but folders for ``dota`` and ``yolo``.
        score: detections below are left out.
        batch_size: windows computed at once, fewer where memory does not suffice; on a CPU one at a time is fastest.
        scale: network pixels for each pixel of the scene; None: the scale of the training images.
        bands: to read, counted from 1, as many as the detector has channels; none: as in training.
        range: samples (low, high) that become 0 and 255; None: as in training.
        percentiles: (low, high); instead of a range, the samples between which these parts of the scene lie.
        overwrite: replace an existing result.
        restart: forget what an interrupted run has finished.
        allow_holes: write a result even if windows could not be read, marked as incomplete.
        picture: also draw a reduced picture of the scene with its boxes.
    """

    format: Format = "gpkg"
    score: float = 0.3
    batch_size: int = 1
    scale: float | None = None
    bands: tuple[int, ...] = ()
    range: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    overwrite: bool = False
    restart: bool = False
    allow_holes: bool = False
    picture: bool = False


DEFAULT = SceneSettings()
