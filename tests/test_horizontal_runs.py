"""Runs of horizontal detectors: which rules they are evaluated by, and with what they are not compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fledge import api
from fledge.build import build_detector
from fledge.cli import app
from fledge.data.synthetic import write_dataset
from fledge.errors import DataError, UsageError
from fledge.models.weights import load_detector_weights
from fledge.recipe import make_recipe
from fledge.runs import default_protocol
from fledge.study.compare import compare_runs

SMALL: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 8, "head_convs": 1, "image_size": 64, "overlap": 16, "epochs": 1,
    "milestones": [], "batch_size": 2, "workers": 0, "device": "cpu", "region_width": 16, "proposals": 40,
    "region_samples": 16, "eval_every": 1, "score_threshold": 0.2, "max_detections": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    write_dataset(root / "data", "train", 2, 64, 0)
    write_dataset(root / "data", "val", 2, 64, 1)
    names = ("rotated_retinanet", "retinanet", "faster_rcnn")
    settings = {**SMALL, "data": str(root / "data")}
    return {n: api.train(make_recipe({**settings, "detector": n}, "test"), root / n, title=n) for n in names}


def test_the_default_protocol_follows_the_boxes(runs: dict[str, Path]) -> None:
    expected = {"rotated_retinanet": "box_area", "retinanet": "coco", "faster_rcnn": "coco"}
    for name, rules in expected.items():
        assert default_protocol(make_recipe({"detector": name}, "test")).name == rules
        assert api.precision(runs[name], device="cpu").protocol.name == rules
    assert api.precision(runs["retinanet"], device="cpu", protocol="voc07").protocol.name == "voc07"


def test_evaluation_says_what_the_boxes_are(runs: dict[str, Path]) -> None:
    plain = CliRunner().invoke(app, ["evaluate", str(runs["faster_rcnn"]), "--device", "cpu"])
    assert "protocol: coco (COCO, horizontal)" in plain.output
    assert "IoU of the horizontal hulls" in plain.output
    assert "note: the detector's boxes" not in plain.output
    other = CliRunner().invoke(app, ["evaluate", str(runs["faster_rcnn"]), "--device", "cpu", "--protocol", "dota"])
    assert "note: the detector's boxes are horizontal, and these rules compare them with oriented ones" in other.output


def test_oriented_and_horizontal_figures_are_not_compared(runs: dict[str, Path], tmp_path: Path) -> None:
    arms = [("oriented", runs["rotated_retinanet"]), ("horizontal", runs["retinanet"])]
    with pytest.raises(UsageError, match="compare: box_area and coco: figures of oriented and of horizontal boxes"):
        compare_runs(arms, tmp_path, device="cpu")


def test_detections_are_upright(runs: dict[str, Path]) -> None:
    image = next((runs["retinanet"].parent / "data" / "val" / "images").iterdir())
    for name in ("retinanet", "faster_rcnn"):
        (found,) = api.detect(runs[name], [image], 0.0, device="cpu")
        angle = found.boxes[:, 4]
        assert torch.minimum(angle.abs(), (angle + torch.pi / 2).abs()).le(1e-6).all()


def test_other_classes_reset_the_layers_that_have_them() -> None:
    recipe = make_recipe({**SMALL, "detector": "faster_rcnn"}, "test")
    trained, fresh = build_detector(recipe, ["a", "b"]), build_detector(recipe, ["a", "b", "c"])
    with pytest.raises(DataError, match="set reset_head = true"):
        load_detector_weights(fresh, trained, "run", "")
    loaded = load_detector_weights(fresh, trained, "run", "", reset_head=True)
    parts = [f"region_head.{layer}.{kind}" for layer in ("box_out", "cls_out") for kind in ("bias", "weight")]
    assert list(loaded.untouched) == parts
    assert torch.equal(fresh.state_dict()["head.cls_out.weight"], trained.state_dict()["head.cls_out.weight"])
