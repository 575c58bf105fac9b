from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry import rotated_iou, rotated_nms

from .oracle import slow_iou, slow_nms

THRESHOLDS = (0.1, 0.3, 0.7)


def crowd(count: int, seed: int, area: float = 300) -> tuple[Tensor, Tensor]:
    """Clustered boxes: one in two is a jittered copy of another."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    boxes = boxes * torch.tensor([area, area, 50, 25, 6.3]) + torch.tensor([0, 0, 4, 4, -3.1])
    half = count // 2
    boxes[half:] = boxes[: count - half] + torch.randn(count - half, 5, generator=generator) * torch.tensor(
        [2, 2, 1, 1, 0.1]
    )
    return boxes, torch.rand(count, generator=generator)


def brute_force(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    return slow_nms(rotated_iou(boxes, boxes).tolist(), scores.tolist(), threshold)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_small_crowds_by_the_book(threshold: float) -> None:
    """With an IoU that is not ours."""
    boxes, scores = crowd(60, 0, 80)
    ious = [[slow_iou(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    assert rotated_nms(boxes, scores, threshold).tolist() == slow_nms(ious, scores.tolist(), threshold)


@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(seed: int) -> None:
    boxes, scores = crowd(1000, seed)
    for threshold in THRESHOLDS:
        kept = rotated_nms(boxes, scores, threshold)
        assert kept.dtype == torch.int64
        assert kept.tolist() == brute_force(boxes, scores, threshold)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 20))
def test_equals_brute_force_more_seeds(seed: int) -> None:
    test_equals_brute_force(seed)


def test_a_suppressed_box_suppresses_nothing() -> None:
    """A chain in which each box overlaps only the next: every other one stays, however long it is."""
    boxes = torch.tensor([[6.0 * i, 0, 10, 4, 0] for i in range(200)])
    scores = torch.linspace(1, 0, 200)
    assert rotated_nms(boxes, scores, 0.2).tolist() == list(range(0, 200, 2))


def test_labels_separate() -> None:
    boxes, scores = crowd(300, 5, 100)
    labels = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(0))
    expected = []
    for k in range(3):
        index = (labels == k).nonzero()[:, 0]
        expected += index[rotated_nms(boxes[index], scores[index], 0.3)].tolist()
    kept = rotated_nms(boxes, scores, 0.3, labels).tolist()
    assert sorted(kept) == sorted(expected)
    assert kept == sorted(kept, key=lambda i: -scores[i])
    assert len(kept) > len(rotated_nms(boxes, scores, 0.3))


def test_equal_scores_keep_their_order() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 4, 0]] * 3 + [[50.0, 0, 10, 4, 0]] * 3)
    assert rotated_nms(boxes, torch.full((6,), 0.5), 0.5).tolist() == [0, 3]
    crowded, _ = crowd(300, 6)
    scores = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(1)).float()
    assert rotated_nms(crowded, scores, 0.3).tolist() == brute_force(crowded, scores, 0.3)


def test_threshold_is_exclusive() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [1.0, 0, 2, 2, 0]], dtype=torch.float64)  # IoU 2 / 6
    scores = torch.tensor([0.9, 0.8])
    assert rotated_nms(boxes, scores, 0.334).tolist() == [0, 1]
    assert rotated_nms(boxes, scores, 0.333).tolist() == [0]
    same = boxes[[0, 0]]
    assert rotated_nms(same, scores, 1.0).tolist() == [0, 1]
    assert rotated_nms(same, scores, 0.0).tolist() == [0]


@given(st.integers(0, 30), st.integers(0, 1000), st.sampled_from(THRESHOLDS))
def test_kept_boxes_do_not_overlap_and_dropped_ones_do(count: int, seed: int, threshold: float) -> None:
    boxes, scores = crowd(count, seed, 40)
    kept = rotated_nms(boxes, scores, threshold)
    ious = rotated_iou(boxes, boxes[kept])
    among = ious[kept].fill_diagonal_(0)
    assert (among <= threshold).all()
    better = scores[kept][None] > scores[:, None]
    dropped = torch.ones(count, dtype=torch.bool)
    dropped[kept] = False
    assert ((ious > threshold) & better).any(dim=1)[dropped].all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    boxes, scores = crowd(5, 7)
    boxes[3, 4] = value
    with pytest.raises(NumericError, match="box 3"):
        rotated_nms(boxes, scores, 0.5)
    boxes, scores = crowd(5, 7)
    scores[2] = value
    with pytest.raises(NumericError, match="box 2"):
        rotated_nms(boxes, scores, 0.5)


def test_threshold_is_checked() -> None:
    with pytest.raises(UsageError, match="iou_threshold 50"):
        rotated_nms(torch.zeros(0, 5), torch.zeros(0), 50)


def test_empty_and_one() -> None:
    assert rotated_nms(torch.zeros(0, 5), torch.zeros(0), 0.5).shape == (0,)
    assert rotated_nms(torch.zeros(0, 5), torch.zeros(0), 0.5, torch.zeros(0, dtype=torch.int64)).dtype == torch.int64
    assert rotated_nms(torch.ones(1, 5), torch.ones(1), 0.5).tolist() == [0]


def test_images_are_kept_apart_by_labels() -> None:
    """Several images at once, as the docstring says."""
    boxes, scores = crowd(200, 10, 60)
    generator = torch.Generator().manual_seed(2)
    images, labels = torch.randint(0, 4, (200,), generator=generator), torch.randint(0, 3, (200,), generator=generator)
    kept = set(rotated_nms(boxes, scores, 0.3, images * 3 + labels).tolist())
    for image in range(4):
        rows = (images == image).nonzero()[:, 0]
        assert set(rows[rotated_nms(boxes[rows], scores[rows], 0.3, labels[rows])].tolist()) == kept & set(
            rows.tolist()
        )
