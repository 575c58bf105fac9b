"""DOTA txt labels (DOTA-v1.0, v1.5, v2.0 and the many datasets written in their form).

One object per line: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``, pixels of the whole image, clockwise. Source: the
label format at https://captain-whu.github.io/DOTA/dataset.html; header lines and a missing ``difficult`` as in the
authors' DOTA_devkit (dota_utils.py), except that nothing else is skipped: every other line must be an object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fledge.data.datasets.folders import image_files, image_sizes, unique_stems
from fledge.data.labels import (
    CLASS_NAME,
    FARTHEST,
    THINNEST,
    DetectionDataset,
    LabelProblem,
    class_index,
    class_key,
    mend_quads,
    minimum_boxes,
    offsets_of,
    outside,
    quad_areas,
    refuse,
)
from fledge.errors import DataError

TREE = """\
DOTA txt:       ROOT/SPLIT/images/NAME.png          (or images/images/)
                ROOT/SPLIT/labelTxt/NAME.txt        (or labelTxt-v1.0/, labelTxt-v1.5/, labelTxt-v2.0/, annfiles/)
                each line: x1 y1 x2 y2 x3 y3 x4 y4 class difficult"""

DOTA_V10 = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor", "swimming-pool",
    "helicopter",
)  # fmt: skip
DOTA_V15 = (*DOTA_V10, "container-crane")
DOTA_V20 = (*DOTA_V15, "airport", "helipad")

LABEL_FOLDERS = ("labelTxt", "annfiles", "labelTxt-v2.0", "labelTxt-v1.5", "labelTxt-v1.0")
_HEADER = re.compile(r"(imagesource|gsd)\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FORM = "write x1 y1 x2 y2 x3 y3 x4 y4 class difficult"


class _Line(NamedTuple):
    file: int
    number: int
    corners: tuple[float, ...]
    name: str
    difficult: str | None


@dataclass
class _Parsed:
    """The object lines of all files, and what is wrong with the others."""

    files: list[Path]
    lines: list[_Line] = field(default_factory=list)
    faults: list[tuple[int, int, str, str]] = field(default_factory=list)

    def fault(self, line: _Line, what: str, remedy: str) -> None:
        self.faults.append((line.file, line.number, what, remedy))

    def problems(self) -> list[LabelProblem]:
        """All faults, one per line of a file, in the order of files and lines."""
        first = {fault[:2]: fault for fault in reversed(self.faults)}
        return [
            LabelProblem(f"{self.files[f]}:{n}", what, remedy) for (f, n), (_, _, what, remedy) in sorted(first.items())
        ]


def read_dota(root: Path, split: str, classes: Sequence[str] | None = None) -> DetectionDataset:
    """Index one split of a dataset in DOTA form; ``split=""`` reads a folder that is itself the split.

    An empty label file, or one with header lines only, is a valid image without objects. A missing ``difficult`` is 0;
    2 (an object cut by the tiling tools) counts as difficult. Quads whose sides cross are put in order.

    Args:
        root: the dataset's folder.
        split: the sub-folder.
        classes: the names in label order; names are matched without regard to case, spaces, hyphens and underscores.
            Without it the names found in this split are taken, DOTA's own in DOTA's order, others alphabetically: use
            ``dota_classes`` to get the same list for several splits.

    Raises:
        DataError: the folders are not there, images or label files are missing, or lines are bad (all are named).
    """
    images, label_files = _locate(root, split)
    ids = unique_stems(images)
    parsed = _parse(label_files)
    names = order_classes(line.name for line in parsed.lines) if classes is None else tuple(classes)
    labels = _labels(parsed, names)
    owner = np.array([line.file for line in parsed.lines], dtype=np.int64)
    raw = np.array([line.corners for line in parsed.lines], dtype=np.float64).reshape(-1, 4, 2)
    quads, crossed = mend_quads(raw)
    boxes = minimum_boxes(quads)
    sizes, unreadable = image_sizes(images)
    _check_boxes(parsed, quads, boxes, sizes[owner])
    refuse(unreadable + parsed.problems(), str(root / split))

    return DetectionDataset(
        root=root,
        split=split,
        format="dota",
        classes=names,
        paths=tuple(images),
        ids=ids,
        sizes=sizes,
        quads=quads.astype(np.float32),
        boxes=boxes,
        labels=labels,
        difficult=np.array([line.difficult in ("1", "2") for line in parsed.lines], dtype=np.bool_),
        ignore=np.zeros(len(labels), dtype=np.bool_),
        offsets=offsets_of(np.bincount(owner, minlength=len(images))),
        notes=_notes(parsed.lines, crossed, quads, boxes),
    )


def dota_classes(root: Path, splits: Iterable[str]) -> tuple[str, ...]:
    """The class names of several splits together, in one order, so that a label means the same in each.

    Raises:
        DataError: the folders or label files are missing.
    """
    names = {line.name for split in splits for line in _parse(_locate(root, split)[1]).lines}
    return order_classes(names)


def dota_splits(root: Path) -> tuple[str, ...]:
    """The sub-folders of ``root`` that hold images and labels; ("",) when ``root`` itself does."""
    if _is_split(root):
        return ("",)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return tuple(folder.name for folder in folders if folder.is_dir() and _is_split(folder))


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names found in label files, each once: in DOTA's order if all are DOTA's (absent ones left out), else sorted."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        found.setdefault(class_key(name), name)
    official = {class_key(name): name for name in DOTA_V20}
    if found.keys() <= official.keys():
        return tuple(name for key, name in official.items() if key in found)
    return tuple(sorted(found.values()))


def _is_split(folder: Path) -> bool:
    return (folder / "images").is_dir() and any((folder / name).is_dir() for name in LABEL_FOLDERS)


def _locate(root: Path, split: str) -> tuple[list[Path], list[Path]]:
    """Image files and their label files in the same order."""
    folder = root / split
    if not _is_split(folder):
        raise DataError(f"no DOTA split: {folder}: make it look like this:\n{TREE}")
    images = image_files(folder / "images") or image_files(folder / "images" / "images")
    if not images:
        raise DataError(f"no images: {folder / 'images'}: put the split's images there")
    labels = {path.stem: path for path in sorted(_label_folder(folder).glob("*.txt")) if not path.name.startswith(".")}
    unlabelled = [path.name for path in images if path.stem not in labels]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} of {len(images)} images have no label file: {_label_folder(folder)}: "
            f"{_first(unlabelled)}: add their labels (an empty file means an image without objects)"
        )
    orphans = sorted(labels.keys() - {path.stem for path in images})
    if orphans:
        raise DataError(
            f"{len(orphans)} label files have no image: {_label_folder(folder)}: {_first(orphans)}: "
            "add the images or remove the label files"
        )
    return images, [labels[path.stem] for path in images]


def _label_folder(folder: Path) -> Path:
    """The one folder of label files; official archives unpack into one folder more."""
    found = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(found) > 1 and found[0].name != "labelTxt":
        names = ", ".join(path.name for path in found)
        raise DataError(f"several label folders: {folder}: {names}: rename the one to use to labelTxt")
    chosen = found[0]
    inner = sorted(path for path in chosen.iterdir() if path.is_dir())
    if any(chosen.glob("*.txt")) or not inner:
        return chosen
    named = [path for path in inner if path.name == "labelTxt"]
    if len(inner) > 1 and not named:
        raise DataError(f"several label folders: {chosen}: {_first([p.name for p in inner])}: keep one")
    return (named or inner)[0]


def _first(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def _parse(files: list[Path]) -> _Parsed:
    parsed = _Parsed(files)
    for index, path in enumerate(files):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
        for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            try:
                line = _parse_line(raw, index, number)
            except _BadLineError as bad:
                parsed.faults.append((index, number, bad.what, bad.remedy))
                continue
            if line is not None:
                parsed.lines.append(line)
    return parsed


class _BadLineError(Exception):
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def _parse_line(raw: bytes, file: int, number: int) -> _Line | None:
    """One object; None for blank and header lines."""
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _BadLineError("not UTF-8 text", "save the file as UTF-8") from error
    if not text or _HEADER.match(text):
        return None
    if "\0" in text:
        raise _BadLineError("contains a NUL byte", "restore the file from an intact copy")
    fields = text.split()
    if len(fields) not in (9, 10):
        raise _BadLineError(f"{len(fields)} fields instead of 9 or 10", _FORM)
    corners = tuple(_coordinate(field) for field in fields[:8])
    name = fields[8]
    if not CLASS_NAME.fullmatch(name):
        raise _BadLineError(f"{name[:64]!r} is not a class name", "use up to 64 letters, digits and -_.+&()")
    difficult = fields[9] if len(fields) == 10 else None
    if difficult not in (None, "0", "1", "2"):
        raise _BadLineError(f"difficult is {difficult!r}", "write 0 or 1 (2 for objects cut by tiling)")
    return _Line(file, number, corners, name, difficult)


def _coordinate(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise _BadLineError(f"coordinate {text} is not finite", "write the corner in pixels")
        hint = "write decimals with a point" if "," in text else _FORM
        raise _BadLineError(f"{text[:64]!r} is not a number", hint)
    value = float(text)
    if not math.isfinite(value) or abs(value) > FARTHEST:
        raise _BadLineError(f"coordinate {text[:64]} is beyond ±{FARTHEST:.0f}", "write the corner in pixels")
    return value


def _labels(parsed: _Parsed, names: tuple[str, ...]) -> NDArray[np.int64]:
    """The label of each line; a name that is no class becomes a fault."""
    if not names and not parsed.lines:
        return np.zeros(0, dtype=np.int64)
    lookup = class_index(names)
    labels = [lookup.get(class_key(line.name), -1) for line in parsed.lines]
    for line, label in zip(parsed.lines, labels, strict=True):
        if label < 0:
            remedy = f"correct it or add it to the classes {', '.join(names)}"
            parsed.fault(line, f"unknown class {line.name!r}", remedy)
    return np.array(labels, dtype=np.int64)


def _check_boxes(
    parsed: _Parsed, quads: NDArray[np.float64], boxes: NDArray[np.float32], sizes: NDArray[np.int32]
) -> None:
    """Faults for boxes (T, 5) without area and for quads (T, 4, 2) beyond their image of (T, 2) height and width."""
    for row in np.flatnonzero(outside(quads, sizes)):
        height, width = sizes[row]
        what = f"the box lies outside the image of {width}x{height} pixels"
        parsed.fault(parsed.lines[row], what, "remove or correct it")
    for row in np.flatnonzero(boxes[:, 3] < THINNEST):
        parsed.fault(parsed.lines[row], "the box has no area", "remove it or correct its corners")


def _notes(
    lines: list[_Line], crossed: NDArray[np.bool_], quads: NDArray[np.float64], boxes: NDArray[np.float32]
) -> tuple[str, ...]:
    filled = np.abs(quad_areas(quads)) / np.maximum(boxes[:, 2] * boxes[:, 3], THINNEST**2)
    counts = {
        "lines without a difficult field, taken as 0": sum(line.difficult is None for line in lines),
        "quadrilaterals with crossing sides, put in order": int(crossed.sum()),
        "quadrilaterals that fill less than half of their rectangle": int((filled < 0.5).sum()),
    }
    return tuple(f"{count} {what}" for what, count in counts.items() if count)
