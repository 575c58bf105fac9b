from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.assign.test_max_iou import objects, overlaps, scene, slow_assign
from torch import Tensor

from fledge.assign.max_iou import IGNORED, MaxIoUAssigner
from fledge.assign.overlaps import Overlaps
from fledge.geometry.anchors import AnchorGrid

SHAPES = [(5, 7), (3, 4), (2, 2), (1, 1), (1, 1)]
Mode = Literal["iou", "iof"]

ORDER = st.randoms(use_true_random=False)
ROW = st.tuples(
    st.floats(-20, 80), st.floats(-20, 70), st.floats(0.3, 400), st.floats(0.3, 400), st.floats(-math.pi, math.pi)
)


@pytest.fixture(scope="module")
def anchors() -> Tensor:
    return torch.cat(AnchorGrid(scale=2.0).grids(SHAPES, "cpu"))


def tensor(rows: list[tuple[float, ...]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(-1, 5)


def table(anchors: Tensor, boxes: Tensor, mode: Mode) -> np.ndarray:
    """(A, N) overlaps by the slow clipper, rounded to float32."""
    rows = [[overlaps(a, b)[mode == "iof"] for b in boxes.tolist()] for a in anchors.tolist()]
    return np.array(rows, np.float32).reshape(len(anchors), len(boxes))


@settings(max_examples=12)
@given(rows=st.lists(ROW, min_size=1, max_size=3), least=st.sampled_from([0.0, 0.1, 0.4, 0.7]))
@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_above_finds_what_the_clipper_finds(
    anchors: Tensor, mode: Mode, rows: list[tuple[float, ...]], least: float
) -> None:
    boxes = tensor(rows)
    expected = table(anchors, boxes, mode)
    found = np.zeros_like(expected)
    for a, g, value in Overlaps(anchors).above(boxes, least, mode):
        assert value.dtype == torch.float32
        assert (value > np.float32(least) * (1 - 1e-6)).all()
        found[a, g] = value
    clear = np.abs(expected - least) > 1e-5
    np.testing.assert_allclose(found[clear], np.where(expected > least, expected, 0)[clear], atol=2e-6)


@settings(max_examples=25)
@given(rows=st.lists(ROW, min_size=1, max_size=4))
def test_best_has_every_best_overlap_with_its_ties(anchors: Tensor, rows: list[tuple[float, ...]]) -> None:
    boxes, overlap = tensor(rows), Overlaps(anchors)
    everything, best = torch.zeros(2, len(anchors), len(boxes))
    for a, g, value in overlap.above(boxes, 0.0):
        everything[a, g] = value
    for a, g, value in overlap.best(boxes):
        assert torch.equal(everything[a, g], value)
        best[a, g] = value
    top = everything.amax(dim=0)
    assert torch.equal(best.amax(dim=0), top)
    assert torch.equal((best == top) & (top > 0), (everything == top) & (top > 0))


def test_best_measures_few_pairs(anchors: Tensor) -> None:
    boxes = scene(3, 40).boxes
    measured = sum(len(a) for a, _, _ in Overlaps(anchors).best(boxes))
    assert measured < 0.2 * sum(len(a) for a, _, _ in Overlaps(anchors).above(boxes, 0.0))


def test_objects_come_in_order_and_whole(anchors: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = scene(1, 60).boxes
    whole = [torch.cat(parts) for parts in zip(*Overlaps(anchors).above(boxes, 0.1), strict=True)]
    monkeypatch.setattr("fledge.assign.overlaps._HULLS", 300)
    chunks = list(Overlaps(anchors).above(boxes, 0.1))
    assert len(chunks) > 20
    assert all(torch.equal(torch.cat(parts), one) for parts, one in zip(zip(*chunks, strict=True), whole, strict=True))
    assert bool((whole[1].diff() >= 0).all())
    ends = [(int(g[0]), int(g[-1])) for _, g, _ in chunks if len(g)]
    assert all(last < first for (_, last), (first, _) in pairwise(ends))


@pytest.mark.parametrize(("block", "at_once"), [(1, 1), (7, 50), (64, 64), (10_000, 1 << 18)])
def test_the_assignment_does_not_depend_on_how_it_is_cut(
    anchors: Tensor, monkeypatch: pytest.MonkeyPatch, block: int, at_once: int
) -> None:
    targets = [scene(80, 25, ignored=0.3), scene(81, 0), scene(82, 9)]
    expected = MaxIoUAssigner()(anchors, targets)
    monkeypatch.setattr("fledge.assign.overlaps._BLOCK", block)
    monkeypatch.setattr("fledge.assign.overlaps._HULLS", at_once)
    cut = MaxIoUAssigner()(anchors, targets)
    assert torch.equal(cut.labels, expected.labels)
    assert torch.equal(cut.boxes, expected.boxes)


@settings(max_examples=15)
@given(
    rows=st.lists(ROW, max_size=5),
    ignored=st.lists(st.booleans(), min_size=5, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_any_objects_match_the_slow_reference(
    anchors: Tensor, rows: list[tuple[float, ...]], ignored: list[bool], order: Random
) -> None:
    """Specks, giants and doubles too, with the anchors in an order in which neighbours are far apart."""
    targets = objects([*rows, *rows[:1]], ignore=[*ignored[: len(rows)], False][: len(rows) + len(rows[:1])])
    shuffled = anchors[torch.tensor(order.sample(range(len(anchors)), len(anchors)))]
    expected = slow_assign(shuffled, targets)
    labels = MaxIoUAssigner()(shuffled, [targets]).labels[0].tolist()
    assert labels == [IGNORED if g is None else -1 if g < 0 else int(targets.labels[g]) for g in expected]
