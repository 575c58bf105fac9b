from __future__ import annotations

import torch
from torch import Tensor

from fledge.export.parity import Agreement
from fledge.types import Detections

BOXES = torch.tensor([[20.0, 20, 12, 6, 0.3], [60, 20, 12, 6, -1.2], [20, 60, 30, 4, 1.0]])
SCORES = torch.tensor([0.9, 0.8, 0.7])
LABELS = torch.tensor([0, 1, 1])


def detections(boxes: Tensor = BOXES, scores: Tensor = SCORES, labels: Tensor = LABELS) -> Detections:
    return Detections(boxes, scores, labels, ("car", "ship"))


def agree(expected: Detections, found: Detections) -> Agreement:
    agreement = Agreement()
    agreement.add("a.png", expected, found, 0.05, 0.1)
    return agreement


def test_the_same_in_any_order() -> None:
    order = torch.tensor([2, 0, 1])
    result = agree(detections(), detections().select(order))
    assert (result.matched, result.boxes, result.differences, result.worst_score) == (3, 3, [], 0)
    assert result.worst_iou > 1 - 1e-9
    empty = detections().select(torch.zeros(0, dtype=torch.int64))
    assert agree(empty, empty).differences == []


def test_each_difference_is_named() -> None:
    moved = BOXES.clone()
    moved[2, 0] += 0.1  # of a box 4 pixels wide
    for found, words in (
        (detections().select(torch.tensor([0, 1])), "a.png: missing: ship 0.7000 at (20.00, 60.00, 30.00, 4.00, 1.00)"),
        (detections(moved), "a.png: missing: ship 0.7000"),
        (detections(scores=SCORES + torch.tensor([0.002, 0, 0])), "a.png: missing: car 0.9000"),
        (detections(labels=torch.tensor([1, 1, 1])), "a.png: missing: car 0.9000"),
    ):
        result = agree(detections(), found)
        assert result.matched == 2
        assert result.first().startswith(words)
    extra = agree(detections().select(torch.tensor([0, 1])), detections())
    assert extra.first().startswith("a.png: too many: ship 0.7000")


def test_what_rounding_may_decide_is_excused() -> None:
    faint = detections(scores=torch.tensor([0.9, 0.8, 0.05004]))
    result = agree(faint, faint.select(torch.tensor([0, 1])))
    assert (result.matched, result.on_edge, result.differences) == (2, 1, [])
    touching = torch.tensor([[20.0, 20, 10, 4, 0], [28.181, 20, 10, 4, 0]])  # overlap by a little less than 0.1
    pair = detections(touching, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
    assert agree(pair, pair.select(torch.tensor([0]))).on_edge == 1
    apart = detections(touching + torch.tensor([[0.0], [0.1]]), torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))
    result = agree(apart, apart.select(torch.tensor([0])))
    assert (result.on_edge, len(result.differences)) == (0, 1)
