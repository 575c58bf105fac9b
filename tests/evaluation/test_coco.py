"""Horizontal COCO AP: pycocotools as it is, fledge's call of it, and fledge's own computation."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tests.evaluation.oracle import case

from fledge.evaluation.average_precision import score
from fledge.evaluation.breakdown import breakdown
from fledge.evaluation.case import Case
from fledge.evaluation.protocols import PROTOCOLS

OFFICIAL = PROTOCOLS["coco"]
OURS = replace(OFFICIAL, library="")


def upright_case(seed: int, crowds: bool = True) -> Case:
    """Horizontal boxes of whole and half pixels from 2 to 200 px, detections in the order of their images."""
    rng = np.random.default_rng(seed)
    objects: list[Any] = []
    found: list[Any] = []
    for image in range(4):
        for _ in range(int(rng.integers(0, 14))):
            label, side = int(rng.integers(3)), rng.choice([8, 40, 150])
            x, y, w, h = (np.round(2 * v) / 2 for v in (*rng.uniform(0, 150, 2), *rng.uniform(0.5, 1.5, 2) * side))
            flag = "ignore" if crowds and rng.random() < 0.1 else "difficult" if rng.random() < 0.1 else ""
            objects.append((image, label, box(x, y, w, h), flag))
            for _ in range(int(rng.integers(0, 3))):
                dx, dy, dw, dh = np.round(rng.normal(0, side / 12, 4) * 2) / 2
                near = box(x + dx, y + dy, max(w + dw, 1), max(h + dh, 1))
                found.append((image, label if rng.random() < 0.9 else 3, round(float(rng.random()), 2), near))
    return case(objects, found, 4, 4)


def box(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def official(the: Case, area: tuple[float, float] = (0, 1e10), most: int = 100) -> NDArray[np.float64]:
    """AP (K, T) by pycocotools through its own entry points."""
    frame = {
        "images": [{"id": i, "file_name": n} for i, n in enumerate(the.images)],
        "categories": [{"id": k, "name": n} for k, n in enumerate(the.classes)],
    }
    rows: list[dict[str, Any]] = []
    for g in range(len(the.objects)):
        crowd = int(the.objects.ignore[g])
        for label in range(len(the.classes)) if crowd else [int(the.objects.label[g])]:
            hull = xywh(the.objects.quads[g])
            row = {"image_id": int(the.objects.image[g]), "category_id": label, "bbox": hull, "iscrowd": crowd}
            rows.append({**row, "id": len(rows) + 1, "area": hull[2] * hull[3]})
    results = [
        {"image_id": int(i), "category_id": int(k), "score": float(s), "bbox": xywh(q)}
        for i, k, s, q in zip(the.found.image, the.found.label, the.found.score, the.found.quads, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**frame, "annotations": rows, "info": {}}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = [list(area)], ["all"], [most]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, 0]
    return np.asarray(np.where(precision < 0, np.nan, precision).mean(axis=1).T)


def xywh(quad: NDArray[np.float64]) -> list[float]:
    low, high = quad.min(axis=0), quad.max(axis=0)
    return [float(v) for v in (*low, *(high - low))]


@pytest.mark.parametrize("seed", range(25))
def test_both_ways_equal_pycocotools(seed: int) -> None:
    the = upright_case(seed)
    expected = official(the)
    np.testing.assert_allclose(score(the, OURS).ap, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(score(the, OFFICIAL).ap, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_by_size_equals_pycocotools(seed: int) -> None:
    the = upright_case(seed)
    ranges = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    for name, metrics in breakdown(the, OURS).items():
        np.testing.assert_allclose(metrics.ap, official(the, ranges[name]), rtol=0, atol=1e-12)


def test_the_largest_number_of_detections_equals_pycocotools() -> None:
    for seed in range(10):
        the = upright_case(seed)
        np.testing.assert_allclose(
            score(the, replace(OURS, max_detections=2)).ap, official(the, most=2), rtol=0, atol=1e-12
        )


def test_the_cases_are_not_trivial() -> None:
    values = np.concatenate([score(upright_case(seed), OURS).ap.ravel() for seed in range(25)])
    assert np.isnan(values).any()
    assert ((values > 0.05) & (values < 0.95)).sum() > 300
    assert sum(upright_case(seed).objects.ignore.sum() for seed in range(25)) > 30


def test_nothing_to_find_and_nothing_found() -> None:
    for the in (case([], [], 0, 2), case([], [(0, 0, 0.5, box(0, 0, 2, 2))], 1, 2)):
        assert np.isnan(score(the, OFFICIAL).ap).all()
    missed = case([(0, 1, box(0, 0, 2, 2), "")], [], 1, 2)
    np.testing.assert_array_equal(score(missed, OFFICIAL).ap[:, 0], [np.nan, 0])
