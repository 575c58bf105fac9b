"""Horizontal COCO AP by the library that computes it officially."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.evaluation.case import Case
from fledge.evaluation.protocols import Protocol

Floats = NDArray[np.float64]


def library_ap(case: Case, protocol: Protocol) -> Floats:
    """AP (K, T) that pycocotools computes on the horizontal hulls; NaN for classes without objects.

    An ignored region is a crowd of every class. Difficult objects are objects like others: COCO knows none.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = _truth(case), _found(case)
        truth.createIndex()
        found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.params.iouThrs = np.array(protocol.thresholds)
        run.params.areaRng, run.params.areaRngLbl = [[0, np.inf]], ["all"]
        run.params.maxDets = [protocol.max_detections or max(len(case.found), 1)]
        run.params.imgIds, run.params.catIds = range(len(case.images)), range(1, len(case.classes) + 1)
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 0]  # (T, recalls, K), -1 without objects
    return np.asarray(np.where(precision < 0, np.nan, precision).mean(axis=1).T)


def _frame(case: Case) -> dict[str, Any]:
    return {
        "images": [{"id": i} for i in range(len(case.images))],
        "categories": [{"id": k + 1} for k in range(len(case.classes))],
    }


def _truth(case: Case) -> dict[str, Any]:
    objects, hulls = case.objects, _hulls(case.objects.quads)
    rows: list[dict[str, Any]] = []
    for image, label, hull, ignore in zip(
        objects.image.tolist(), objects.label.tolist(), hulls.tolist(), objects.ignore.tolist(), strict=True
    ):
        area = hull[2] * hull[3]
        for category in range(len(case.classes)) if ignore else (label,):
            rows.append({"image_id": image, "category_id": category + 1, "bbox": hull, "area": area, "iscrowd": ignore})
    return {**_frame(case), "annotations": [{"id": n, **row} for n, row in enumerate(rows, start=1)]}


def _found(case: Case) -> dict[str, Any]:
    found, hulls = case.found, _hulls(case.found.quads)
    columns = (found.image.tolist(), found.label.tolist(), found.score.tolist(), hulls.tolist())
    rows = [
        {"id": n, "image_id": i, "category_id": k + 1, "score": s, "bbox": h, "area": h[2] * h[3]}
        for n, (i, k, s, h) in enumerate(zip(*columns, strict=True), start=1)
    ]
    return {**_frame(case), "annotations": rows}


def _hulls(quads: Floats) -> Floats:
    """Left, top, width and height (N, 4)."""
    low = quads.min(axis=1)
    return np.concatenate([low, quads.max(axis=1) - low], axis=1)
