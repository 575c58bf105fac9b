from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.geometry.oracle import slow_intersection
from torch import Tensor

from fledge.assign.max_iou import BACKGROUND, IGNORED, Assignment, MaxIoUAssigner
from fledge.geometry.anchors import AnchorGrid
from fledge.types import Targets

SHAPES = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]


def objects(
    rows: Sequence[Sequence[float]], labels: list[int] | None = None, ignore: list[bool] | None = None
) -> Targets:
    count = len(rows)
    return Targets(
        boxes=torch.tensor(rows, dtype=torch.float32).view(-1, 5),
        labels=torch.tensor(labels or [0] * count, dtype=torch.int64),
        ignore=torch.tensor(ignore or [False] * count, dtype=torch.bool),
        difficult=torch.zeros(count, dtype=torch.bool),
    )


def scene(seed: int, count: int, ignored: float = 0.0) -> Targets:
    """Random objects in and around a frame of 64 pixels, some flush with the grid so that overlaps tie."""
    rng = np.random.default_rng(seed)
    low, high = [-10, -10, 4, 3, -1.57], [74, 74, 50, 20, 1.57]
    rows = rng.uniform(low, high, size=(count, 5))
    flush = rng.random(count) < 0.3
    rows[flush] = np.round(rows[flush] / 8) * 8 + [0, 0, 4, 4, 0]
    rows[flush, 4] = 0
    labels = rng.integers(0, 4, size=count)
    return objects(rows.tolist(), labels.tolist(), (rng.random(count) < ignored).tolist())


def overlaps(anchor: list[float], box: list[float]) -> tuple[float, float]:
    """IoU, and intersection over the anchor's area, both rounded to float32."""
    reach = (math.hypot(*anchor[2:4]) + math.hypot(*box[2:4])) / 2
    if math.hypot(anchor[0] - box[0], anchor[1] - box[1]) > reach:
        return 0.0, 0.0
    inter = max(slow_intersection(anchor, box), 0.0)
    area = anchor[2] * anchor[3]
    return float(np.float32(inter / (area + box[2] * box[3] - inter))), float(np.float32(inter / area))


def slow_assign(anchors: Tensor, targets: Targets) -> list[int | None]:
    """The rule word by word, one anchor at a time: an object's index, ``BACKGROUND``, or None for ignored."""
    rows, ignore = targets.boxes.tolist(), targets.ignore.tolist()
    real = [g for g in range(len(rows)) if not ignore[g]]
    table = [[overlaps(a, b) for b in rows] for a in anchors.tolist()]
    result: list[int | None] = []
    for line in table:
        best = max((line[g][0] for g in real), default=0.0)
        if best >= 0.5:
            result.append(min(g for g in real if line[g][0] == best))
        elif best >= np.float32(0.4) or any(ignore[g] and line[g][1] >= 0.5 for g in range(len(rows))):
            result.append(None)
        else:
            result.append(BACKGROUND)
    for g in reversed(real):
        best = max(line[g][0] for line in table)
        for a, line in enumerate(table):
            if best > 0 and line[g][0] == best:
                result[a] = g
    return result


def assert_equals_reference(assignment: Assignment, anchors: Tensor, targets: list[Targets]) -> None:
    chosen = []
    for b, target in enumerate(targets):
        expected = slow_assign(anchors, target)
        labels = [IGNORED if g is None else BACKGROUND if g < 0 else int(target.labels[g]) for g in expected]
        assert assignment.labels[b].tolist() == labels
        chosen += [target.boxes[g] for g in expected if g is not None and g >= 0]
    assert torch.equal(assignment.positive, assignment.labels >= 0)
    assert torch.equal(assignment.valid, assignment.labels != IGNORED)
    assert torch.equal(assignment.boxes, torch.stack(chosen) if chosen else torch.zeros(0, 5))
    assert assignment.positives == int(assignment.positive.sum()) == len(chosen)


@pytest.fixture(scope="module")
def anchors() -> Tensor:
    return torch.cat(AnchorGrid(scale=2.0).grids(SHAPES, "cpu"))


@pytest.mark.parametrize("seed", range(6))
def test_matches_the_slow_reference(anchors: Tensor, seed: int) -> None:
    counts = [(9, 0, 3), (0, 12), (1, 1, 1), (20,), (4, 7), (2, 0, 0, 5)][seed]
    targets = [scene(10 * seed + i, n, ignored=0.3 if seed % 2 else 0.0) for i, n in enumerate(counts)]
    assignment = MaxIoUAssigner()(anchors, targets)
    assert_equals_reference(assignment, anchors, targets)
    assert assignment.positives > 0


