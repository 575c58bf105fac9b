"""Detection in a scene of any size, of which only windows are ever in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fledge.inference.model import WindowModel

Format = Literal["gpkg", "geojson", "csv", "dota", "coco", "yolo"]


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is looked at and what becomes of the result.

    Attributes:
        format: of the result; one file a scene, but folders for ``dota`` and ``yolo``.
        score: detections below are left out.
        batch_size: windows computed at once; fewer where memory does not suffice.
        scale: network pixels for each pixel of the scene; None: the scale of the training images.
        stretch: percentiles (low, high) of the scene's own samples that become 0 and 255; None: as in training.
        overwrite: replace an existing result.
        restart: forget what an interrupted run has finished.
        allow_holes: write a result even if windows could not be read, marked as incomplete.
        allow_remote: also open addresses (``https://``, ``/vsicurl/`` …) and let GDAL fetch them.
        picture: also draw a reduced picture of the scene with its boxes.
    """

    format: Format = "gpkg"
    score: float = 0.3
    batch_size: int = 4
    scale: float | None = None
    stretch: tuple[float, float] | None = None
    overwrite: bool = False
    restart: bool = False
    allow_holes: bool = False
    allow_remote: bool = False
    picture: bool = False


@dataclass(frozen=True)
class SceneResult:
    """What ``detect_scene`` did.

    Attributes:
        files: written, the result first.
        objects: how many are in it.
        windows: of the scene.
        skipped: windows without a single pixel of data.
        holes: windows that could not be read.
        notes: what the user should know, a line each.
    """

    files: tuple[Path, ...]
    objects: int
    windows: int
    skipped: int
    holes: int
    notes: tuple[str, ...]


def detect_scene(
    model: WindowModel,
    path: str | Path,
    out: Path,
    settings: SceneSettings = SceneSettings(),
    advance: Callable[[int, int], None] | None = None,
) -> SceneResult:
    """Find the objects of one image or raster of any size and write them to ``out``.

    Killed at any instant and called again with the same arguments, it goes on where it was, from a journal beside
    ``out``, and ends with the same bytes.

    Args:
        model: from ``fledge.runs.load_model``.
        path: the scene.
        out: file (a folder for ``dota`` and ``yolo``) of the result.
        settings: see there.
        advance: called with the numbers of finished and of all windows.

    Raises:
        UsageError: ``out`` exists, or the format cannot hold what the scene is.
        DataError: the scene is refused, windows could not be read, or the journal is of something else or damaged.
        NumericError: a score or box is not finite.
        ResourceError: a disk, memory or file problem; the journal stays.
    """
    raise NotImplementedError
