"""What every reader owes, whatever its format: add a format to ``EXAMPLES`` and it is held to it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fledge.data.datasets import FORMATS, detect_format, open_dataset
from fledge.data.labels import DetectionDataset


def dota(root: Path) -> None:
    (root / "train" / "labelTxt").mkdir()
    (root / "train" / "labelTxt" / "a.txt").write_text("1 1 9 1 9 20 1 20 ship 0\n5 5 25 15 20 25 2 14 plane 1\n")
    (root / "train" / "labelTxt" / "b.txt").write_text("")


def hit_uav(root: Path) -> None:
    (root / "train" / "images").rename(root / "images")
    images = [{"id": k, "filename": f"{name}.png", "width": 40, "height": 30} for k, name in enumerate("ab")]
    boxes = [[10, 10, 5, 20, 3.1], [20, 15, 9, 9, 0]]
    objects = [{"id": k, "image_id": 0, "category_id": k, "difficult": False, "bbox": b} for k, b in enumerate(boxes)]
    categories = [{"id": 0, "name": "Car"}, {"id": 1, "name": "DontCare"}]
    content = {"images": images, "annotations": objects, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))


EXAMPLES = {"dota": dota, "hit_uav": hit_uav}


@pytest.fixture(params=FORMATS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> DetectionDataset:
    (tmp_path / "train" / "images").mkdir(parents=True)
    for name in "ab":
        assert cv2.imwrite(str(tmp_path / "train" / "images" / f"{name}.png"), np.zeros((30, 40, 3), np.uint8))
    EXAMPLES[request.param](tmp_path)
    assert detect_format(tmp_path) == request.param
    return open_dataset(tmp_path, "train")


def test_index_and_targets(dataset: DetectionDataset) -> None:
    assert (dataset.ids, len(dataset), dataset.summary().empty) == (("a", "b"), 2, 1)
    assert dataset.read(0).shape == (30, 40, 3)
    for i, count in enumerate((2, 0)):
        targets = dataset.targets(i)
        assert targets.image_id == dataset.ids[i]
        assert targets.quads is not None
        assert (targets.boxes.shape, targets.quads.shape) == ((count, 5), (count, 4, 2))
        assert (targets.boxes.dtype, targets.quads.dtype) == (torch.float32, torch.float32)
        kinds = (targets.labels.dtype, targets.ignore.dtype, targets.difficult.dtype)
        assert kinds == (torch.int64, torch.bool, torch.bool)
        assert bool((targets.boxes[:, 2] >= targets.boxes[:, 3]).all() & (targets.boxes[:, 3] > 0).all())
        assert bool(((targets.boxes[:, 4] >= -torch.pi / 2) & (targets.boxes[:, 4] < torch.pi / 2)).all())
        assert bool(((targets.labels >= 0) & (targets.labels < len(dataset.classes))).all())
