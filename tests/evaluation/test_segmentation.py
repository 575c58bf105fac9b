"""mIoU by sets of pixels."""

from __future__ import annotations

import json
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fledge.errors import UsageError
from fledge.evaluation.segmentation import segmentation

NAMES = ("background", "building", "road")
MASKS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])),
        arrays(np.uint8, shape, elements=st.integers(0, 2)),
    )
)


@given(st.lists(MASKS, max_size=4))
@settings(max_examples=100)
def test_against_sets_of_pixels(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    found = segmentation(pairs, NAMES)
    pixels = [
        (i, r, c, int(truth[r, c]), int(predicted[r, c]))
        for i, (truth, predicted) in enumerate(pairs)
        for r in range(truth.shape[0])
        for c in range(truth.shape[1])
        if truth[r, c] != 255
    ]
    assert found.pixels == len(pixels)
    meant: dict[str, float | None] = {}
    for k, name in enumerate(NAMES):
        one, two = {p[:3] for p in pixels if p[3] == k}, {p[:3] for p in pixels if p[4] == k}
        meant[name] = len(one & two) / len(one | two) if one | two else None
        assert (name in found.empty) == (not one)
    assert found.iou == meant
    known = [value for value in meant.values() if value is not None]
    assert found.mean_iou == (pytest.approx(statistics.fmean(known)) if known else None)
    assert found.accuracy == (sum(p[3] == p[4] for p in pixels) / len(pixels) if pixels else None)
    json.dumps(found.record(), allow_nan=False)


def test_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 255, 255]])
    predicted = np.array([[0, 1, 1], [2, 2, 0]])
    found = segmentation([(truth, predicted)], NAMES)
    assert found.iou == {"background": 1 / 2, "building": 1 / 3, "road": 0.0}, "no data is not scored"
    assert found.mean_iou == pytest.approx(5 / 18)
    assert found.empty == ("road",), "it is only predicted"
    assert segmentation([], NAMES).mean_iou is None


def test_a_prediction_of_no_data_is_refused() -> None:
    with pytest.raises(UsageError, match="no class 255: prediction"):
        segmentation([(np.zeros((2, 2), int), np.full((2, 2), 255))], NAMES)
    with pytest.raises(UsageError, match="no class 255: truth"):
        segmentation([(np.full((2, 2), 255), np.zeros((2, 2), int))], NAMES, no_data=None)
