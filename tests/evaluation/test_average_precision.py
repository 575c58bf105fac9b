from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from fledge.errors import UsageError
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.average_precision import evaluate as evaluate_by
from fledge.evaluation.cost import Cost
from fledge.evaluation.curves import average_precision
from fledge.evaluation.protocols import COCO_THRESHOLDS, PROTOCOLS, Interpolation
from fledge.evaluation.summary import evaluation_record
from fledge.geometry.iou import rotated_iou
from fledge.types import Detections, Targets

CLASSES = ("plane", "ship", "car")
Box = tuple[float, ...]


def detections(boxes: Sequence[Box], scores: Sequence[float], labels: Sequence[int] | None = None) -> Detections:
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels if labels is not None else [0] * len(scores), dtype=torch.int64),
        CLASSES,
    )


def objects(
    boxes: Sequence[Box],
    labels: Sequence[int] | None = None,
    ignore: Sequence[bool] | None = None,
    difficult: Sequence[bool] | None = None,
) -> Targets:
    n = len(boxes)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5),
        torch.tensor(labels if labels is not None else [0] * n, dtype=torch.int64),
        torch.tensor(ignore if ignore is not None else [False] * n, dtype=torch.bool),
        torch.tensor(difficult if difficult is not None else [False] * n, dtype=torch.bool),
    )


def square(x: float, side: float = 10.0, y: float = 0.0) -> Box:
    return (x, y, side, side, 0.0)


def evaluate(
    found: Sequence[Detections],
    truth: Sequence[Targets],
    classes: Sequence[str],
    thresholds: tuple[float, ...] = COCO_THRESHOLDS,
    interpolation: Interpolation = "voc12",
) -> Metrics:
    rules = replace(PROTOCOLS["box_area"], thresholds=thresholds, interpolation=interpolation)
    return evaluate_by(found, truth, classes, rules)


def ap50(found: Detections, truth: Targets, interpolation: Interpolation = "voc12") -> float:
    return evaluate([found], [truth], CLASSES, (0.5,), interpolation).per_class(0.5)["plane"]


# ---- a slow reference, in plain Python, after the DOTA devkit's description


def slow_curve(hits: list[bool], total: int, interpolation: str) -> float:
    recall, precision, true = [], [], 0
    for n, hit in enumerate(hits, start=1):
        true += hit
        recall.append(true / total)
        precision.append(true / n)
    if interpolation == "voc07":
        points = [
            max([p for r, p in zip(recall, precision, strict=True) if r >= i * 0.1], default=0.0) for i in range(11)
        ]
        return sum(points) / 11
    area, last = 0.0, 0.0
    for i, r in enumerate(recall):
        if r > last:
            area += (r - last) * max(precision[i:])
            last = r
    return area


def slow_ap(
    found: Sequence[Detections], truth: Sequence[Targets], label: int, threshold: float, interpolation: str
) -> float:
    total = 0
    pool: list[tuple[float, int, int]] = []
    for image, (f, t) in enumerate(zip(found, truth, strict=True)):
        total += sum(
            1
            for k, i, d in zip(t.labels.tolist(), t.ignore.tolist(), t.difficult.tolist(), strict=True)
            if k == label and not i and not d
        )
        pool += [
            (s, image, j)
            for j, (s, k) in enumerate(zip(f.scores.tolist(), f.labels.tolist(), strict=True))
            if k == label
        ]
    if not total:
        return math.nan
    pairs = [(f.boxes.double(), t.boxes.double()) for f, t in zip(found, truth, strict=True)]
    overlaps = [rotated_iou(a, b).tolist() for a, b in pairs]
    inside = [rotated_iou(a, b, mode="iof").tolist() for a, b in pairs]
    pool.sort(key=lambda row: -row[0])
    taken: set[tuple[int, int]] = set()
    hits: list[bool] = []
    for _, image, j in pool:
        t = truth[image]
        best, best_iou, in_ignored = -1, -1.0, False
        for g in range(len(t)):
            if t.ignore[g]:
                in_ignored |= inside[image][j][g] >= 0.5
            elif int(t.labels[g]) == label:
                iou = overlaps[image][j][g]
                if iou > best_iou:
                    best, best_iou = g, iou
        if best_iou > threshold:
            if not t.difficult[best]:
                hits.append((image, best) not in taken)
                taken.add((image, best))
        elif not in_ignored:
            hits.append(False)
    return slow_curve(hits, total, interpolation)


