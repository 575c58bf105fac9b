"""Proposals, levels and pooling against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fledge.geometry.anchors import AnchorGrid
from fledge.models.regions import pool_regions, propose, region_levels
from fledge.types import Outputs

GRID = AnchorGrid(strides=(4, 8), scale=4.0, octaves=1)
SHAPES = [(9, 12), (5, 6)]
SIZE = (36, 48)


def outputs_of(seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int, spread: float) -> tuple[Tensor, ...]:
        return tuple(spread * torch.randn(2, 3, channels, h, w, generator=generator) for h, w in SHAPES)

    return Outputs(maps(1, 2.0), maps(4, 0.4), {})


def overlap(a: list[float], b: list[float]) -> float:
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def slow_proposals(outputs: Outputs, image: int, before: int, count: int, iou: float) -> list[list[float]]:
    found: list[tuple[float, list[float]]] = []
    for level, (h, w) in enumerate(SHAPES):
        rows = []
        for y in range(h):
            for x in range(w):
                for a, ratio in enumerate(GRID.ratios):
                    stride = GRID.strides[level]
                    dx, dy, dw, dh = outputs.codes[level][image, a, :, y, x].tolist()
                    wa, ha = 4 * stride / math.sqrt(ratio), 4 * stride * math.sqrt(ratio)
                    cx, cy = (x + 0.5) * stride + dx * wa, (y + 0.5) * stride + dy * ha
                    half_w, half_h = wa * math.exp(dw) / 2, ha * math.exp(dh) / 2
                    ends = [cx - half_w, cy - half_h, cx + half_w, cy + half_h]
                    clipped = [min(max(v, 0), SIZE[1 - k % 2]) for k, v in enumerate(ends)]
                    rows.append((float(outputs.logits[level][image, a, 0, y, x]), clipped))
        rows = sorted(rows, key=lambda r: -r[0])[:before]
        kept: list[tuple[float, list[float]]] = []
        for score, box in rows:
            if box[2] > box[0] and box[3] > box[1] and all(overlap(box, k) <= iou for _, k in kept):
                kept.append((score, box))
        found += kept
    return [box for _, box in sorted(found, key=lambda r: -r[0])[:count]]


@pytest.mark.parametrize(("before", "count"), [(1000, 1000), (40, 30), (5, 3), (1, 1)])
def test_proposals_against_loops(before: int, count: int) -> None:
    outputs = outputs_of(before)
    corners, real = propose(outputs, GRID.grids(SHAPES, "cpu"), SIZE, before, count, 0.7)
    assert corners.shape == (2, count, 4)
    for image in range(2):
        expected = torch.tensor(slow_proposals(outputs, image, before, count, 0.7))
        assert real[image].tolist() == [True] * len(expected) + [False] * (count - len(expected))
        torch.testing.assert_close(corners[image][real[image]], expected, atol=1e-4, rtol=0)


def test_what_is_not_finite_is_no_proposal() -> None:
    outputs = outputs_of(0)
    outputs.codes[0][0] = torch.nan
    outputs.logits[1][0] = torch.nan
    corners, real = propose(outputs, GRID.grids(SHAPES, "cpu"), SIZE, 50, 50, 0.7)
    assert not real[0].any()
    assert bool(real[1].any())
    assert bool(corners[real].isfinite().all())


def test_levels_by_the_formula() -> None:
    sides = [1.0, 56, 111, 113, 223, 225, 447, 449, 5000]
    regions = torch.tensor([[10.0, 10, 10 + s * 2, 10 + s / 2] for s in sides])
    # Level of a region: 4 + log2(side / 224), from P2 to P5.
    expected = [min(max(math.floor(4 + math.log2(s / 224)), 2), 5) - 2 for s in sides]
    assert region_levels(regions, 4).tolist() == expected == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert region_levels(torch.tensor([[0.0, 0, 224, 224]]), 4).tolist() == [2]


def slow_align(x: Tensor, box: list[float], stride: int) -> Tensor:
    """RoIAlign of one region on one map (C, H, W), sample by sample."""
    x1, y1, x2, y2 = (v / stride - 0.5 for v in box)
    bin_w, bin_h = (x2 - x1) / 7, (y2 - y1) / 7
    n_x, n_y = math.ceil((x2 - x1) / 7), math.ceil((y2 - y1) / 7)
    out = torch.zeros(x.shape[0], 7, 7)
    height, width = x.shape[1:]
    for i in range(7):
        for j in range(7):
            for p in range(n_y):
                for q in range(n_x):
                    v, u = y1 + (i + (p + 0.5) / n_y) * bin_h, x1 + (j + (q + 0.5) / n_x) * bin_w
                    if v < -1 or v > height or u < -1 or u > width:
                        continue
                    v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
                    top, left = min(int(v), height - 2), min(int(u), width - 2)
                    b, a = v - top, u - left
                    value = (1 - b) * ((1 - a) * x[:, top, left] + a * x[:, top, left + 1])
                    value = value + b * ((1 - a) * x[:, top + 1, left] + a * x[:, top + 1, left + 1])
                    out[:, i, j] += value / (n_x * n_y)
    return out


def test_pooling_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    strides = (4, 8)
    maps = [torch.randn(2, 3, 120 // s * 2, 160 // s * 2, generator=generator) for s in strides]
    regions = torch.tensor([[3.0, 5, 40, 30], [0, 0, 200, 130], [100, 60, 104, 63], [20, 10, 180, 200]])
    image = torch.tensor([0, 1, 1, 0])
    levels = region_levels(regions, 2).tolist()
    assert set(levels) == {0, 1}
    got = pool_regions(maps, strides, regions, image)
    for row, (box, b, level) in enumerate(zip(regions.tolist(), image.tolist(), levels, strict=True)):
        expected = slow_align(maps[level][b], box, strides[level])
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=1e-4)
    assert pool_regions(maps, strides, regions[:0], image[:0]).shape == (0, 3, 7, 7)
    half = pool_regions([x.bfloat16() for x in maps], strides, regions, image)
    assert half.dtype == torch.float32
