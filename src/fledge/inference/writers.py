"""Detections to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fledge.data.labels import class_file_name
from fledge.data.raster import COLOUR, IMAGE_SUFFIXES, PixelRule, read_image
from fledge.errors import DataError, UsageError
from fledge.files import write_bytes
from fledge.types import Detections
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import encode, to_rgb

Texts = dict[str, str]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images among some files and folders (not their subfolders), sorted within each folder.

    Raises:
        DataError: a path does not exist, or there is no image at all.
        UsageError: two images share a stem, so their results would overwrite each other.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"no such image: {path}: check the path")
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        files.extend(inside)
    if not files:
        raise DataError(f"no images: {', '.join(map(str, paths))}: give {', '.join(sorted(IMAGE_SUFFIXES))} files")
    by_stem: dict[str, Path] = {}
    for file in files:
        if by_stem.setdefault(file.stem, file) != file:
            raise UsageError(f"two images named {file.stem}: {by_stem[file.stem]} and {file}: run them apart")
    return files


def write_detections(found: Sequence[Detections], folder: Path, form: str) -> list[Path]:
    """Write the detections of several images as ``geojson`` (a file an image), ``dota`` (``Task1_<class>.txt``) or
    ``coco`` (one ``detections.json``). Returns the files."""
    written = []
    for name, text in WRITERS[form](found).items():
        write_bytes(folder / name, text.encode())
        written.append(folder / name)
    return written


def draw_pictures(
    found: Sequence[Detections], files: Sequence[Path], folder: Path, pixels: PixelRule = COLOUR
) -> list[Path]:
    """Draw the boxes of each image, read by the rule ``pixels``, into ``<stem>.detections.jpg``. Returns the files."""
    written = []
    for detections, file in zip(found, files, strict=True):
        picture = draw_boxes(
            to_rgb(read_image(file, pixels)),
            detections.boxes,
            detections.labels,
            detections.classes,
            scores=detections.scores,
            captions=True,
        )
        path = folder / f"{file.stem}.detections.jpg"
        write_bytes(path, encode(picture, "jpeg", 90))
        written.append(path)
    return written


def _geojson(found: Sequence[Detections]) -> Texts:
    return {f"{d.frame.image_id}.geojson": json.dumps(d.to_geojson(), allow_nan=False) for d in found}


def _dota(found: Sequence[Detections]) -> Texts:
    lines: dict[str, list[str]] = {}
    for detections in found:
        for name, rows in detections.to_dota().items():
            lines.setdefault(name, []).extend(rows)
    return {f"Task1_{class_file_name(name)}.txt": "".join(f"{row}\n" for row in rows) for name, rows in lines.items()}


def _coco(found: Sequence[Detections]) -> Texts:
    records = [record for detections in found for record in detections.to_coco()]
    return {"detections.json": json.dumps(records, allow_nan=False)}


WRITERS: dict[str, Callable[[Sequence[Detections]], Texts]] = {"geojson": _geojson, "dota": _dota, "coco": _coco}
