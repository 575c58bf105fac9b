"""Detections of any tool, read from the files it writes.

``read_results`` recognises the form, ``found_of`` checks images and classes against the ground truth. Whatever is wrong
is a ``DataError`` that names file and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fledge.data.catalogue.dior import DIOR_CLASSES
from fledge.data.catalogue.dota import DOTA_V20_CLASSES
from fledge.data.datasets import coco, yolo_obb
from fledge.data.datasets.json_labels import load_json
from fledge.data.labels import DetectionDataset, LabelProblem, class_key, refuse
from fledge.errors import DataError
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.results.archive import read_zip
from fledge.evaluation.results.json_records import Ids, read_records
from fledge.evaluation.results.label_text import read_label_files
from fledge.evaluation.results.listing import Listing, Source
from fledge.evaluation.results.task_text import TASK_FILE, read_task_files
from fledge.geometry.boxes import boxes_from_quads

FORMS = """\
DOTA text:          Task1_<class>.txt or Task2_<class>.txt in a folder or a zip
COCO json:          a list of {"image_id", "category_id", "score", "bbox" or "segmentation"}
Ultralytics json:   predictions.json of `yolo obb val save_json=True`
Ultralytics labels: <image>.txt of `save_txt=True save_conf=True`, with the detector's data.yaml beside them
fledge:             what `fledge detect` writes as dota, coco or yolo"""

_JSON_NAMES = ("predictions.json", "detections.json")
_PICKLES = (".pkl", ".pickle")
_MAPS = (".geojson", ".gpkg")
_OFFICIAL = {"dota": DOTA_V20_CLASSES, "dior_r": DIOR_CLASSES}


def read_results(path: Path, truth: DetectionDataset | None = None, horizontal: bool = False) -> Listing:
    """The detections in a file or folder of any form in ``FORMS``.

    Args:
        path: file or folder.
        truth: the ground truth, which gives numbers in the files their meaning; None where there is none.
        horizontal: of a folder that holds both, take the horizontal boxes (Task 2).

    Raises:
        DataError: no such form, or something in the files is not as it should be; all of it is named.
    """
    if path.is_dir():
        return _read_folder(path, truth, horizontal)
    if not path.is_file():
        raise DataError(f"no such file or folder: {path}: name the detections")
    source = _source(path)
    if path.suffix.lower() in _PICKLES or source.data[:1] == b"\x80":
        raise _pickle(path)
    if source.data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _read_tasks(read_zip(path), path, horizontal)
    if TASK_FILE.fullmatch(path.name):
        return read_task_files([source], int(path.name[4]), str(path))
    if path.suffix.lower() in _MAPS:
        raise _map(path)
    if path.suffix.lower() == ".json":
        return read_records(source, ids_of(truth, path.parent))
    raise DataError(f"not detections: {path}: give one of these forms:\n{FORMS}")


def found_of(listing: Listing, images: Sequence[str], classes: Sequence[str]) -> Found:
    """Detections over the images and classes of the ground truth, in their order.

    Class names match without regard to case, spaces, hyphens and underscores.

    Raises:
        DataError: detections of images or classes that the ground truth does not have.
    """
    image_index = {name: i for i, name in enumerate(images)}
    class_indices = {class_key(name): k for k, name in enumerate(classes)}
    image = np.array([image_index.get(name, -1) for name in listing.images], dtype=np.int64)[listing.image]
    label = np.array([class_indices.get(class_key(n), -1) for n in listing.classes], dtype=np.int64)[listing.label]
    problems = []
    for i in np.flatnonzero((image < 0) | (label < 0)).tolist():
        if label[i] < 0:
            what, kind = f"unknown class {listing.classes[listing.label[i]][:64]!r}", "class"
        else:
            what, kind = f"no image {listing.images[listing.image[i]][:200]!r} in the ground truth", "image"
        problems.append(LabelProblem(listing.where(i), what, "evaluate detections of this split only", kind))
    refuse(problems, listing.form, content="detections")
    boxes = boxes_from_quads(torch.from_numpy(listing.quads)).numpy()
    return Found(image, label, listing.score, listing.quads, boxes)


def objects_of(dataset: DetectionDataset) -> Objects:
    """The labelled objects of a split, nothing left out and no quadrilateral replaced."""
    image = np.repeat(np.arange(len(dataset), dtype=np.int64), np.diff(dataset.offsets))
    quads, boxes = dataset.quads.astype(np.float64), dataset.boxes.astype(np.float64)
    return Objects(image, dataset.labels, quads, boxes, dataset.difficult, dataset.ignore)


def case_from_files(dataset: DetectionDataset, listing: Listing, classes: Sequence[str] | None = None) -> Case:
    """A split and the detections in it, over ``classes``, or else over those of ``classes_of``.

    Raises:
        DataError: see ``found_of``.
    """
    names = tuple(classes_of(dataset, listing) if classes is None else classes)
    return Case(dataset.ids, names, objects_of(dataset), found_of(listing, dataset.ids, names))


def classes_of(dataset: DetectionDataset, *listings: Listing) -> tuple[str, ...]:
    """The classes of a split, and at the end the official ones that only the detections name."""
    known = {class_key(name) for name in dataset.classes}
    official = {class_key(name): name for name in _OFFICIAL.get(dataset.format, ())}
    written = {class_key(name) for listing in listings for name in listing.classes}
    return (*dataset.classes, *(name for key, name in official.items() if key in written - known))


def ids_of(truth: DetectionDataset | None, folder: Path) -> Ids:
    """What numbers in result files in ``folder`` mean: from the ground truth, or names in a file beside them."""
    images: dict[int | str, str] = {}
    categories: dict[int | str, str] = {}
    path = coco.split_files(truth.root).get(truth.split) if truth else None
    if path is not None:
        content = load_json(path, "COCO", "restore the ground truth")
        images = {entry["id"]: Path(str(entry["file_name"])).stem for entry in content["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    beside = [place for place in (folder, folder.parent) if (place / "data.yaml").is_file()]
    names = truth.classes if truth and truth.format == "yolo_obb" else ()
    if beside:
        names = yolo_obb.class_names(beside[0])
    elif (folder / "classes.txt").is_file():
        names = tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
    return Ids(images, truth.ids if truth else (), categories, names)


def _map(path: Path) -> DataError:
    return DataError(
        f"results for a map: {path}: their coordinates are the world's: let `fledge detect` write dota, coco or yolo"
    )


def _read_folder(path: Path, truth: DetectionDataset | None, horizontal: bool) -> Listing:
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if any(TASK_FILE.fullmatch(file.name) for file in files):
        return _read_tasks([_source(file) for file in files if TASK_FILE.fullmatch(file.name)], path, horizontal)
    results = [file for file in files if file.name in _JSON_NAMES]
    results = results or [file for file in files if file.suffix == ".json"]
    if len(results) > 1:
        raise DataError(f"several result files: {path}: {', '.join(f.name for f in results)}: name one of them")
    if results:
        return read_results(results[0], truth, horizontal)
    if any(file.suffix.lower() in _MAPS for file in files):
        raise _map(path)
    if any(file.suffix in _PICKLES for file in files):
        raise _pickle(path)
    labels = [file for file in files if file.suffix == ".txt" and file.name not in ("classes.txt",)]
    if labels:
        return _read_labels(labels, path, truth)
    if (path / "labels").is_dir():
        return _read_folder(path / "labels", truth, horizontal)
    raise DataError(f"no detections: {path}: give one of these forms:\n{FORMS}")


def _read_tasks(sources: list[Source], path: Path, horizontal: bool) -> Listing:
    tasks = {int(match[1]) for source in sources if (match := TASK_FILE.fullmatch(source.name))}
    if not tasks:
        raise DataError(f"no detections: {path}: give one of these forms:\n{FORMS}")
    task = (2 if horizontal else 1) if len(tasks) == 2 else tasks.pop()
    return read_task_files(sources, task, str(path))


def _read_labels(files: list[Path], path: Path, truth: DetectionDataset | None) -> Listing:
    names = ids_of(truth, path).names
    if truth is None:
        raise DataError(f"fractions of unknown images: {path}: give --ground-truth, or files in pixels")
    if not names:
        raise DataError(
            f"class indices have no names: {path}: tools number classes differently: put the detector's data.yaml "
            "(names: [plane, ship]) beside the label files"
        )
    sizes = {name: (int(h), int(w)) for name, (h, w) in zip(truth.ids, truth.sizes.tolist(), strict=True)}
    return read_label_files([_source(file) for file in files], dict(enumerate(names)), sizes, str(path))


def _source(path: Path) -> Source:
    try:
        return Source(path.name, str(path), path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read detections: {path}: {error.strerror}: check its permissions") from error


def _pickle(path: Path) -> DataError:
    return DataError(
        f"pickle refused: {path}: opening one can run any program: let MMRotate write text instead, with "
        "test_evaluator.format_only=True and outfile_prefix (a zip of Task1 files; json in mmdet), and give that"
    )
