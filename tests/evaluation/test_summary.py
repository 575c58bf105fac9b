from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.protocols import COCO_THRESHOLDS
from fledge.evaluation.summary import gap, splits_record


def metrics(*rows: list[float]) -> Metrics:
    """Metrics whose AP at IoU 0.5, 0.75 and the eight others is as given, a row for each class."""
    table = np.array([[r[0] if t == 0.5 else r[1] if t == 0.75 else r[2] for t in COCO_THRESHOLDS] for r in rows])
    return Metrics(tuple("abc"[: len(rows)]), table, np.ones(len(rows), dtype=np.int64), images=1)


def test_the_gap_by_hand() -> None:
    seen, held_out = metrics([0.9, 0.5, 0.4], [0.7, 0.3, 0.2]), metrics([0.6, 0.2, 0.1], [0.4, 0.2, 0.1])
    found = gap(seen, held_out)
    assert found["AP50"] == pytest.approx(0.8 - 0.5)
    assert found["AP75"] == pytest.approx(0.4 - 0.2)
    assert found["AP50:95"] == pytest.approx((0.8 + 0.4 + 8 * 0.3 - 0.5 - 0.2 - 8 * 0.1) / 10)


def test_a_split_without_objects_has_no_gap() -> None:
    nothing = metrics([math.nan] * 3)
    assert set(gap(metrics([0.5, 0.5, 0.5]), nothing).values()) == {None}


def test_every_other_split_is_compared_with_the_first() -> None:
    several = {"train": metrics([0.9] * 3), "val": metrics([0.6] * 3), "test": metrics([0.5] * 3)}
    record = splits_record({name: {"images": 1} for name in several}, several)
    assert [(row["split"], row["minus"], row["AP50"]) for row in record["gaps"]] == [
        ("train", "val", pytest.approx(0.3)),
        ("train", "test", pytest.approx(0.4)),
    ]
    assert list(record["splits"]) == ["train", "val", "test"]
    json.dumps(record, allow_nan=False)


def test_one_split_has_no_gap() -> None:
    assert splits_record({"val": {}}, {"val": metrics([0.9] * 3)})["gaps"] == []
