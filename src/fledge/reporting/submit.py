"""Files for the servers of DOTA and FAIR1M, in one zip.

DOTA: ``Task1_<class>.txt`` or ``Task2_<class>.txt`` for every class, flat, as
https://captain-whu.github.io/DOTA/tasks.html asks. FAIR1M: ``test/<image>.xml`` for every image, as the converter of
LSKNet (tools/data/fair/dota_to_fair.py) writes them; what that server checks beyond is not verified.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from fledge.data.catalogue.dota import DOTA_V10_CLASSES, DOTA_V15_CLASSES
from fledge.data.catalogue.fair1m import FAIR1M_CLASSES
from fledge.data.labels import LabelProblem, class_key, refuse
from fledge.errors import UsageError
from fledge.evaluation.results.listing import Floats, Integers, Listing
from fledge.files import write_bytes

Sizes = Mapping[str, tuple[str, int, int]]
"""From an image's name to its file name, height and width."""


def write_submission(listing: Listing, protocol: str, path: Path, sizes: Sizes | None = None) -> Path:
    """A zip for the server of a protocol.

    Args:
        listing: detections in whole images.
        protocol: ``dota``, ``dota_task2``, ``dota_v15``, ``dota_v15_task2`` or ``fair1m``.
        path: of the zip.
        sizes: of all images of the test set; without it only the images with a detection are known.

    Raises:
        UsageError: there is no such form, or ``path`` is no zip.
        DataError: detections of a class that the server does not know.
    """
    if protocol not in _FORMS:
        raise UsageError(f"no submission for protocol {protocol}: there is one for {', '.join(_FORMS)}")
    if path.suffix != ".zip":
        raise UsageError(f"not a zip: --submit {path}: end its name in .zip")
    official, texts = _FORMS[protocol]
    names = {class_key(name): k for k, name in enumerate(official)}
    label = np.array([names.get(class_key(name), -1) for name in listing.classes], dtype=np.int64)[listing.label]
    refuse(_problems(listing, label, protocol), listing.form, content="detections")
    known = sizes if sizes is not None else {name: (f"{name}.tif", 0, 0) for name in listing.images}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts(listing, label.tolist(), official, known).items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)  # the same bytes on any day
    write_bytes(path, content.getvalue())
    return path


def _problems(listing: Listing, label: Integers, protocol: str) -> list[LabelProblem]:
    """Detections of classes that the server does not know, and of images whose names cannot be file names."""
    remedy = f"protocol {protocol} has {len(_FORMS[protocol][0])} classes"
    paths = np.array([bool(set(name) & set("/\\:")) for name in listing.images], dtype=np.bool_)[listing.image]
    problems = []
    for i in np.flatnonzero((label < 0) | paths).tolist():
        what, kind = f"unknown class {listing.classes[listing.label[i]]!r}", "class"
        if paths[i]:
            what, remedy, kind = f"image {listing.images[listing.image[i]]!r}", "write its name only", "image"
        problems.append(LabelProblem(listing.where(i), what, remedy, kind))
    return problems


Texts = Callable[[Listing, Sequence[int], Sequence[str], Sizes], dict[str, str]]


def _task1(listing: Listing, labels: Sequence[int], official: Sequence[str], _: Sizes) -> dict[str, str]:
    return _tasks(listing, labels, official, "Task1", listing.quads.reshape(-1, 8))


def _task2(listing: Listing, labels: Sequence[int], official: Sequence[str], _: Sizes) -> dict[str, str]:
    hulls = np.concatenate([listing.quads.min(axis=1), listing.quads.max(axis=1)], axis=1)
    return _tasks(listing, labels, official, "Task2", hulls)


def _tasks(
    listing: Listing, labels: Sequence[int], official: Sequence[str], task: str, points: Floats
) -> dict[str, str]:
    lines: list[list[str]] = [[] for _ in official]
    rows = zip(labels, listing.image.tolist(), listing.score.tolist(), points.tolist(), strict=True)
    for label, image, score, numbers in rows:
        place = " ".join(f"{v:.2f}" for v in numbers)
        lines[label].append(f"{listing.images[image]} {score:.6f} {place}\n")
    return {f"{task}_{name}.txt": "".join(mine) for name, mine in zip(official, lines, strict=True)}


def _fair1m(listing: Listing, labels: Sequence[int], official: Sequence[str], sizes: Sizes) -> dict[str, str]:
    objects: dict[str, list[str]] = {name: [] for name in sizes}
    rows = zip(labels, listing.image.tolist(), listing.score.tolist(), listing.quads.tolist(), strict=True)
    for label, image, score, quad in rows:
        points = "".join(f"<point>{x:.6f}, {y:.6f}</point>" for x, y in [*quad, quad[0]])
        objects.setdefault(listing.images[image], []).append(
            "<object><coordinate>pixel</coordinate><type>rectangle</type><description>None</description>"
            f"<possibleresult><name>{escape(official[label])}</name><probability>{score:.6f}</probability>"
            f"</possibleresult><points>{points}</points></object>\n"
        )
    return {f"test/{name}.xml": _annotation(name, mine, sizes) for name, mine in objects.items()}


def _annotation(name: str, objects: Sequence[str], sizes: Sizes) -> str:
    file, height, width = sizes.get(name, (f"{name}.tif", 0, 0))
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n" if height else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n'
        f"<source><filename>{escape(file)}</filename><origin>GF2/GF3</origin></source>\n"
        "<research><version>1.0</version><provider>fledge</provider><author>fledge</author>"
        "<pluginname>FAIR1M</pluginname><pluginclass>object detection</pluginclass><time>2021-03</time></research>\n"
        f"{size}<objects>\n{''.join(objects)}</objects>\n</annotation>\n"
    )


_FORMS: dict[str, tuple[Sequence[str], Texts]] = {
    "dota": (DOTA_V10_CLASSES, _task1),
    "dota_task2": (DOTA_V10_CLASSES, _task2),
    "dota_v15": (DOTA_V15_CLASSES, _task1),
    "dota_v15_task2": (DOTA_V15_CLASSES, _task2),
    "fair1m": (FAIR1M_CLASSES, _fair1m),
}
