"""The loops on a CPU and the tensor operations for a GPU give the same bits; compilers see one operator."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.geometry import operators, overlap, pairs, rotated_iou, rotated_iou_pairs, rotated_nms

from .apart import apart
from .stress import STRESS


def scattered(count: int, seed: int, side: float = 200) -> Tensor:
    """Boxes (count, 5) float32 of many sizes, one in four a near copy of another."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 5, generator=generator)
    boxes = torch.cat([u[:, :2] * side, 2 * 30 ** u[:, 2:4], u[:, 4:] * 6 - 3], dim=1)
    copies = count // 4
    boxes[:copies] = boxes[copies : 2 * copies] + torch.randn(copies, 5, generator=generator) * 0.05
    return boxes


def tables(*boxes: Tensor) -> list[Tensor]:
    return [operators.box_table(b) for b in boxes]


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a.nan_to_num(nan=-7), b.nan_to_num(nan=-7)) for a, b in zip(first, second, strict=True))


def odd_boxes() -> Tensor:
    boxes = scattered(40, 3)
    boxes[3, 2], boxes[7, 3], boxes[11, 2] = 0, -4, -1
    boxes[13, 0], boxes[17, 4], boxes[19, 1] = math.nan, math.inf, 1e17
    boxes[23, 4] = 1e6
    return boxes


@pytest.mark.parametrize("boxes", [scattered(500, 0), odd_boxes(), torch.zeros(0, 5)], ids=["usual", "odd", "none"])
def test_tables_are_equal(boxes: Tensor) -> None:
    assert same((operators.box_table(boxes),), (overlap.table(boxes),))


