"""Runs on whole images of either orientation, brought to a short side: trained, evaluated, searched and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.made import dota_folder, line, noise, rectangle

import fledge
from fledge import api, exporting
from fledge.data.raster import read_image
from fledge.inference.predictor import resized
from fledge.recipe import make_recipe

SETTINGS: dict[str, Any] = {
    "detector": "retinanet", "backbone": "resnet18_quarter", "neck_channels": 8, "head_convs": 1, "anchor_scale": 2.0,
    "image_size": 144, "view": "fit", "short_side": 64, "overlap": 32, "batch_size": 2, "epochs": 1, "workers": 0,
    "eval_every": 1, "optimizer": "adamw", "lr": 0.001, "device": "cpu", "score_threshold": 0.005, "vflip": False,
    "max_detections": 50,
}  # fmt: skip
# Height and width: a short side of 64 and scale 1, once upright, and one image that is shrunk by 0.8.
SIZES = {"lying": (64, 96), "other": (64, 96), "upright": (96, 64), "large": (80, 120)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("short")
    label = line(rectangle(30, 40, 30, 14), "ship") + line(rectangle(45, 20, 12, 20), "plane")
    scenes = {name: (noise(*size, seed=k), label) for k, (name, size) in enumerate(SIZES.items())}
    data = dota_folder(root / "data", {"train": scenes, "val": scenes})
    return api.train(make_recipe({**SETTINGS, "data": str(data)}, "test"), root / "run")


def images(run: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((run.parent / "data" / "val" / "images").iterdir())}


def test_boxes_are_those_of_the_network_on_the_whole_image(run: Path) -> None:
    """In pixels of each image, though the longest sides are far from ``image_size``; nothing is cut."""
    predictor = fledge.load(run, "cpu")
    assert predictor.model.pixel_scale == 1
    for name, scale in (("lying", 1.0), ("upright", 1.0), ("large", 0.8)):
        shown = resized(read_image(images(run)[name]), scale)
        assert sorted(shown.shape[:2]) == [64, 96]
        with torch.no_grad():
            outputs = predictor.model.module(torch.from_numpy(shown.transpose(2, 0, 1)[None].copy()))
        (expected,) = predictor.model.detector.decode(outputs, torch.tensor([shown.shape[:2]]))
        found = predictor.detect(images(run)[name], 0.0)
        assert len(found) == len(expected) > 0
        torch.testing.assert_close(found.boxes[:, :4], expected.boxes[:, :4] / scale)


def test_evaluation_looks_at_oblong_inputs(run: Path) -> None:
    result = api.evaluate(run, device="cpu")
    assert (result.metrics.images, result.cost.size) == (4, (64, 96))
    for found, size in zip(result.detections, (SIZES[d.frame.image_id] for d in result.detections), strict=True):
        assert found.frame.size == size
        assert bool((found.boxes[:, :2] <= torch.tensor([size[1], size[0]])).all())


@pytest.mark.slow
def test_an_exported_file_looks_at_the_same_scale(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made = exporting.export(run, dynamic=True, out=tmp_path / "model.onnx", images=4)
    assert made.record.short_side == 64
    file, whole = fledge.load(made.path), fledge.load(run)
    for path in images(run).values():
        found, expected = file.detect(path, 0.01), whole.detect(path, 0.01)
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
