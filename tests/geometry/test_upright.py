"""Upright boxes against corners, and suppression against the rule as one says it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.geometry.boxes import corners
from fledge.geometry.upright import (
    _fixed_point,
    as_le90,
    decode_upright,
    encode_upright,
    extents,
    from_extents,
    greedy_mask,
    upright_hulls,
)

BOX = st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.5, 300), st.floats(0.5, 300), st.floats(-4, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(BOX, min_size=1, max_size=8))
def test_hulls_and_le90(boxes: list[tuple[float, ...]]) -> None:
    given_boxes = torch.tensor(boxes, dtype=torch.float64)
    hulls = upright_hulls(given_boxes)
    points = corners(given_boxes)
    around = torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
    torch.testing.assert_close(extents(hulls), around, atol=1e-9, rtol=0)
    torch.testing.assert_close(from_extents(around), hulls[:, :4], atol=1e-9, rtol=0)
    assert not hulls[:, 4].any()
    canonical = as_le90(hulls[:, :4])
    assert bool((canonical[:, 2] >= canonical[:, 3]).all())
    tall = hulls[:, 3] > hulls[:, 2]
    assert canonical[:, 4].tolist() == [-math.pi / 2 if t else 0.0 for t in tall.tolist()]
    ends = corners(canonical)
    torch.testing.assert_close(torch.cat([ends.amin(dim=1), ends.amax(dim=1)], dim=1), around, atol=1e-9, rtol=0)


def test_deltas_by_hand() -> None:
    anchors = torch.tensor([[10.0, 20, 8, 4, 0], [0, 0, 2, 2, 0]])
    boxes = torch.tensor([[12.0, 19, 16, 2, 0], [0, 0, 2, 2, 0]])
    codes = encode_upright(anchors, boxes)
    torch.testing.assert_close(codes, torch.tensor([[0.25, -0.25, math.log(2), -math.log(2)], [0, 0, 0, 0]]))
    torch.testing.assert_close(decode_upright(anchors, codes), boxes[:, :4])
    far = decode_upright(anchors[:1], torch.tensor([[0.0, 0, 99, -99]]))
    torch.testing.assert_close(far[0, 2:], torch.tensor([8 * 62.5, 4 / 62.5]))
    assert bool(decode_upright(anchors[:1], torch.tensor([[torch.nan, 0, 0, 0]])).isnan().any())


def test_deltas_have_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = 5 + 9 * torch.rand(4, 4, generator=generator, dtype=torch.float64)
    boxes = (5 + 9 * torch.rand(4, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: encode_upright(anchors, b), (boxes,))
    codes = (torch.rand(4, 4, generator=generator, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: decode_upright(anchors, c), (codes,))
    torch.testing.assert_close(encode_upright(anchors, decode_upright(anchors, codes)), codes)


def slow_greedy(boxes: list[list[float]], valid: list[bool], threshold: float) -> list[bool]:
    kept: list[int] = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        worst = 0.0
        for k in kept:
            u1, v1, u2, v2 = boxes[k]
            inter = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
            worst = max(worst, inter / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - inter))
        if valid[i] and worst <= threshold:
            kept.append(i)
    return [i in kept for i in range(len(boxes))]


@pytest.mark.parametrize(("count", "threshold"), [(0, 0.5), (1, 0.5), (70, 0.7), (120, 0.2)])
def test_suppression_is_greedy(count: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(count)
    low = 60 * torch.rand(2, count, 2, generator=generator)
    boxes = torch.cat([low, low + 5 + 20 * torch.rand(2, count, 2, generator=generator)], dim=2)
    valid = torch.rand(2, count, generator=generator) < 0.8
    expected = [slow_greedy(b.tolist(), v.tolist(), threshold) for b, v in zip(boxes, valid, strict=True)]
    assert greedy_mask(boxes, valid, threshold).tolist() == expected
    if count:
        assert _fixed_point(boxes, valid, threshold).tolist() == expected


def test_a_long_chain_of_suppressions_and_a_bad_number() -> None:
    chain = torch.tensor([[6.0 * i, 0, 6.0 * i + 10, 4] for i in range(200)])[None]
    every = torch.ones(1, 200, dtype=torch.bool)
    expected = [i % 2 == 0 for i in range(200)]
    for function in (greedy_mask, _fixed_point):
        assert function(chain, every, 0.2)[0].tolist() == expected
    broken: Tensor = chain.clone()
    broken[0, 1] = torch.nan
    every[0, 1] = False
    assert _fixed_point(broken, every, 0.2)[0].tolist() == greedy_mask(broken, every, 0.2)[0].tolist()
