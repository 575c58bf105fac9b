"""Memory stays bounded however many boxes there are. A child may map only so much more than it holds at its start."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.faults.child import fresh
from torch import Tensor

from fledge.assign.max_iou import MaxIoUAssigner
from fledge.build import build_detector, build_train_step
from fledge.evaluation.average_precision import score
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.protocols import PROTOCOLS
from fledge.geometry import operators
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.boxes import corners
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


def crowd(detections: int, objects: int, images: int, side: int) -> Case:
    """Objects all over some images, and detections near them, each with one of 10,000 scores; five classes."""
    rng = np.random.default_rng(0)
    boxes = scattered(objects, side, 8, 40).double().numpy()
    source = rng.integers(0, objects, detections)
    near = boxes[source] + rng.normal(0, 1, (detections, 5)) * (1, 1, 1, 1, 0.1)
    near[:, 2:4] = near[:, 2:4].clip(1)
    image, label = rng.integers(0, images, objects), rng.integers(0, 5, objects)
    flags = rng.random(objects) < 0.05, rng.random(objects) < 0.001
    truth = Objects(image, label, corners(torch.from_numpy(boxes)).numpy(), boxes, *flags)
    scores, quads = rng.random(detections).round(4), corners(torch.from_numpy(near)).numpy()
    found = Found(image[source], label[source], scores, quads, near)
    return Case(tuple(map(str, range(images))), tuple("abcde"), truth, found)


def evaluate() -> None:
    rules = [PROTOCOLS[name] for name in ("dota", "box_area", "coco_oriented")]
    many, one = crowd(100_000, 30_000, 500, 1024), crowd(20_000, 5_000, 1, 512)
    for rule in rules:
        score(crowd(100, 30, 3, 128), rule)  # loads the compiled loops
    allow(64 * MIB)
    for case in (many, one):
        print(*(f"{score(case, rule).mean(0.5):.6f}" for rule in rules))


def test_the_limit_is_one() -> None:
    with fresh(greedy) as child:
        ended = child.end()
    assert ended.code == 1
    assert "DefaultCPUAllocator" in ended.out


def test_a_training_step_with_5000_objects() -> None:
    """5,000 objects in one image of 1,024 px, 500 of them ignored: a training step within 512 MiB."""
    with fresh(step) as child:
        ended = child.end(600)
    assert (ended.code, ended.last) == (0, "finite True"), ended.out


def test_suppression_of_100_000_boxes() -> None:
    """NMS of 100,000 boxes, scattered or all in one place, within 256 MiB."""
    with fresh(suppress) as child:
        ended = child.end(600)
    assert ended.code == 0, ended.out
    scattered, stacked, tensors = (int(line.split()[1]) for line in ended.out.splitlines())
    assert scattered == len(rotated_nms(*many(), 0.1))
    assert (stacked, tensors > 10_000) == (1, True)


def test_an_evaluation_of_many_and_of_a_crowd() -> None:
    """100,000 detections of 30,000 objects in 500 images, and 20,000 of 5,000 that lie on each other in one image: an
    evaluation at ten thresholds takes 64 MiB beside them.
    """
    with fresh(evaluate) as child:
        ended = child.end(600)
    assert ended.code == 0, ended.out
    many, one = ([float(figure) for figure in line.split()] for line in ended.out.splitlines())
    assert all(0.1 < figure < 1 for figure in (*many, *one)), ended.out


@pytest.mark.slow
def test_200_000_boxes_in_one_image() -> None:
    """200,000 boxes in one image: works; the assigner takes a few objects at a time (here within 256 MiB)."""
    with fresh(assign) as child:
        ended = child.end(600)
    assert ended.code == 0, ended.out
    assert int(ended.last.split()[1]) > 1000


@pytest.mark.slow
def test_more_than_2_31_pairs() -> None:
    """More than 2^31 pairs: chunked, bounded memory; and 1 box against 5,000,000 within 2 GiB."""
    with fresh(compare) as child:
        ended = child.end(300)
    assert ended.code == 0, ended.out
    assert ended.out.splitlines()[0] == "1234 True"
