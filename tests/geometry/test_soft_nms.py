from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry import rotated_nms, rotated_soft_nms

from .oracle import slow_iou

Method = Literal["linear", "gaussian"]
METHODS: tuple[Method, ...] = ("linear", "gaussian")


def crowd(count: int, seed: int, area: float = 80) -> tuple[Tensor, Tensor]:
    """Clustered boxes and scores that are often equal."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    boxes = boxes * torch.tensor([area, area, 40, 20, 6.3]) + torch.tensor([0, 0, 4, 4, -3.1])
    half = count // 2
    boxes[half:] = boxes[: count - half] + torch.randn(count - half, 5, generator=generator) * 0.5
    return boxes, torch.randint(0, 20, (count,), generator=generator).double() / 20


def slow_soft_nms(
    boxes: list[list[float]], scores: list[float], labels: list[int], method: str, sigma: float, t: float, least: float
) -> list[tuple[int, float]]:
    """The loop of the paper's figure 2."""
    left, taken = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda k: (left[k], -k))
        score = left.pop(best)
        if score < least:
            break
        taken.append((best, score))
        for k in left:
            iou = slow_iou(boxes[best], boxes[k]) if labels[k] == labels[best] else 0.0
            if method == "gaussian":
                left[k] *= math.exp(-(iou**2) / sigma)
            elif iou > t:
                left[k] *= 1 - iou
    return taken


@pytest.mark.parametrize("method", METHODS)
@given(count=st.integers(0, 25), seed=st.integers(0, 1000), classes=st.integers(1, 3))
def test_equals_the_loop_of_the_paper(method: Method, count: int, seed: int, classes: int) -> None:
    boxes, scores = crowd(count, seed)
    labels = torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))
    kept, lowered = rotated_soft_nms(boxes, scores, labels, method, 0.4, 0.2, 0.05)
    expected = slow_soft_nms(boxes.tolist(), scores.tolist(), labels.tolist(), method, 0.4, 0.2, 0.05)
    torch.testing.assert_close(lowered, torch.tensor([s for _, s in expected], dtype=torch.float64))
    assert sorted(kept.tolist()) == sorted(k for k, _ in expected)
    assert (lowered.diff() <= 0).all()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 1000), shift=st.floats(-1e4, 1e4), turn=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_moving_turning_and_scaling_change_nothing(
    method: Method, seed: int, shift: float, turn: float, scale: float
) -> None:
    boxes, _ = crowd(20, seed)
    scores = torch.rand(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y, w, h, angle = boxes.unbind(1)
    moved = torch.stack([x * cos - y * sin, x * sin + y * cos, w, h, angle + turn], dim=1)
    moved = moved * torch.tensor([scale] * 4 + [1.0]) + torch.tensor([shift, -shift, 0, 0, 0])
    expected, found = rotated_soft_nms(boxes, scores, None, method), rotated_soft_nms(moved, scores, None, method)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_boxes_does_not_matter(method: Method) -> None:
    boxes, _ = crowd(60, 1)
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    kept, lowered = rotated_soft_nms(boxes, scores, None, method)
    again, same = rotated_soft_nms(boxes[order], scores[order], None, method)
    assert torch.equal(order[again], kept)
    torch.testing.assert_close(same, lowered)


def test_by_hand() -> None:
    """The second box overlaps the first by a third, the third none."""
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [1, 0, 2, 2, 0], [9, 0, 2, 2, 0]])
    scores = torch.tensor([0.9, 0.6, 0.5])
    kept, lowered = rotated_soft_nms(boxes, scores, method="linear")
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered, torch.tensor([0.9, 0.5, 0.4]))
    kept, lowered = rotated_soft_nms(boxes, scores)
    torch.testing.assert_close(lowered, torch.tensor([0.9, 0.5, 0.6 * math.exp(-2 / 9)]))
    assert rotated_soft_nms(boxes, scores, method="linear", iou_threshold=0.4)[1].tolist() == scores.tolist()


def test_a_threshold_that_drops_all_that_overlap_is_greedy() -> None:
    """A Gaussian so narrow that what is touched falls below the least score."""
    boxes, scores = crowd(200, 3, 200)
    kept, lowered = rotated_soft_nms(boxes, scores + 0.1, None, "gaussian", 1e-40, 0.3, 0.1)
    assert torch.equal(kept, rotated_nms(boxes, scores, 0.0))
    torch.testing.assert_close(lowered, scores[kept] + 0.1)


@pytest.mark.parametrize("method", METHODS)
def test_images_and_classes_in_one_label(method: Method) -> None:
    boxes, scores = crowd(90, 4)
    image, label = (torch.randint(0, n, (90,), generator=torch.Generator().manual_seed(n)) for n in (3, 2))
    kept, lowered = rotated_soft_nms(boxes, scores, image * 2 + label, method)
    for k in range(3):
        index = (image == k).nonzero()[:, 0]
        alone, expected = rotated_soft_nms(boxes[index], scores[index], label[index], method)
        torch.testing.assert_close(lowered[image[kept] == k], expected)
        assert set(kept[image[kept] == k].tolist()) == set(index[alone].tolist())


def test_empty_one_and_equal() -> None:
    kept, lowered = rotated_soft_nms(torch.zeros(0, 5), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert kept.shape == lowered.shape == (0,)
    assert kept.dtype == torch.int64
    kept, lowered = rotated_soft_nms(torch.ones(1, 5), torch.full((1,), 0.5, dtype=torch.float16))
    assert kept.tolist() == [0]
    assert lowered.dtype == torch.float16
    apart = torch.tensor([[40.0 * k, 0, 9, 4, 1] for k in range(5)])
    assert rotated_soft_nms(apart, torch.full((5,), 0.5))[0].tolist() == [0, 1, 2, 3, 4]
    assert rotated_soft_nms(apart * 0 + 5, torch.full((5,), 0.5), method="linear")[0].tolist() == [0]


def test_bad_input_is_named() -> None:
    boxes, scores = crowd(5, 7)
    with pytest.raises(UsageError, match="at least 0"):
        rotated_soft_nms(boxes, scores - 1)
    with pytest.raises(UsageError, match='"hard"'):
        rotated_soft_nms(boxes, scores, method="hard")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sigma 0"):
        rotated_soft_nms(boxes, scores, sigma=0)
    with pytest.raises(UsageError, match="iou_threshold 50"):
        rotated_soft_nms(boxes, scores, iou_threshold=50)
    scores[3] = math.nan
    with pytest.raises(NumericError, match=r"rotated_soft_nms: 1 of 5 .*box 3"):
        rotated_soft_nms(boxes, scores)
