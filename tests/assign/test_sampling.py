"""Sampling and matching of regions against counting and loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from fledge.assign.max_iou import BACKGROUND, IGNORED
from fledge.assign.sampling import balanced_sample, match_regions
from fledge.geometry.upright import from_extents
from fledge.types import Targets


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-2, 3), max_size=60), st.integers(1, 40), st.integers(0, 2**31 - 1))
def test_a_sample_is_balanced(rows: list[int], count: int, seed: int) -> None:
    labels = torch.tensor(rows, dtype=torch.int64)
    chosen = balanced_sample(labels, count, 0.25, seed)
    positives, background = sum(r >= 0 for r in rows), sum(r == BACKGROUND for r in rows)
    wanted = min(positives, int(count * 0.25))
    assert int((labels[chosen] >= 0).sum()) == wanted
    assert int((labels[chosen] == BACKGROUND).sum()) == min(background, count - wanted)
    assert not bool((labels[chosen] == IGNORED).any())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, balanced_sample(labels, count, 0.25, seed))


def test_every_row_has_the_same_chance() -> None:
    labels = torch.tensor([0] * 6 + [BACKGROUND] * 20 + [IGNORED] * 4)
    hits = torch.zeros(30)
    for seed in range(600):
        hits[balanced_sample(labels, 8, 0.5, seed)] += 1
    assert not hits[26:].any()
    assert float((hits[:6] / 600 - 4 / 6).abs().max()) < 0.08
    assert float((hits[6:26] / 600 - 4 / 20).abs().max()) < 0.08


def test_global_random_numbers_stay() -> None:
    state = torch.get_rng_state()
    balanced_sample(torch.zeros(9, dtype=torch.int64), 3, 0.5, 1)
    assert torch.equal(state, torch.get_rng_state())


def targets_of(corners: Tensor, labels: list[int], ignore: list[bool]) -> Targets:
    boxes = torch.cat([from_extents(corners), torch.zeros(len(corners), 1)], dim=1)
    flags = torch.tensor(ignore, dtype=torch.bool)
    return Targets(boxes, torch.tensor(labels, dtype=torch.int64), flags, torch.zeros_like(flags))


def slow_match(regions: Tensor, corners: Tensor, labels: list[int], ignore: list[bool]) -> list[tuple[int, int]]:
    """By pairs: (label, object), the object only where there is one."""
    found = []
    for region in regions:
        best, row, hidden = 0.0, -1, False
        for k in range(len(corners)):
            inter = (torch.minimum(region[2:], corners[k, 2:]) - torch.maximum(region[:2], corners[k, :2])).clamp(min=0)
            share = float(inter.prod() / (region[2:] - region[:2]).prod())
            if ignore[k]:
                hidden |= share >= 0.5
            elif (iou := float(box_iou(region[None], corners[k][None]))) > best:
                best, row = iou, k
        if best >= 0.5:
            found.append((labels[row], row))
        else:
            found.append((IGNORED if hidden else BACKGROUND, -1))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_matching_against_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = 40 * torch.rand(6, 2, generator=generator)
    corners = torch.cat([low, low + 8 + 12 * torch.rand(6, 2, generator=generator)], dim=1)
    near = corners[torch.randint(0, 6, (80,), generator=generator)]
    regions = torch.cat([near + 6 * torch.rand(80, 4, generator=generator) - 3, corners + 30])
    labels, ignore = [2, 0, 1, 1, 0, 2], [False, False, True, False, True, False]
    got, row = match_regions(regions, targets_of(corners, labels, ignore))
    expected = slow_match(regions, corners, labels, ignore)
    assert got.tolist() == [label for label, _ in expected]
    assert {IGNORED, BACKGROUND, 0, 1, 2} == set(got.tolist())
    assert [r for r, g in zip(row.tolist(), got.tolist(), strict=True) if g >= 0] == [r for _, r in expected if r >= 0]


def test_without_objects_or_regions() -> None:
    none = targets_of(torch.zeros(0, 4), [], [])
    regions = torch.tensor([[0.0, 0, 4, 4]])
    assert match_regions(regions, none)[0].tolist() == [BACKGROUND]
    hidden = targets_of(torch.tensor([[0.0, 0, 9, 9]]), [0], [True])
    assert match_regions(regions, hidden)[0].tolist() == [IGNORED]
    assert match_regions(torch.zeros(0, 4), hidden)[0].shape == (0,)
