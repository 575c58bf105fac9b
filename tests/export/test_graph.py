from __future__ import annotations

import pytest
import torch
from shapely import Polygon
from torch import Tensor

from fledge.build import build_detector
from fledge.export.graph import DetectorGraph, suppress
from fledge.geometry.boxes import corners
from fledge.recipe import make_recipe

from .conftest import Cells, noise


def greedy(boxes: Tensor, labels: Tensor, valid: Tensor, threshold: float) -> list[bool]:
    """The rule as one says it, with polygons."""
    shapes = [Polygon(quad) for quad in corners(boxes.double()).tolist()]
    kept: list[int] = []
    for i in range(len(boxes)):
        rivals = (j for j in kept if labels[j] == labels[i])
        inter = [(shapes[i].intersection(shapes[j]).area, shapes[i].area + shapes[j].area) for j in rivals]
        if valid[i] and all(a <= threshold * (total - a) for a, total in inter):
            kept.append(i)
    return [i in kept for i in range(len(boxes))]


@pytest.mark.parametrize(
    ("count", "side", "threshold"), [(1, 50, 0.1), (60, 60, 0.1), (400, 250, 0.3), (300, 90, 0.05)]
)
def test_suppression_is_greedy(count: int, side: float, threshold: float) -> None:
    generator = torch.Generator().manual_seed(count)
    low, high = torch.tensor([0, 0, 8, 3, -2.0]), torch.tensor([side, side, 30, 12, 2.0])
    boxes = low + (high - low) * torch.rand(2, count, 5, generator=generator)
    labels = torch.randint(0, 3, (2, count), generator=generator)
    valid = torch.rand(2, count, generator=generator) < 0.9
    kept = suppress(boxes, labels, valid, threshold)
    assert kept.tolist() == [greedy(*row, threshold) for row in zip(boxes, labels, valid, strict=True)]


def test_a_chain_of_suppressions_across_the_stages() -> None:
    chain = torch.tensor([[6.0 * i, 0, 10, 4, 0] for i in range(600)])[None]
    kept = suppress(chain, torch.zeros(1, 600), torch.ones(1, 600, dtype=torch.bool), 0.2)
    assert kept[0].tolist() == [i % 2 == 0 for i in range(600)]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("rotated_retinanet", (64, 96)), ("rotated_retinanet", (70, 200)), ("rotated_retinanet", (33, 65)),
        ("rotated_retinanet", (20, 20)), ("retinanet", (70, 200)), ("faster_rcnn", (70, 200)),
        ("faster_rcnn", (20, 20)),
    ],
)  # fmt: skip
def test_the_graph_is_forward_and_decode(name: str, size: tuple[int, int]) -> None:
    settings = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0}
    more = {"image_size": 64, "overlap": 0, "max_detections": 300, "region_width": 16, "proposals": 50}
    detector = build_detector(make_recipe({**settings, **more, "detector": name}, "test"), ["a", "b", "c"]).eval()
    torch.nn.init.normal_(detector.head.cls_out.weight, std=0.3, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr, arg-type]
    images, padding = noise(2, *size), (124, 116, 104)
    height, width = (-(-side // 32) * 32 for side in size)
    padded = torch.tensor(padding, dtype=torch.uint8)[None, :, None, None].repeat(2, 1, height, width)
    padded[:, :, : size[0], : size[1]] = images
    with torch.no_grad():
        expected = detector.decode(detector(padded), torch.tensor([size] * 2))
        boxes, scores, labels, counts = DetectorGraph(detector, padding)(images)
    assert counts.tolist() == [len(e) for e in expected]
    assert sum(counts.tolist()) > 2
    assert boxes.shape[1] == scores.shape[1] == labels.shape[1] == max(counts.tolist())
    for b, e in enumerate(expected):
        torch.testing.assert_close(boxes[b, : len(e)], e.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(scores[b, : len(e)], e.scores)
        assert labels[b].tolist() == e.labels.tolist() + [-1] * (boxes.shape[1] - len(e))
        assert not boxes[b, len(e) :].any()
        assert not scores[b, len(e) :].any()


def test_nothing_found(cells: DetectorGraph) -> None:
    boxes, scores, labels, counts = cells(torch.zeros(3, 3, 40, 50, dtype=torch.uint8))
    assert counts.tolist() == [0, 0, 0]
    assert boxes.shape == (3, 0, 5)
    assert scores.shape == labels.shape == (3, 0)


def test_the_best_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Cells()
    detector.max_detections, detector.nms_iou = 5, 1.0
    few = DetectorGraph(detector, (0, 0, 0))(noise(1, 90, 90))
    detector.max_detections = 10_000
    many = DetectorGraph(detector, (0, 0, 0))(noise(1, 90, 90))
    assert few[3].item() <= 5 < many[3].item()
    assert few[1][0].tolist() == many[1][0, : few[3].item()].tolist()


def test_outputs_that_are_not_finite_are_told() -> None:
    detector = Cells()
    with torch.no_grad():
        detector.conv.bias[1] = torch.nan  # type: ignore[index]
    assert DetectorGraph(detector, (0, 0, 0))(noise(2, 40, 40))[3].tolist() == [-1, -1]
