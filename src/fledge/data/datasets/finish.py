"""From a ``Draft`` to a ``DetectionDataset``: the checks that all formats share, every fault named at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.data.datasets.draft import Draft, Row, first_few, renaming
from fledge.data.datasets.folders import image_sizes, image_stamps, unique_names
from fledge.data.labels import (
    CLASS_NAME,
    NAME_RULE,
    THINNEST,
    DetectionDataset,
    LabelProblem,
    by_kind,
    class_index,
    class_key,
    mend_quads,
    minimum_boxes,
    offsets_of,
    outside,
    quad_areas,
    refuse,
    single_boxes,
)
from fledge.errors import DataError
from fledge.geometry.boxes import corners

_IGNORED, _UNKNOWN, _NO_NAME = -1, -2, -3
_UNREAD = np.iinfo(np.int32).max


def finish(
    draft: Draft,
    classes: Sequence[str],
    *,
    skip_bad_labels: bool = False,
    allow_unlabelled: bool = False,
    remap: Mapping[str, str] | None = None,
) -> DetectionDataset:
    """Check a draft against its images and a class list, and index it.

    Args:
        draft: what the label files state.
        classes: the class names in label order; matched without regard to case, spaces, hyphens and underscores.
        skip_bad_labels: leave bad objects out and count them, instead of refusing the split. Missing and damaged files
            are refused all the same: nothing can be known about the objects in them.
        allow_unlabelled: take images without a label file as images without objects.
        remap: from names in the labels to names of classes; "" makes such objects ignored ones.

    Raises:
        DataError: something is wrong with labels, images or the class list; all of it is named.
    """
    names = tuple(classes)
    if draft.unlabelled[0] and not allow_unlabelled:
        raise DataError(_unlabelled(draft))
    stamps = image_stamps(draft.images)
    sizes, damage = image_sizes(draft.images)
    owner = np.array([row.image for row in draft.rows], dtype=np.int64)
    quads, boxes, crossed = _shapes(draft, sizes[owner])
    lookup = class_index(names, str(draft.root / draft.split)) if names else {}
    labels = _labels(draft.rows, lookup, remap)
    bad = _box_problems(draft, quads, boxes, sizes[owner]) | _class_problems(draft, labels)
    problems = _in_order(draft.faults, bad)
    damage = draft.damage + damage + _size_conflicts(draft, sizes)
    hint = _both_lists(draft, names, remap) if any(problem.kind == "class" for problem in problems) else ""
    refuse(damage + ([] if skip_bad_labels else problems), str(draft.root / draft.split), hint)

    good = np.array([row for row in range(len(draft.rows)) if row not in bad], dtype=np.int64)
    keep = good[np.argsort(owner[good], kind="stable")]
    difficult = [draft.rows[row].difficult for row in keep]
    return DetectionDataset(
        root=draft.root,
        split=draft.split,
        format=draft.format,
        classes=names,
        paths=tuple(draft.images),
        ids=unique_names(draft.images, draft.ids) if draft.images else (),
        sizes=sizes,
        quads=quads[keep].astype(np.float32),
        boxes=boxes[keep],
        labels=np.maximum(labels[keep], 0),
        difficult=np.array([bool(value) for value in difficult], dtype=np.bool_),
        ignore=labels[keep] == _IGNORED,
        offsets=offsets_of(np.bincount(owner[keep], minlength=len(draft.images))),
        stamps=stamps,
        notes=_notes(draft, difficult.count(None), (quads[good], boxes[good], crossed[good]), problems),
        skipped=tuple(problems),
    )


def _shapes(
    draft: Draft, sizes: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
    """Corners (T, 4, 2), boxes (T, 5) and which corners were put in order (T,), images of (T, 2) height and width."""
    total = len(draft.rows)
    is_box = np.array([len(row.shape) == 5 for row in draft.rows], dtype=np.bool_)
    quads = np.zeros((total, 4, 2))
    quads[~is_box] = np.array([row.shape for row in draft.rows if len(row.shape) == 8]).reshape(-1, 4, 2)
    stated = np.array([row.shape for row in draft.rows if len(row.shape) == 5], dtype=np.float64).reshape(-1, 5)
    if draft.normalised:
        scale = sizes[:, ::-1].astype(np.float64)
        quads *= scale[:, None]
        stated[:, :4] *= np.tile(scale[is_box], 2)
    crossed = np.zeros(total, dtype=np.bool_)
    quads[~is_box], crossed[~is_box] = mend_quads(quads[~is_box])
    boxes = np.zeros((total, 5), dtype=np.float32)
    boxes[~is_box] = minimum_boxes(quads[~is_box])
    exact = torch.from_numpy(stated)
    quads[is_box], boxes[is_box] = corners(exact).numpy(), single_boxes(exact).numpy()
    return quads, boxes, crossed


def _labels(rows: Sequence[Row], lookup: Mapping[str, int], remap: Mapping[str, str] | None) -> NDArray[np.int64]:
    """The label (T,) of each object, or one of the negative marks."""
    target = renaming(remap)

    def label_of(name: str) -> int:
        new = target(name)
        if not new:
            return _IGNORED
        return lookup.get(class_key(new), _UNKNOWN) if CLASS_NAME.fullmatch(new) else _NO_NAME

    labels = {name: label_of(name) for name in {row.name for row in rows}}
    return np.array([_IGNORED if row.ignore else labels[row.name] for row in rows], dtype=np.int64)


def _class_problems(draft: Draft, labels: NDArray[np.int64]) -> dict[int, LabelProblem]:
    problems = {}
    for index in np.flatnonzero(labels < _IGNORED).tolist():
        row = draft.rows[index]
        what, remedy, kind = f"unknown class {row.name!r}", "correct it or add it to the classes", "class"
        if labels[index] == _NO_NAME:
            what, kind = f"{row.name[:64]!r} is not a class name", "class name"
            remedy = NAME_RULE
        problems[index] = LabelProblem(draft.where(row), what, remedy, kind)
    return problems


def _box_problems(
    draft: Draft, quads: NDArray[np.float64], boxes: NDArray[np.float32], sizes: NDArray[np.int32]
) -> dict[int, LabelProblem]:
    """Problems of boxes (T, 5) without area and of quads (T, 4, 2) beyond their image of (T, 2) height and width."""
    problems = {}
    for index in np.flatnonzero(boxes[:, 3] < THINNEST).tolist():
        what, remedy = "the box has no area", "remove it or correct its corners"
        problems[index] = LabelProblem(draft.where(draft.rows[index]), what, remedy, "no area")
    for index in np.flatnonzero(outside(quads, sizes)).tolist():
        (height, width), name = sizes[index], draft.images[draft.rows[index].image].name
        what = f"the box lies outside the image of {width}x{height} pixels, {name}"
        problems[index] = LabelProblem(draft.where(draft.rows[index]), what, "remove or correct it", "outside")
    return problems


def _in_order(faults: list[tuple[int, LabelProblem]], bad: dict[int, LabelProblem]) -> list[LabelProblem]:
    """All problems in the order of files and lines: a fault noted after n rows comes before row n."""
    keyed = [(rows, 0, problem) for rows, problem in faults] + [(row, 1, problem) for row, problem in bad.items()]
    return [problem for _, _, problem in sorted(keyed, key=lambda item: item[:2])]


def _size_conflicts(draft: Draft, sizes: NDArray[np.int32]) -> list[LabelProblem]:
    problems = []
    for image, stated in draft.stated.items():
        height, width = sizes[image].tolist()
        if height != _UNREAD and (stated.width, stated.height) != (width, height):
            what = f"it states {stated.width}x{stated.height} pixels, {draft.images[image]} has {width}x{height}"
            remedy = "restore the image that was labelled"
            if (stated.width, stated.height) == (height, width):
                remedy += ", or label it as it is stored: a turn noted in its EXIF data is not applied"
            problems.append(LabelProblem(stated.where, what, remedy, "image size"))
    return problems


def _both_lists(draft: Draft, classes: tuple[str, ...], remap: Mapping[str, str] | None) -> str:
    named = ", ".join(sorted(draft.names(remap))) or "none"
    return (
        f"class lists differ: the labels name {named}; the classes are {', '.join(classes) or 'none'}: "
        "rename labels on reading where two names mean one class (--remap)"
    )


def _unlabelled(draft: Draft) -> str:
    names, folder = draft.unlabelled
    return (
        f"{len(names)} of {len(draft.images)} images have no label file: {folder}: {first_few(names)}: add their "
        "labels (an empty file means an image without objects), or allow it (--allow-unlabelled)"
    )


def _notes(
    draft: Draft,
    without_flag: int,
    shapes: tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]],
    skipped: Sequence[LabelProblem],
) -> tuple[str, ...]:
    """What was mended or is odd, from the draft's own counts and the quads, boxes and crossings of its good objects."""
    quads, boxes, crossed = shapes
    area = quad_areas(quads)
    filled = np.abs(area) / np.maximum(boxes[:, 2] * boxes[:, 3], THINNEST**2)
    shortest = np.linalg.norm(quads - np.roll(quads, 1, axis=1), axis=2).min(axis=1, initial=np.inf)
    counts = {
        **draft.counts,
        "labels without a difficult field, taken as 0": without_flag,
        "images without a label file, taken as images without objects": len(draft.unlabelled[0]),
        "quadrilaterals with crossing sides, put in order": int(crossed.sum()),
        "quadrilaterals with a repeated corner, kept as triangles": int((shortest < THINNEST).sum()),
        "quadrilaterals with their corners counter-clockwise, kept so": int((area < 0).sum()),
        "quadrilaterals that fill less than half of their rectangle": int((filled < 0.5).sum()),
    }
    notes = [f"{count} {what}" for what, count in counts.items() if count]
    return (*notes, *([f"{len(skipped)} bad labels skipped ({by_kind(skipped)})"] if skipped else []))
