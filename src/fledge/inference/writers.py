"""Objects to files: the table of formats, and those in text."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fledge.errors import UsageError
from fledge.files import replacing
from fledge.geometry.georeference import to_lonlat, to_world
from fledge.inference.found import Found
from fledge.inference.map_files import chunks, columns, plain, write_geojson, write_geopackage
from fledge.types import Detections

# A spreadsheet would run a cell that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TOLD = ("image", "class", "score", "angle", "length_px", "width_px", "length_m", "width_m", "bearing", "window_x",
         "window_y")  # fmt: skip
_PLACE = ("x_px", "y_px", "lon", "lat", "crs", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")


def write_csv(found: Sequence[Found], out: Path) -> None:
    """A table: a row an object, the corners x1 … y4 in the scene's reference system, or in pixels without one."""
    with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*_TOLD, *_PLACE))
        for scene in found:
            for some in chunks(scene):
                writer.writerows(_rows(some))


def _rows(found: Found) -> list[list[object]]:
    told, frame, count = columns(found), found.frame, len(found)
    points, lonlat, system = found.corners, None, "pixels"
    if frame.transform is not None and frame.crs is not None:
        points, system = to_world(points, frame.transform), frame.crs
        lonlat = to_lonlat(to_world(found.boxes[:, :2], frame.transform), frame.crs)
    table = [told[name].tolist() if name in told else [""] * count for name in _TOLD]
    table += found.boxes[:, :2].round(3).T.tolist()
    table += [[""] * count] * 2 if lonlat is None else lonlat.round(7).T.tolist()
    table += [[system] * count, *points.reshape(-1, 8).round(7 if _in_degrees(found) else 3).T.tolist()]
    return [[_cell(value) for value in row] for row in zip(*table, strict=True)]


def _in_degrees(found: Found) -> bool:
    """Whether a unit of the scene's system is so large that thousandths of it are not enough."""
    return found.frame.crs is not None and abs(np.array(found.frame.transform or [1.0])[[0, 1, 3, 4]]).max() < 0.01


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else plain(value)


def write_coco(found: Sequence[Found], out: Path) -> None:
    """A list of COCO result records; ``image_id`` is the image's name, ``category_id`` counts from 1."""
    with replacing(out) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        before = "\n"
        for scene in found:
            for some in chunks(scene):
                columns(some)  # refuses what is not finite
                for record in _coco_records(some):
                    file.write(before + json.dumps(record, allow_nan=False))
                    before = ",\n"
        file.write("\n]\n")


def _coco_records(found: Found) -> list[dict[str, Any]]:
    quads = found.corners
    low, high = quads.min(axis=1), quads.max(axis=1)
    hulls = np.concatenate([low, high - low], axis=1).round(3).tolist()
    rows = zip(found.labels.tolist(), found.scores.tolist(), hulls, quads.reshape(-1, 8).round(3).tolist(), strict=True)
    return [
        {
            "image_id": found.frame.image_id,
            "category_id": label + 1,
            "score": round(score, 6),
            "bbox": hull,
            "segmentation": [quad],
        }
        for label, score, hull, quad in rows
    ]


def write_dota(found: Sequence[Found], out: Path) -> None:
    """DOTA Task 1: ``Task1_<class>.txt`` in a folder, lines ``image score x1 y1 … x4 y4``."""
    classes = found[0].classes
    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(out / f"Task1_{name}.txt")) for name in classes]
        files = [stack.enter_context(part.open("w", encoding="utf-8")) for part in parts]
        for scene in found:
            for some in chunks(scene):
                columns(some)
                rows = zip(
                    some.labels.tolist(), some.scores.tolist(), some.corners.reshape(-1, 8).tolist(), strict=True
                )
                for label, score, quad in rows:
                    xy = " ".join(f"{v:.2f}" for v in quad)
                    files[label].write(f"{some.frame.image_id} {score:.4f} {xy}\n")


