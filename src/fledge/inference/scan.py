"""Showing the windows of a scene to a model, one group after another, each finished one remembered in a journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.raster import PixelRule
from fledge.data.scene_file import SceneFile
from fledge.errors import DataError, NumericError, ResourceError, UsageError
from fledge.inference.ahead import read_ahead
from fledge.inference.found import Found, Hole, gather, merge
from fledge.inference.journal import Journal, Record, read_journal
from fledge.inference.model import WindowModel, stack
from fledge.inference.predictor import default_scale, resized
from fledge.inference.settings import DEFAULT, SceneSettings
from fledge.inference.source import SceneSource
from fledge.inference.windows import WindowGrid
from fledge.types import Detections, Frame, no_geojson

Image = NDArray[np.uint8]
Progress = Callable[[int, int], None]

_FAILURES = 16  # windows that cannot be read, one after another, before a scene is given up
_MANY_CUT = 0.01  # share of boxes longer than the overlap that is worth a word


@dataclass(frozen=True)
class Scan:
    """What became of the windows of a scene.

    Attributes:
        windows: how many there are.
        skipped: of those, without a single pixel of data.
        holes: that could not be read.
        notes: what the user should know, a line each.
    """

    windows: int
    skipped: int
    holes: tuple[Hole, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """Neighbouring windows that were read: those to compute with their pixels, those without data, the unreadable."""

    numbers: tuple[int, ...]
    images: tuple[Image, ...]
    empty: tuple[int, ...]
    holes: tuple[Hole, ...]


def scan_scene(
    model: WindowModel,
    path: str | Path,
    journal: Path,
    settings: SceneSettings = DEFAULT,
    advance: Progress | None = None,
) -> Scan:
    """Finish all windows of a scene that ``journal`` does not hold yet.

    Args, errors: see ``fledge.inference.scene.detect_scene``.
    """
    source = SceneSource(path, pixel_rule(model, settings), settings.percentiles)
    try:
        if settings.format == "geojson" and not source.file.frame.has_lonlat():
            raise UsageError(no_geojson(source.file.frame.image_id))
        scale = settings.scale or default_scale(model, source.file.height, source.file.width)
        grid = scene_grid(source.file.height, source.file.width, model.image_size, model.overlap, scale)
        with Journal(journal, _identity(model, source, settings, scale)) as log:
            holes = _fill(model, source, grid, scale, settings, log, advance)
            empty = sum(record.empty for record in log.records())
    finally:
        source.file.close()
    return Scan(len(grid), empty, tuple(holes), tuple(_notes(source.file)))


def merged(journal: Path, holes: Sequence[Hole] = ()) -> tuple[Found, tuple[str, ...]]:
    """The objects of a scene whose windows are in a journal, merged, and what the user should know of them."""
    identity, records = read_journal(journal)
    side, overlap = identity["window"]
    height, width = identity["size"]
    grid = scene_grid(height, width, side, overlap, identity["scale"])
    parts = ((r.window, r.boxes, r.scores, r.labels) for r in records)
    seen = gather(parts, grid, identity["scale"])
    transform = tuple(identity["transform"]) if identity["transform"] else None
    frame = Frame(identity["name"], (height, width), transform, identity["crs"])
    notes = []
    if seen.cut > _MANY_CUT * len(seen.scores):
        notes.append(
            f"{identity['name']}: {seen.cut} of {len(seen.scores)} objects reach the border of their window, being "
            "longer than the overlap, and may be found in parts: use a larger `overlap`, or a smaller --scale"
        )
    return merge(seen, grid, identity["nms_iou"], identity["classes"], frame, holes), tuple(notes)


def scene_grid(height: int, width: int, side: int, overlap: int, scale: float) -> WindowGrid:
    """The windows of a scene, in its own pixels, for a network that sees ``side`` pixels at ``scale``."""
    own = max(1, int(side / scale + 1e-6))
    return WindowGrid(height, width, own, min(own - 1, int(np.ceil(overlap / scale - 1e-6))))


def pixel_rule(model: WindowModel, settings: SceneSettings) -> PixelRule:
    """How a scene's samples become bytes: as in training, but for what the settings say.

    Raises:
        UsageError: another number of bands than the model has channels, or a range that is none.
    """
    rule = model.pixels
    if settings.bands:
        rule = replace(rule, bands=settings.bands)
        if rule.channels != model.pixels.channels or min(settings.bands) < 1:
            raise UsageError(
                f"bands {list(settings.bands)}: the detector was trained on {model.pixels.channels} bands: name that "
                "many, counted from 1"
            )
    for what, pair in (("range", settings.range), ("percentiles", settings.percentiles)):
        if pair is not None and not pair[0] < pair[1]:
            raise UsageError(f"{what} {pair[0]:g} {pair[1]:g}: the first must be below the second")
    return rule if settings.range is None else replace(rule, range=settings.range)


def _fill(
    model: WindowModel,
    source: SceneSource,
    grid: WindowGrid,
    scale: float,
    settings: SceneSettings,
    journal: Journal,
    advance: Progress | None,
) -> list[Hole]:
    """Compute the windows that the journal lacks; those that could not be read."""
    holes: list[Hole] = []
    failed = 0  # windows that could not be read since the last that could
    runner = _Runner(model, settings.batch_size, source.path)

    def groups() -> Iterator[_Group]:
        for numbers in grid.groups(settings.batch_size):
            # A group that is partly done is computed whole: what a batch holds may show in the last bits.
            if not journal.done.issuperset(numbers):
                source.check()
                yield _read(source, grid, numbers, scale)

    with closing(read_ahead(groups)) as ahead:
        for group in ahead:
            holes += group.holes
            failed = 0 if group.numbers else failed + len(group.holes)
            if failed >= _FAILURES and not settings.allow_holes:
                raise DataError(_given_up(source.path, holes, len(grid)))
            seen = [*zip(group.numbers, runner(group.images), strict=True), *((number, None) for number in group.empty)]
            for number, found in seen:
                if number not in journal.done:
                    journal.append(_record(number, found, settings.score, source.path))
            if advance is not None:
                advance(len(journal.done) + len(holes), len(grid))
    return holes


def _given_up(path: Path, holes: Sequence[Hole], windows: int) -> str:
    last = holes[-1]
    return (
        f"incomplete: {path}: given up: {len(holes)} of {windows} windows cannot be read, {_FAILURES} of them one "
        f"after another, the last at column {last.x}, row {last.y} ({last.reason}): replace the file and add "
        "--restart, or run again with --allow-holes to try all and write the others; nothing is computed twice"
    )


def _read(source: SceneSource, grid: WindowGrid, numbers: range, scale: float) -> _Group:
    kept, images, empty, holes = [], [], [], []
    for number in numbers:
        window = grid[number]
        what = source.read(window)
        if isinstance(what, str):
            holes.append(Hole(window.x, window.y, window.width, window.height, what))
        elif what[1]:
            empty.append(number)
        else:
            kept.append(number)
            images.append(resized(what[0], scale))
    return _Group(tuple(kept), tuple(images), tuple(empty), tuple(holes))


class _Runner:
    """A model on batches that shrink when memory does not suffice, and stay small."""

    def __init__(self, model: WindowModel, size: int, path: Path) -> None:
        self.model, self.size, self.path = model, size, path

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        while len(found) < len(images):
            some = images[len(found) : len(found) + self.size]
            try:
                found += self.model.run(*stack(some, self.model.pixels.channels))
            except MemoryError as error:
                if self.size == 1:
                    height, width = some[0].shape[:2]
                    raise ResourceError(
                        f"out of memory: {self.path}: one window of {width}x{height} pixels does not fit: {error}: use "
                        "--device cpu, or a detector with a smaller image_size"
                    ) from error
                self.size = max(1, min(self.size, len(some)) // 2)
        return found


def _record(number: int, found: Detections | None, least: float, path: Path) -> Record:
    if found is None:
        return Record(number, True, np.zeros((0, 5), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    boxes, scores = found.boxes.float().numpy(), found.scores.float().numpy()
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise NumericError(
            f"not finite: {path}: a score or box in window {number}: the detector's weights or the image are damaged"
        )
    kept = scores >= least
    return Record(number, False, boxes[kept], scores[kept], found.labels.numpy()[kept].astype(np.int32))


def _identity(model: WindowModel, source: SceneSource, settings: SceneSettings, scale: float) -> dict[str, object]:
    """What the boxes depend on, and what placing them needs."""
    frame = source.file.frame
    return {
        "scene": source.fingerprint,
        "name": frame.image_id,
        "size": [source.file.height, source.file.width],
        "transform": frame.transform and list(frame.transform),
        "crs": frame.crs,
        "model": model.fingerprint,
        "classes": list(model.classes),
        "window": [model.image_size, model.overlap],
        "nms_iou": model.nms_iou,
        "scale": scale,
        "score": settings.score,
        "batch_size": settings.batch_size,
        "bands": list(source.rule.bands),
        "range": source.rule.range and list(source.rule.range),
    }


def _notes(file: SceneFile) -> Iterator[str]:
    name = os.fspath(file.path)
    if file.frame.crs is None:
        yield f"{name}: no coordinate reference system in it: coordinates are pixels"
    if file.wide_strips:
        yield f"{name}: stored in strips as wide as the scene, which are decoded over and over: store it in tiles (COG)"
