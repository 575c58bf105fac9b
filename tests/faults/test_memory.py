"""Memory stays bounded however many boxes there are. A child may map only so much more than it holds at its start."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import pytest
import torch
from tests.faults.child import fresh
from torch import Tensor

from fledge.assign.max_iou import MaxIoUAssigner
from fledge.build import build_detector, build_train_step
from fledge.geometry import operators
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.iou import rotated_iou, rotated_iou_pairs
from fledge.geometry.nms import rotated_nms
from fledge.recipe import make_recipe
from fledge.types import Batch, Targets

MIB = 1 << 20
GIB = 1 << 30


def mapped() -> int:
    """Bytes of address space this process has."""
    found = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def allow(extra: int) -> None:
    """Let this process map ``extra`` bytes more than now (importing PyTorch with CUDA alone maps 3 GiB)."""
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + extra, resource.RLIM_INFINITY))


def scattered(count: int, side: int, low: float, high: float) -> Tensor:
    """Boxes (count, 5) all over an image, with sides from ``low`` to ``high``."""
    u = torch.rand(count, 5, generator=torch.Generator().manual_seed(0))
    long = low * (high / low) ** u[:, 2]
    return torch.stack([u[:, 0] * side, u[:, 1] * side, long, long * (0.3 + 0.7 * u[:, 3]), u[:, 4] * 3 - 1.5], dim=1)


def many() -> tuple[Tensor, Tensor]:
    scores = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    return scattered(100_000, 8192, 5, 50), scores


def targets(boxes: Tensor, ignored: float = 0.0) -> Targets:
    count = len(boxes)
    return Targets(
        boxes,
        torch.arange(count) % 3,
        torch.arange(count) < ignored * count,
        torch.zeros(count, dtype=torch.bool),
    )


def greedy() -> None:
    allow(64 * MIB)
    torch.ones(128 * MIB, dtype=torch.uint8)


def step() -> None:
    settings = {"backbone": "resnet18_quarter", "neck_channels": 64, "head_convs": 2, "image_size": 1024}
    recipe = make_recipe(settings, "test")
    train = build_train_step(recipe, build_detector(recipe, "abc"), None)
    image = torch.zeros(1, 3, 1024, 1024, dtype=torch.uint8)
    batch = Batch(image, torch.tensor([[1024, 1024]]), (targets(scattered(5000, 1024, 8, 40), 0.1),))
    rotated_iou(scattered(2, 9, 1, 9), scattered(2, 9, 1, 9), aligned=True)  # loads the compiled loops
    allow(512 * MIB)
    terms = train(batch)
    torch.autograd.backward(sum(terms.values()))
    print("finite", all(bool(value.isfinite()) for value in terms.values()))


def assign() -> None:
    grid = AnchorGrid(octaves=1, ratios=(1.0,))
    anchors = torch.cat(grid.grids([(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)], "cpu"))
    crowd = targets(scattered(200_000, 256, 3, 40), 0.05)
    rotated_iou(scattered(2, 9, 1, 9), scattered(2, 9, 1, 9), aligned=True)
    allow(256 * MIB)
    print("positives", MaxIoUAssigner()(anchors, [crowd]).positives)


def compare() -> None:
    many = scattered(5_000_000, 100_000, 5, 50)
    few = many[:: len(many) // 450].clone()
    few[:, 0] = 50.0  # far from most of the others
    allow(2 * GIB)
    print(rotated_iou(many[1234:1235], many)[0].argmax().item(), len(few) * len(many) > 2**31)
    print(len(rotated_iou_pairs(many, few, 0.5)[0]))


def suppress() -> None:
    assert "numba" not in sys.modules, "imported before it is needed"
    rotated_nms(scattered(9, 100, 5, 50), torch.rand(9), 0.5)  # compiles
    boxes, scores = many()
    table = operators.box_table(boxes)
    labels = torch.zeros(100_000, dtype=torch.int64)
    allow(256 * MIB)
    print("scattered", len(rotated_nms(boxes, scores, 0.1)))
    print("stacked", len(rotated_nms(scattered(1, 100, 5, 50).expand(100_000, 5), scores, 0.1)))
    print("tensors", int(operators.nms_as_tensors(table, labels, 0.1).sum()))


def test_the_limit_is_one() -> None:
    with fresh(greedy) as child:
        ended = child.end()
    assert ended.code == 1
    assert "DefaultCPUAllocator" in ended.out


def test_a_training_step_with_5000_objects() -> None:
    """5,000 objects in one image of 1,024 px, 500 of them ignored: a training step within 512 MiB."""
    with fresh(step) as child:
        ended = child.end(120)
    assert (ended.code, ended.last) == (0, "finite True"), ended.out


def test_suppression_of_100_000_boxes() -> None:
    """NMS of 100,000 boxes, scattered or all in one place, within 256 MiB."""
    with fresh(suppress) as child:
        ended = child.end(120)
    assert ended.code == 0, ended.out
    scattered, stacked, tensors = (int(line.split()[1]) for line in ended.out.splitlines())
    assert scattered == len(rotated_nms(*many(), 0.1))
    assert (stacked, tensors > 10_000) == (1, True)


@pytest.mark.slow
def test_200_000_boxes_in_one_image() -> None:
    """200,000 boxes in one image: works; the assigner takes a few objects at a time (here within 256 MiB)."""
    with fresh(assign) as child:
        ended = child.end(120)
    assert ended.code == 0, ended.out
    assert int(ended.last.split()[1]) > 1000


@pytest.mark.slow
def test_more_than_2_31_pairs() -> None:
    """More than 2^31 pairs: chunked, bounded memory; and 1 box against 5,000,000 within 2 GiB."""
    with fresh(compare) as child:
        ended = child.end(300)
    assert ended.code == 0, ended.out
    assert ended.out.splitlines()[0] == "1234 True"
