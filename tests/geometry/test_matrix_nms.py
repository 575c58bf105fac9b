from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fledge.errors import NumericError, UsageError
from fledge.geometry import rotated_matrix_nms

from .oracle import slow_iou
from .test_soft_nms import METHODS, Method, crowd


def slow_matrix_nms(
    boxes: list[list[float]], scores: list[float], labels: list[int], method: str, sigma: float
) -> list[float]:
    """Equation 5 of the paper as it reads, over all better boxes of the class; the new score of every box."""
    order = sorted(range(len(scores)), key=lambda k: (-scores[k], k))

    def f(iou: float) -> float:
        return 1 - iou if method == "linear" else math.exp(-(iou**2) / sigma)

    def better(j: int) -> list[int]:
        return [i for i in order[: order.index(j)] if labels[i] == labels[j]]

    lowered = []
    for j in range(len(scores)):
        ratios = []
        for i in better(j):
            most = max((slow_iou(boxes[k], boxes[i]) for k in better(i)), default=0.0)
            if f(most) > 1e-12:
                ratios.append(f(slow_iou(boxes[i], boxes[j])) / f(most))
        lowered.append(scores[j] * min(ratios, default=1.0))
    return lowered


@pytest.mark.parametrize("method", METHODS)
@given(count=st.integers(0, 14), seed=st.integers(0, 1000), classes=st.integers(1, 3))
def test_equals_the_equation(method: Method, count: int, seed: int, classes: int) -> None:
    boxes, scores = crowd(count, seed)
    labels = torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))
    kept, lowered = rotated_matrix_nms(boxes, scores, labels, method, 0.4, 0.05)
    expected = torch.tensor(
        slow_matrix_nms(boxes.tolist(), scores.tolist(), labels.tolist(), method, 0.4), dtype=torch.float64
    )
    torch.testing.assert_close(lowered, expected[kept])
    assert set(kept.tolist()) == set((expected >= 0.05).nonzero()[:, 0].tolist())
    assert (lowered.diff() <= 0).all()


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 1000), shift=st.floats(-1e4, 1e4), turn=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_moving_turning_and_scaling_change_nothing(
    method: Method, seed: int, shift: float, turn: float, scale: float
) -> None:
    boxes, scores = crowd(20, seed)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y, w, h, angle = boxes.unbind(1)
    moved = torch.stack([x * cos - y * sin, x * sin + y * cos, w, h, angle + turn], dim=1)
    moved = moved * torch.tensor([scale] * 4 + [1.0]) + torch.tensor([shift, -shift, 0, 0, 0])
    expected, found = (rotated_matrix_nms(b, scores, None, method, min_score=0) for b in (boxes, moved))
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-9)


def test_by_hand() -> None:
    """Each of three boxes overlaps the next by a third; the second, itself in doubt, costs the third nothing."""
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [1, 0, 2, 2, 0], [2, 0, 2, 2, 0]])
    kept, lowered = rotated_matrix_nms(boxes, torch.tensor([0.9, 0.6, 0.5]), method="linear")
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered, torch.tensor([0.9, 0.5, 0.4]))


@pytest.mark.parametrize("method", METHODS)
def test_copies_lose_the_same_score(method: Method) -> None:
    """Any number of copies: each is measured against the best one."""
    boxes = torch.tensor([[5.0, 5, 8, 3, 0.3]]).repeat(6, 1)
    scores = torch.full((6,), 0.8)
    kept, lowered = rotated_matrix_nms(boxes, scores, method=method, min_score=0)
    assert kept.tolist() == list(range(6))
    factor = 0.0 if method == "linear" else math.exp(-2)
    torch.testing.assert_close(lowered, torch.tensor([0.8] + [0.8 * factor] * 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_images_and_classes_in_one_label(method: Method) -> None:
    boxes, scores = crowd(90, 4)
    image, label = (torch.randint(0, n, (90,), generator=torch.Generator().manual_seed(n)) for n in (3, 2))
    kept, lowered = rotated_matrix_nms(boxes, scores, image * 2 + label, method)
    for k in range(3):
        index = (image == k).nonzero()[:, 0]
        alone, expected = rotated_matrix_nms(boxes[index], scores[index], label[index], method)
        torch.testing.assert_close(lowered[image[kept] == k], expected)
        assert kept[image[kept] == k].tolist() == index[alone].tolist()


def test_empty_and_one() -> None:
    kept, lowered = rotated_matrix_nms(torch.zeros(0, 5), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert kept.shape == lowered.shape == (0,)
    assert kept.dtype == torch.int64
    kept, lowered = rotated_matrix_nms(torch.ones(1, 5), torch.full((1,), 0.5, dtype=torch.float16))
    assert kept.tolist() == [0]
    assert lowered.dtype == torch.float16


def test_bad_input_is_named() -> None:
    boxes, scores = crowd(5, 7)
    with pytest.raises(UsageError, match="at least 0"):
        rotated_matrix_nms(boxes, scores - 1)
    with pytest.raises(UsageError, match='"hard"'):
        rotated_matrix_nms(boxes, scores, method="hard")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sigma -1"):
        rotated_matrix_nms(boxes, scores, sigma=-1)
    boxes[2, 0] = math.inf
    with pytest.raises(NumericError, match=r"rotated_matrix_nms: 1 of 5 .*box 2"):
        rotated_matrix_nms(boxes, scores)
