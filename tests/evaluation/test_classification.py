"""Accuracy by counting one image after the other."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.errors import UsageError
from fledge.evaluation.classification import classification, over_runs
from fledge.evaluation.confusion import confusion_matrix

NAMES = ("beach", "forest", "harbor", "river")
CLASS = st.integers(0, 3)


@given(st.lists(st.tuples(CLASS, CLASS), max_size=40))
@settings(max_examples=100)
def test_against_counting(pairs: list[tuple[int, int]]) -> None:
    found = classification([t for t, _ in pairs] or np.zeros(0, int), [p for _, p in pairs] or np.zeros(0, int), NAMES)
    assert found.images == len(pairs)
    for t in range(4):
        for p in range(4):
            assert found.confusion[t, p] == pairs.count((t, p))
    right = sum(t == p for t, p in pairs)
    assert found.top1 == (right / len(pairs) if pairs else None)
    shares = {}
    for t, name in enumerate(NAMES):
        mine = [p == t for truth, p in pairs if truth == t]
        shares[name] = sum(mine) / len(mine) if mine else None
    assert found.by_class == shares
    known = [share for share in shares.values() if share is not None]
    assert found.mean_by_class == (pytest.approx(statistics.fmean(known)) if known else None)
    assert set(found.empty) == {name for name, share in shares.items() if share is None}
    json.dumps(found.record(), allow_nan=False)


def test_parts_add_up_and_tensors_will_do() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    whole = confusion_matrix(truth, predicted, 4)
    parts = sum(confusion_matrix(truth[k : k + 7], predicted[k : k + 7], 4) for k in range(0, 100, 7))
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, confusion_matrix(torch.tensor(truth), torch.tensor(predicted), 4))


@pytest.mark.parametrize(
    ("truth", "predicted", "what"),
    [
        ([0, 1], [0], "shapes differ"),
        ([0, 4], [0, 1], "no class 4: truth"),
        ([0, 1], [0, -1], "no class -1: prediction"),
        ([0.0], [0], "no classes: truth is float64"),
        ([0], [[0]], "shapes differ"),
    ],
)
def test_what_cannot_be_scored(truth: list[int], predicted: list[int], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        classification(truth, predicted, NAMES)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_mean_and_spread_over_runs(values: list[float]) -> None:
    runs = over_runs(values)
    assert runs.mean == pytest.approx(statistics.fmean(values))
    assert runs.std == pytest.approx(statistics.stdev(values), abs=1e-12)


def test_runs_by_hand() -> None:
    assert str(over_runs([0.9, 0.92, 0.94])) == "92.00 ± 2.00 (3 runs)"
    assert over_runs([0.9]).std is None
    assert str(over_runs([0.9])) == "90.00 (one run)"
    for values in ([], [float("nan")]):
        with pytest.raises(UsageError, match="at least one"):
            over_runs(values)
