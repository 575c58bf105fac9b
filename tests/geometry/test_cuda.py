"""On a GPU the same numbers as on a CPU, and no wait for the device per box."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fledge.geometry import (
    deformable_sample,
    rotated_iou,
    rotated_iou_pairs,
    rotated_matrix_nms,
    rotated_nms,
    rotated_roi_align,
    rotated_soft_nms,
)

from .stress import STRESS
from .test_operators import odd_boxes, scattered

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def on_both(values: tuple[Tensor, ...], tolerance: float = 1e-6) -> None:
    here, there = values
    torch.testing.assert_close(there.cpu(), here, atol=tolerance, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", STRESS)
def test_iou_and_its_gradient(name: str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        first, second = (b.to(device).requires_grad_() for b in STRESS[name](2000, torch.float32))
        value = rotated_iou(first, second, aligned=True)
        results.append((value.detach(), *torch.autograd.grad(value.sum(), (first, second))))
    on_both((results[0][0], results[1][0]))
    if name in ("random", "far from the origin"):  # elsewhere one-sided derivatives may differ
        for here, there in zip(results[0][1:], results[1][1:], strict=True):
            on_both((here, there), 1e-4)


def test_pairs() -> None:
    for first, second in ((scattered(500, 0), scattered(400, 1)), (odd_boxes(), scattered(60, 2))):
        here = rotated_iou_pairs(first, second, 0.2)
        there = rotated_iou_pairs(first.cuda(), second.cuda(), 0.2)
        for a, b in zip(here, there, strict=True):
            on_both((a, b))
        on_both((rotated_iou(first, second), rotated_iou(first.cuda(), second.cuda())))


@pytest.mark.parametrize("count", [0, 1, 700, 6000])
def test_suppression(count: int) -> None:
    boxes, scores = scattered(count, 3, 1000), torch.rand(count, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 3
    here = rotated_nms(boxes, scores, 0.3, labels)
    assert rotated_nms(boxes.cuda(), scores.cuda(), 0.3, labels.cuda()).tolist() == here.tolist()


@pytest.mark.parametrize("suppress", [rotated_soft_nms, rotated_matrix_nms])
def test_suppression_of_scores(suppress: Callable[..., tuple[Tensor, Tensor]]) -> None:
    boxes, scores = scattered(300, 6, 200), torch.rand(300, generator=torch.Generator().manual_seed(0))
    here, there = suppress(boxes, scores), suppress(boxes.cuda(), scores.cuda())
    assert there[0].tolist() == here[0].tolist()
    on_both((here[1], there[1]))


def test_roi_align_and_deformable_sampling() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 8, 20, 30, generator=generator)
    boxes = torch.cat([torch.arange(10)[:, None] % 2, scattered(10, 4, 100)], dim=1)
    on_both(
        (rotated_roi_align(features, boxes, 7, 0.25), rotated_roi_align(features.cuda(), boxes.cuda(), 7, 0.25)), 1e-4
    )
    values, places = torch.rand(2, 26, 4, 8, generator=generator), torch.rand(2, 9, 4, 2, 3, 2, generator=generator)
    weights, shapes = torch.rand(2, 9, 4, 2, 3, generator=generator), [(4, 5), (2, 3)]
    there = deformable_sample(values.cuda(), places.cuda(), weights.cuda(), shapes)
    on_both((deformable_sample(values, places, weights, shapes), there), 1e-4)


def test_waits_do_not_grow_with_the_boxes() -> None:
    """20,000 boxes are suppressed in few round trips."""
    boxes, scores = (
        scattered(20_000, 5, 8192).cuda(),
        torch.rand(20_000, generator=torch.Generator().manual_seed(0)).cuda(),
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        rotated_nms(boxes, scores, 0.3)
    waits = sum(
        e.count for e in profile.key_averages() if "Synchronize" in e.key or e.key == "aten::_local_scalar_dense"
    )
    assert waits < 500