def test_by_hand() -> None:
    anchors = torch.tensor(
        [
            [5, 5, 10, 10, 0],  # the object itself
            [5, 5, 10, 20, 0],  # overlaps it by exactly 1/2
            [5, 5, 10, 25, 0],  # by exactly 0.4
            [5, 5, 10, 26, 0],  # by less
            [95, 95, 10, 10, 0],  # by nothing
        ],
        dtype=torch.float32,
    )
    assignment = MaxIoUAssigner()(anchors, [objects([[5, 5, 10, 10, 0]], labels=[3])])
    assert assignment.labels.tolist() == [[3, 3, IGNORED, BACKGROUND, BACKGROUND]]
    assert assignment.valid.tolist() == [[True, True, False, True, True]]


def test_every_object_claims_its_best_anchors_with_all_ties() -> None:
    anchors = torch.tensor([[x, 50, 20, 20, 0] for x in (10, 30, 50, 70)], dtype=torch.float32)
    small, on_the_border = [10, 50, 4, 4, 0.3], [60, 50, 4, 4, 0]
    assignment = MaxIoUAssigner()(anchors, [objects([small, on_the_border], labels=[1, 2])])
    assert assignment.labels.tolist() == [[1, BACKGROUND, 2, 2]]


def test_a_claim_overrides_a_better_overlap_and_the_lowest_index_wins() -> None:
    anchors = torch.tensor([[50, 50, 20, 20, 0], [50, 55, 20, 20, 0]], dtype=torch.float32)
    large, small, equal = [50, 50, 20, 20, 0], [50, 50, 3, 3, 0], [50, 50, 3, 3, 0]
    # Both small boxes tie on both anchors: claimed by them, though the large one fits the first anchor exactly ...
    overridden = MaxIoUAssigner()(anchors, [objects([small, equal, large], labels=[0, 1, 2])])
    assert overridden.labels.tolist() == [[0, 0]]
    # ... unless the large one claims it with a lower index.
    first = MaxIoUAssigner()(anchors, [objects([large, small, equal], labels=[2, 0, 1])])
    assert first.labels.tolist() == [[2, 0]]


def test_an_object_no_anchor_touches_stays_unassigned() -> None:
    anchors = torch.tensor([[50, 50, 20, 20, 0]], dtype=torch.float32)
    assignment = MaxIoUAssigner()(anchors, [objects([[500, 500, 20, 20, 0]])])
    assert assignment.labels.tolist() == [[BACKGROUND]]
    assert assignment.positives == 0


def test_ignored_objects() -> None:
    anchors = torch.tensor(
        [[50, 50, 20, 20, 0], [60, 50, 20, 20, 0], [61, 50, 20, 20, 0], [50, 58, 20, 20, 0]], dtype=torch.float32
    )
    hidden, real = [50, 50, 20, 20, 0], [50, 59, 20, 20, 0]
    alone = MaxIoUAssigner()(anchors, [objects([hidden], ignore=[True])])
    assert alone.labels.tolist() == [[IGNORED, IGNORED, BACKGROUND, IGNORED]]
    both = MaxIoUAssigner()(anchors, [objects([hidden, real], labels=[0, 1], ignore=[True, False])])
    assert both.labels.tolist() == [[IGNORED, IGNORED, BACKGROUND, 1]]
    assert torch.equal(both.boxes, torch.tensor([real], dtype=torch.float32))


@pytest.mark.parametrize("images", [1, 3])
def test_no_objects_at_all(anchors: Tensor, images: int) -> None:
    assignment = MaxIoUAssigner()(anchors, [Targets.empty()] * images)
    assert assignment.labels.shape == (images, len(anchors))
    assert bool((assignment.labels == BACKGROUND).all())
    assert assignment.boxes.shape == (0, 5)


def test_only_ignored_objects(anchors: Tensor) -> None:
    target = scene(5, 6)
    assignment = MaxIoUAssigner()(anchors, [replace(target, ignore=torch.ones(6, dtype=torch.bool))])
    assert assignment.positives == 0
    assert set(assignment.labels.flatten().tolist()) == {BACKGROUND, IGNORED}


def test_an_image_is_assigned_alike_in_any_batch(anchors: Tensor) -> None:
    targets = [scene(70 + i, n, ignored=0.2) for i, n in enumerate((5, 0, 30, 1))]
    together = MaxIoUAssigner()(anchors, targets)
    alone = [MaxIoUAssigner()(anchors, [t]) for t in targets]
    assert torch.equal(together.labels, torch.cat([a.labels for a in alone]))
    assert torch.equal(together.boxes, torch.cat([a.boxes for a in alone]))
    swapped = MaxIoUAssigner()(anchors, targets[::-1])
    assert torch.equal(swapped.labels, together.labels.flip(0))


def test_thresholds(anchors: Tensor) -> None:
    target = scene(3, 15)
    strict, loose = MaxIoUAssigner(0.7, 0.3)(anchors, [target]), MaxIoUAssigner(0.4, 0.4)(anchors, [target])
    assert strict.positives < MaxIoUAssigner()(anchors, [target]).positives < loose.positives
    assert bool(loose.valid.all())
    assert int((~strict.valid).sum()) > 0