def write_yolo(found: Sequence[Found], out: Path) -> None:
    """YOLO-OBB with scores: ``<image>.txt`` in a folder, lines ``class x1 y1 … x4 y4 score``, as shares of the image's
    width and height; ``classes.txt`` names the classes."""
    with replacing(out / "classes.txt") as part:
        part.write_text("".join(f"{name}\n" for name in found[0].classes), encoding="utf-8")
    for scene in found:
        height, width = scene.frame.size or (1, 1)
        with replacing(out / f"{scene.frame.image_id}.txt") as part, part.open("w", encoding="utf-8") as file:
            for some in chunks(scene):
                columns(some)
                shares = (some.corners / [width, height]).reshape(-1, 8).tolist()
                for label, score, row in zip(some.labels.tolist(), some.scores.tolist(), shares, strict=True):
                    file.write(f"{label} {' '.join(f'{v:.9g}' for v in row)} {score:.6g}\n")


@dataclass(frozen=True)
class Form:
    """One format.

    Attributes:
        name: of the file in a folder of results, where ``*`` stands for the scene; empty: the folder itself is meant.
        joint: one file or folder holds the objects of many scenes.
        write: the objects of some scenes, of one if not ``joint``, to a file, or folder.
        files: what it writes for these class names and scenes, relative to that folder.
    """

    name: str
    joint: bool
    write: Callable[[Sequence[Found], Path], None]
    files: Callable[[Sequence[str], Sequence[str]], list[str]] = lambda _classes, _scenes: []


FORMS: dict[str, Form] = {
    "gpkg": Form("*.gpkg", False, lambda found, out: write_geopackage(found[0], out)),
    "geojson": Form("*.geojson", False, lambda found, out: write_geojson(found[0], out)),
    "csv": Form("detections.csv", True, write_csv),
    "coco": Form("detections.json", True, write_coco),
    "dota": Form("", True, write_dota, lambda classes, _: [f"Task1_{name}.txt" for name in classes]),
    "yolo": Form("", True, write_yolo, lambda _, scenes: ["classes.txt", *(f"{name}.txt" for name in scenes)]),
}
SUFFIXES = {".gpkg": "gpkg", ".geojson": "geojson", ".csv": "csv", ".json": "coco"}


def form_of(out: Path, wanted: str | None) -> str:
    """The format that a path's ending and the user's word agree on; GeoPackage in a folder.

    Raises:
        UsageError: they disagree.
    """
    by_name = SUFFIXES.get(out.suffix.lower())
    if wanted is not None and by_name is not None and by_name != wanted:
        raise UsageError(f"which format: {out}: the name says {by_name}, --format says {wanted}: change one")
    return wanted or by_name or "gpkg"


def targets(out: Path, form: str, scenes: Sequence[str], classes: Sequence[str]) -> list[Path]:
    """The files that the results of scenes of these names will be, for ``out`` a file or a folder.

    Raises:
        UsageError: one file is asked for and the format holds one scene a file.
    """
    kind = FORMS[form]
    if not kind.name:
        return [out / name for name in kind.files(classes, scenes)]
    if out.suffix.lower() not in SUFFIXES:
        return [out / kind.name] if kind.joint else [out / kind.name.replace("*", scene) for scene in scenes]
    if len(scenes) > 1 and not kind.joint:
        raise UsageError(f"one file for {len(scenes)} scenes: {out}: give a folder as --out, or csv or coco")
    return [out]


def write_found(found: Sequence[Found], out: Path, form: str) -> list[Path]:
    """Write the objects of some scenes with one list of classes to ``out``, a file or a folder; returns the files.

    Raises:
        UsageError: the format cannot hold them.
        NumericError: a score or box is not finite.
        ResourceError: a file cannot be written; it is then as it was before.
    """
    if not found:
        return []
    kind = FORMS[form]
    files = targets(out, form, [f.frame.image_id for f in found], found[0].classes)
    if kind.joint:
        kind.write(found, files[0] if kind.name else out)
        return files
    for scene, file in zip(found, files, strict=True):
        kind.write([scene], file)
    return files


def write_detections(found: Sequence[Detections], out: Path, form: str) -> list[Path]:
    """Write the detections of several images to ``out`` in one of ``FORMS``; returns the files. See ``write_found``."""
    return write_found([Found.of(d) for d in found], out, form)
