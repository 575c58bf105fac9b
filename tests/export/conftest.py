from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.export.graph import DetectorGraph
from fledge.export.onnx_file import onnx_bytes
from fledge.export.record import Record
from fledge.export.trace import record_graph, to_onnx
from fledge.types import Outputs, flatten_levels


class Cells(nn.Module):
    """A detector of one convolution: each cell of 8 pixels scores its mean colour and holds one turned box."""

    classes = ("red", "green", "blue")
    nms_iou, max_detections, score_threshold = 0.2, 400, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.conv.weight.copy_(8 * torch.eye(3)[:, :, None, None])
            self.conv.bias.fill_(-4.2)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Outputs:
        mean = F.avg_pool2d(images.float() / 255, 8)
        return Outputs((self.conv(mean)[:, None],), (F.pad(mean, (0, 0, 0, 0, 0, 2))[:, None],), {})

    def candidates(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores, codes = flatten_levels(outputs.logits).sigmoid(), flatten_levels(outputs.codes)
        image, cell, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        height, width = outputs.logits[0].shape[-2:]
        grid = torch.zeros(height, width, 2)
        grid[..., 0] = 8.0 * torch.arange(width)
        grid[..., 1] = 8.0 * torch.arange(height)[:, None]
        red, green, blue = codes[image, cell, :3].unbind(-1)
        x, y = (grid.view(-1, 2)[cell] + 8 * torch.stack([blue, red], dim=1)).unbind(-1)
        boxes = torch.stack([x, y, 9 + 14 * green, 4 + 4 * blue, 1.5 * red - 1.2 * blue], dim=1)
        return boxes, scores[image, cell, label], image, label


def make_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "runtime": "onnx", "precision": "fp32", "size": None, "classes": Cells.classes, "image_size": 96, "overlap": 16,
        "fit": False, "pixel_scale": 1.0, "nms_iou": Cells.nms_iou, "score_threshold": Cells.score_threshold,
        "max_detections": Cells.max_detections, "bands": (), "pixel_range": (), "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0), "padding": (124, 116, 104), "recipe": {"lr": 0.1}, "weights": "a" * 64,
    }  # fmt: skip
    return Record(**{**fields, **changes})


@pytest.fixture(scope="session")
def cells() -> DetectorGraph:
    return DetectorGraph(Cells(), (124, 116, 104)).eval()


@pytest.fixture(scope="session")
def cells_model(cells: DetectorGraph) -> Any:
    """The ONNX model of ``Cells`` for any size."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    return to_onnx(record_graph(cells, 3, None))


@pytest.fixture(scope="session")
def cells_file(cells_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``Cells`` as ``fledge export`` writes it."""
    path = tmp_path_factory.mktemp("cells") / "cells.onnx"
    path.write_bytes(onnx_bytes(cells_model, make_record()))
    return path


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Smooth uint8 images (B, 3, H, W), so that cells differ and neighbours agree."""
    batch, height, width = shape
    coarse = torch.rand(batch, 3, -(-height // 12), -(-width // 12), generator=torch.Generator().manual_seed(seed))
    return (255 * F.interpolate(coarse, size=(height, width), mode="bilinear")).to(torch.uint8)