def random_scene(seed: int) -> tuple[list[Detections], list[Targets]]:
    rng = random.Random(seed)
    found, truth = [], []
    for _ in range(rng.randint(1, 4)):
        n = rng.randint(0, 7)
        boxes = [
            (rng.uniform(0, 60), rng.uniform(0, 60), rng.uniform(12, 30), rng.uniform(6, 12), rng.uniform(-1.57, 1.57))
            for _ in range(n)
        ]
        labels = [rng.randrange(3) for _ in range(n)]
        kinds = [rng.random() for _ in range(n)]
        truth.append(objects(boxes, labels, [k < 0.1 for k in kinds], [0.1 <= k < 0.25 for k in kinds]))
        near = [
            (i, tuple(v + rng.gauss(0, s) for v, s in zip(boxes[i], (1.5, 1.5, 1.5, 1.0, 0.05), strict=True)))
            for i in range(n)
            for _ in range(rng.randint(0, 3))
        ]
        far = [
            (None, (rng.uniform(0, 60), rng.uniform(0, 60), 20.0, 8.0, rng.uniform(-1.5, 1.5)))
            for _ in range(rng.randint(0, 4))
        ]
        pairs: list[tuple[int | None, Box]] = [*near, *far]
        rng.shuffle(pairs)
        scores = [round(rng.random(), rng.choice((1, 6))) for _ in pairs]  # one digit: many equal scores
        names = [labels[i] if i is not None and rng.random() < 0.9 else rng.randrange(3) for i, _ in pairs]
        found.append(detections([box for _, box in pairs], scores, names))
    return found, truth


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("interpolation", ["voc12", "voc07"])
def test_agrees_with_the_slow_reference(seed: int, interpolation: Interpolation) -> None:
    found, truth = random_scene(seed)
    metrics = evaluate(found, truth, CLASSES, (0.3, 0.5, 0.75), interpolation)
    expected = [[slow_ap(found, truth, k, t, interpolation) for t in (0.3, 0.5, 0.75)] for k in range(3)]
    np.testing.assert_allclose(metrics.ap, expected, rtol=0, atol=1e-9)


def test_scenes_of_the_reference_are_not_trivial() -> None:
    values = np.concatenate([evaluate(*random_scene(s), CLASSES, (0.5,)).ap.ravel() for s in range(30)])
    assert np.isnan(values).any()
    assert ((values > 0.05) & (values < 0.95)).sum() > 30


def test_three_detections_of_two_objects_by_hand() -> None:
    truth = objects([square(0), square(100)])
    found = detections([square(0), square(50), square(100)], [0.9, 0.8, 0.7])
    # hit, miss, hit: precision 1 at recall 1/2, 2/3 at recall 1
    assert ap50(found, truth) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert ap50(found, truth, "voc07") == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_curve_by_hand() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert average_precision(recall, precision, "voc12") == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert average_precision(recall, precision, "voc07") == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert average_precision(np.zeros(0), np.zeros(0), "voc12") == 0
    assert average_precision(np.zeros(0), np.zeros(0), "voc07") == 0


def test_perfect_detections_reach_one_at_every_threshold() -> None:
    boxes = [(20.0 * i, 5.0, 12.0, 7.0, 0.1 * i) for i in range(5)]
    metrics = evaluate([detections(boxes, [0.5] * 5)], [objects(boxes)], CLASSES)
    assert metrics.thresholds == COCO_THRESHOLDS
    np.testing.assert_allclose(metrics.ap[0], 1.0)
    assert metrics.summary() == {"AP50": 1.0, "AP75": 1.0, "AP50:95": 1.0}


def test_a_second_detection_of_a_taken_object_is_an_error() -> None:
    truth = objects([square(0), square(100)])
    twice = detections([square(0), square(1), square(100)], [0.9, 0.8, 0.7])
    assert ap50(twice, truth) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_it_is_an_error_even_when_another_object_would_do() -> None:
    truth = objects([square(0), square(2)])
    found = detections([square(0), square(0.5)], [0.9, 0.8])  # both best at the first; the second at 0.74 IoU too
    assert ap50(found, truth) == pytest.approx(0.5)


def test_the_threshold_must_be_exceeded() -> None:
    half = detections([(0.0, 0.0, 10.0, 5.0, 0.0)], [0.9])  # IoU exactly 1/2
    assert ap50(half, objects([square(0)])) == 0
    assert evaluate([half], [objects([square(0)])], CLASSES, (0.49,)).per_class(0.49)["plane"] == 1


def test_difficult_objects_count_neither_way() -> None:
    truth = objects([square(0), square(100)], difficult=[True, False])
    found = detections([square(0), square(1), square(100)], [0.9, 0.8, 0.7])
    metrics = evaluate([found], [truth], CLASSES, (0.5,))
    assert metrics.objects.tolist() == [1, 0, 0]
    assert metrics.per_class(0.5)["plane"] == 1
    missed = detections([square(100)], [0.7])
    assert ap50(missed, truth) == 1


def test_detections_in_ignored_regions_do_not_count() -> None:
    truth = objects([square(100), square(0, 60)], ignore=[False, True])
    inside = detections([square(0), square(20), square(100)], [0.9, 0.8, 0.7], [0, 0, 0])
    assert ap50(inside, truth) == 1
    outside = detections([square(36), square(100)], [0.9, 0.7])  # a tenth of it inside
    assert ap50(outside, truth) == pytest.approx(0.5)