@pytest.mark.parametrize("iof", [False, True])
@pytest.mark.parametrize("name", STRESS)
def test_overlaps_and_gradients_are_equal(name: str, iof: bool) -> None:
    first, second = STRESS[name](500, torch.float32)
    one, two = tables(first, second)
    assert torch.equal(operators.aligned_overlap(first, second, one, two, iof), overlap.overlaps(one, two, iof))
    grad = torch.randn(len(first), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(len(first))
    assert same(operators.overlap_backward(grad, one, two, rows, rows, iof), overlap.gradients(grad, one, two, iof))


@pytest.mark.parametrize("least", [0.0, 0.3])
@pytest.mark.parametrize("iof", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (scattered(300, 1), scattered(200, 2)),
        (odd_boxes(), scattered(60, 4)),
        (scattered(60, 4), odd_boxes()),
        (odd_boxes(), odd_boxes()),
        (torch.zeros(0, 5), odd_boxes()),
        (odd_boxes(), torch.zeros(0, 5)),
        (scattered(1, 5), scattered(1, 5)),
    ],
    ids=["usual", "odd-usual", "usual-odd", "odd-odd", "none-odd", "odd-none", "one"],
)
def test_pairs_are_equal(
    first: Tensor, second: Tensor, iof: bool, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tables(first, second)
    looped = operators.overlapping_pairs(first, second, one, two, least, iof)
    assert same(looped, operators.pairs_as_tensors(one, two, least, iof))
    monkeypatch.setattr(pairs, "_CHUNK", 17)
    monkeypatch.setattr(operators, "_PAIRS", 5)
    monkeypatch.setattr(operators, "_FOUND", 1)
    assert same(looped, operators.pairs_as_tensors(one, two, least, iof))
    assert same(looped, operators.overlapping_pairs(first, second, one, two, least, iof))


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("classes", [1, 3])
def test_suppression_is_equal(threshold: float, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.cat([scattered(600, 6), scattered(100, 7, 3000) * torch.tensor([1, 1, 9, 9, 1])])
    labels = torch.randint(0, classes, (len(boxes),), generator=torch.Generator().manual_seed(0))
    (table,) = tables(boxes)
    looped = operators.greedy_nms(table, labels, threshold)
    assert torch.equal(looped, operators.nms_as_tensors(table, labels, threshold))
    monkeypatch.setattr(operators, "_BLOCK", 31)
    assert torch.equal(looped, operators.nms_as_tensors(table, labels, threshold))


SIDE = st.sampled_from([0.0, 1e-3, 1.0, 2.0, 7.0, 64.0, 5000.0])
PLACE = st.sampled_from([-1e17, -1e5, -3.0, 0.0, 1.0, 2.5, 40.0, 1e5, 1e17])
ANGLE = st.sampled_from([0.0, 0.3, math.pi / 2, -math.pi / 4, 1e6])


@settings(max_examples=200)
@given(rows=st.lists(st.tuples(PLACE, PLACE, SIDE, SIDE, ANGLE), max_size=12), threshold=st.sampled_from([0.0, 0.3]))
def test_suppression_of_any_boxes_is_equal(rows: list[tuple[float, ...]], threshold: float) -> None:
    """Sides from a thousandth to thousands of pixels, boxes that coincide, places where cells are not told apart."""
    (table,) = tables(torch.tensor(rows, dtype=torch.float64).view(-1, 5))
    labels = torch.zeros(len(rows), dtype=torch.int64)
    looped = operators.greedy_nms(table, labels, threshold)
    assert torch.equal(looped, operators.nms_as_tensors(table, labels, threshold))


@settings(max_examples=200)
@given(
    low=st.lists(st.tuples(PLACE, PLACE), max_size=10),
    size=st.lists(st.tuples(SIDE, SIDE), min_size=10, max_size=10),
    cut=st.integers(0, 10),
)
def test_the_sweep_finds_all_candidates(
    low: list[tuple[float, float]], size: list[tuple[float, float]], cut: int
) -> None:
    hulls = torch.tensor([[x, y, x + w, y + h] for (x, y), (w, h) in zip(low, size, strict=False)]).view(-1, 4)
    first, second = hulls[:cut], hulls[cut:]
    apart = (first[:, None, :2] >= second[:, 2:]) | (first[:, None, 2:] <= second[:, :2])
    expected = (~apart.any(dim=2)).nonzero().tolist()
    found = [torch.stack(pair, dim=1) for pair in pairs.candidate_pairs(first, second)]
    assert sorted(torch.cat([torch.zeros(0, 2, dtype=torch.int64), *found]).tolist()) == expected


def iou_and_gradients(function: Any, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    inputs = first.clone().requires_grad_(), second.clone().requires_grad_()
    value = function(*inputs)
    return value.detach(), *torch.autograd.grad((value * value).sum(), inputs)


@pytest.mark.parametrize("aligned", [True, False])
@apart
def test_iou_compiles_whole(aligned: bool) -> None:
    def iou(a: Tensor, b: Tensor) -> Tensor:
        return rotated_iou(a, b, aligned=aligned)

    compiled = torch.compile(iou, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (40, 25):
        first, second = scattered(count, 8), scattered(count, 9)
        assert same(iou_and_gradients(compiled, first, second), iou_and_gradients(iou, first, second))


@apart
def test_suppression_compiles_whole() -> None:
    compiled = torch.compile(rotated_nms, fullgraph=True, backend="aot_eager", dynamic=True)
    for count in (60, 35):
        boxes, scores = scattered(count, 10), torch.rand(count, generator=torch.Generator().manual_seed(0))
        labels = torch.arange(count) % 2
        assert torch.equal(compiled(boxes, scores, 0.3, labels), rotated_nms(boxes, scores, 0.3, labels))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch's check looks at tensors of its own
@apart
def test_operators_are_what_pytorch_expects() -> None:
    """Schema, fake tensors and autograd registration, by PyTorch's own checks."""
    first, second = scattered(12, 11).requires_grad_(), scattered(12, 12).requires_grad_()
    one, two = tables(first.detach(), second.detach())
    rows = torch.arange(12)
    torch.library.opcheck(operators.box_table, (first.detach(),))
    torch.library.opcheck(operators.aligned_overlap, (first, second, one, two, False))
    # The check of compiled gradients has no notion of integer results; test_iou_compiles_whole makes up for it.
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operators.overlapping_pairs, (first, second, one, two, 0.1, True), test_utils=tests)
    torch.library.opcheck(operators.overlap_backward, (torch.ones(12).double(), one, two, rows, rows, False))
    torch.library.opcheck(operators.greedy_nms, (one, rows % 2, 0.3))


def test_half_precision_gradients_keep_their_dtype() -> None:
    first, second = (scattered(8, 13).bfloat16().requires_grad_() for _ in range(2))
    torch.autograd.backward(rotated_iou_pairs(first, second)[2].sum())
    assert first.grad is not None
    assert first.grad.dtype == torch.bfloat16
    assert first.grad.isfinite().all()
