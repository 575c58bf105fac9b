"""Rotated IoU and NMS in exported graphs: onnxruntime and OpenVINO give what PyTorch gives, for other sizes too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fledge.geometry import rotated_iou, rotated_nms
from fledge.geometry.overlap_export import dense_overlap, row_overlap

from .stress import STRESS
from .test_operators import odd_boxes, scattered

Run = Callable[..., Any]
N, M = torch.export.Dim("n"), torch.export.Dim("m")


class All(nn.Module):
    def forward(self, boxes1: Tensor, boxes2: Tensor) -> Tensor:
        return rotated_iou(boxes1, boxes2)


class Rows(nn.Module):
    def forward(self, boxes1: Tensor, boxes2: Tensor) -> Tensor:
        return rotated_iou(boxes1, boxes2, aligned=True, mode="iof")


class Suppression(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return rotated_nms(boxes, scores, 0.3, labels)


def exported(module: nn.Module, inputs: tuple[Tensor, ...], shapes: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says of its own deprecations and of shared axis names
        program = torch.onnx.export(module.eval(), inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    program.save(path)
    return path


def by_onnxruntime(path: Path) -> Run:
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    names = [x.name for x in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


def by_openvino(path: Path) -> Run:
    compiled = pytest.importorskip("openvino").Core().compile_model(path, "CPU")
    return lambda *inputs: compiled([x.numpy() for x in inputs])[0]


RUNTIMES = (by_onnxruntime, by_openvino)


def ranked(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Crowded boxes, scores without ties, and labels."""
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(seed)) / count
    return scattered(count, seed, 60), scores, torch.arange(count) % 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_all_pairs(runtime: Callable[[Path], Run], tmp_path: Path) -> None:
    inputs = scattered(9, 0), scattered(7, 1)
    run = runtime(exported(All(), inputs, ({0: N}, {0: M}), tmp_path / "all.onnx"))
    for first, second in (inputs, (scattered(50, 2), scattered(80, 3)), (scattered(1, 4), odd_boxes()[:12])):
        got = torch.from_numpy(np.asarray(run(first, second)))
        torch.testing.assert_close(got, rotated_iou(first, second), atol=2e-5, rtol=0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_rows(runtime: Callable[[Path], Run], tmp_path: Path) -> None:
    inputs = scattered(9, 0), scattered(9, 1)
    run = runtime(exported(Rows(), inputs, ({0: N}, {0: N}), tmp_path / "rows.onnx"))
    first, second = scattered(40, 2), scattered(40, 2).flip(0)
    expected = rotated_iou(first, second, aligned=True, mode="iof")
    torch.testing.assert_close(torch.from_numpy(np.asarray(run(first, second))), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_suppression(runtime: Callable[[Path], Run], tmp_path: Path) -> None:
    run = runtime(exported(Suppression(), ranked(9, 0), ({0: N}, {0: N}, {0: N}), tmp_path / "nms.onnx"))
    for count, seed in ((9, 0), (1, 1), (60, 2), (400, 3)):
        boxes, scores, labels = ranked(count, seed)
        assert run(boxes, scores, labels).tolist() == rotated_nms(boxes, scores, 0.3, labels).tolist()
    chain = torch.tensor([[6.0 * i, 0, 10, 4, 0] for i in range(200)])
    kept = run(chain, torch.linspace(1, 0.1, 200), torch.zeros(200, dtype=torch.int64))
    assert kept.tolist() == rotated_nms(chain, torch.linspace(1, 0.1, 200), 0.3).tolist()


def test_ties_go_to_the_earlier_box(tmp_path: Path) -> None:
    run = by_onnxruntime(exported(Suppression(), ranked(9, 0), ({0: N}, {0: N}, {0: N}), tmp_path / "nms.onnx"))
    boxes, scores, labels = scattered(200, 5, 60), torch.arange(200) % 3 / 4 + 0.1, torch.zeros(200, dtype=torch.int64)
    assert run(boxes, scores, labels).tolist() == rotated_nms(boxes, scores, 0.3).tolist()


@pytest.mark.parametrize("iof", [False, True])
@pytest.mark.parametrize("name", STRESS)
def test_the_graphs_arithmetic(name: str, iof: bool) -> None:
    """What goes into a graph, run by PyTorch in float32 and in float64."""
    mode = "iof" if iof else "iou"
    for dtype, tolerance in ((torch.float32, 5e-6), (torch.float64, 1e-12)):
        first, second = STRESS[name](2000, dtype)
        expected = rotated_iou(first.double(), second.double(), aligned=True, mode=mode)  # type: ignore[arg-type]
        got = row_overlap(first, second, iof)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, atol=tolerance, rtol=0)
    matrix = dense_overlap(first[:40], second[:30], iof)
    torch.testing.assert_close(matrix, rotated_iou(first[:40], second[:30], mode=mode), atol=1e-12, rtol=0)  # type: ignore[arg-type]