def test_ignored_regions_hold_for_every_class_and_are_no_objects() -> None:
    truth = objects([square(0, 60), square(100)], labels=[0, 1], ignore=[True, False])
    metrics = evaluate([detections([square(0), square(100)], [0.9, 0.8], [1, 1])], [truth], CLASSES, (0.5,))
    assert metrics.objects.tolist() == [0, 1, 0]
    assert metrics.per_class(0.5)["ship"] == 1
    assert math.isnan(metrics.per_class(0.5)["plane"])


def test_classes_are_kept_apart_and_absent_ones_left_out_of_the_mean() -> None:
    truth = objects([square(0), square(100)], labels=[0, 1])
    metrics = evaluate([detections([square(0), square(100)], [0.9, 0.8], [0, 2])], [truth], CLASSES)
    assert metrics.per_class(0.5)["plane"] == 1
    assert metrics.per_class(0.5)["ship"] == 0
    assert math.isnan(metrics.per_class(0.5)["car"])
    assert metrics.mean(0.5) == 0.5


def test_no_detections_give_zero() -> None:
    metrics = evaluate([detections([], [])], [objects([square(0)])], CLASSES)
    assert metrics.mean() == 0


def test_no_images_and_no_objects_give_nan_not_a_warning() -> None:
    for metrics in (evaluate([], [], CLASSES), evaluate([detections([square(0)], [0.9])], [objects([])], CLASSES)):
        assert metrics.objects.tolist() == [0, 0, 0]
        assert all(math.isnan(v) for v in metrics.summary().values())


def test_the_same_place_in_another_image_is_another_object() -> None:
    truth = [objects([square(0)]), objects([])]
    found = [detections([], []), detections([square(0)], [0.9])]
    assert evaluate(found, truth, CLASSES, (0.5,)).per_class(0.5)["plane"] == 0


def test_equal_scores_keep_their_order() -> None:
    truth = objects([square(0)])
    good_first, bad_first = (
        detections([square(0), square(50)], [0.5] * 2),
        detections([square(50), square(0)], [0.5] * 2),
    )
    assert ap50(good_first, truth) == 1
    assert ap50(bad_first, truth) == pytest.approx(0.5)
    again = detections([square(50)] * 40 + [square(0)], [0.5] * 41)
    assert ap50(again, truth) == pytest.approx(1 / 41)


@pytest.mark.parametrize("seed", range(10))
def test_taking_a_false_positive_away_never_hurts(seed: int) -> None:
    found, truth = random_scene(seed)
    before = evaluate(found, truth, CLASSES, (0.5,))
    for image, f in enumerate(found):
        for j in range(len(f)):
            if len(truth[image]) and float(rotated_iou(f.boxes[j : j + 1], truth[image].boxes).max()) > 0.5:
                continue
            fewer = [*found]
            fewer[image] = f.select(torch.arange(len(f)) != j)
            after = evaluate(fewer, truth, CLASSES, (0.5,))
            assert (np.nan_to_num(after.ap) >= np.nan_to_num(before.ap) - 1e-12).all()


def test_unequal_numbers_of_images_are_refused() -> None:
    with pytest.raises(UsageError, match="0 detections for 1 images"):
        evaluate([], [objects([square(0)])], CLASSES)


def test_record_is_strict_json_with_none_for_undefined() -> None:
    truth = objects([square(0), square(100)], labels=[0, 1])
    metrics = evaluate([detections([square(0)], [0.9])], [truth], CLASSES)
    record = json.loads(json.dumps(evaluation_record(metrics, Cost(10, 20, 1.5, 0.25, (64, 96), 1)), allow_nan=False))
    assert (record["AP50"], record["AP75"], record["AP50:95"]) == (0.5, 0.5, 0.5)
    assert record["classes"]["plane"] == {"objects": 1, "AP50": 1.0, "AP75": 1.0, "AP50:95": 1.0}
    assert record["classes"]["car"] == {"objects": 0, "AP50": None, "AP75": None, "AP50:95": None}
    times = {"milliseconds": 1.5, "decode_milliseconds": 0.25}
    assert record["cost"] == {"parameters": 10, "flops": 20, **times, "input": [64, 96], "threads": 1}
    assert record["images"] == 1


def test_record_of_nothing() -> None:
    record = evaluation_record(evaluate([], [], CLASSES), Cost(0, 0, 0.0, 0.0, (32, 32), 1))
    assert (record["AP50"], record["images"]) == (None, 0)
    json.dumps(record, allow_nan=False)


def test_mean_over_thresholds_is_the_mean_of_the_means() -> None:
    table = np.array([[1.0, 0.5], [0.0, 0.5], [math.nan, math.nan]])
    rules = replace(PROTOCOLS["box_area"], thresholds=(0.5, 0.75))
    metrics = Metrics(CLASSES, table, np.array([1, 1, 0]), 1, rules)
    assert (metrics.mean(0.5), metrics.mean(0.75), metrics.mean()) == (0.5, 0.5, 0.5)
