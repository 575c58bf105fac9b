"""What makes a figure untrustworthy, planted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.made import dota_folder, indexed, line, noise, rectangle

from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.evaluation import trust
from fledge.evaluation.average_precision import score
from fledge.evaluation.results import case_from_files
from fledge.evaluation.results.task_text import read_task_files
from fledge.evaluation.trust import (
    UNKNOWN_TRAINING,
    Check,
    check_objects,
    check_selection,
    check_shared,
    check_training,
    trust_line,
)

BOX = rectangle(30, 20, 20, 10)


@pytest.fixture
def split(tmp_path: Path) -> DetectionDataset:
    images = {f"v{k}": (noise(40, 60, seed=k), line(BOX, "ship")) for k in range(3)}
    dota_folder(tmp_path / "data", {"val": images})
    return open_dataset(tmp_path / "data", "val")


def training(folder: Path, **images: np.ndarray) -> Path:
    folder.mkdir()
    for name, pixels in images.items():
        cv2.imwrite(str(folder / f"{name.replace('_dot_', '.')}.png"), pixels[..., ::-1])
    return folder


def test_an_image_trained_on_is_found_by_its_pixels(split: DetectionDataset, tmp_path: Path) -> None:
    folder = training(tmp_path / "t", other=noise(40, 60, seed=1), more=noise(40, 60, seed=9), big=noise(80, 60))
    cv2.imwrite(str(folder / "other.bmp"), noise(40, 60, seed=1)[..., ::-1])
    (folder / "other.png").unlink()  # another file format, the same pixels
    check = check_training(split, folder)
    assert check.state == "warning"
    assert check.text == "1 of 3 images were trained on (v1; by their pixels)"


def test_a_patch_of_an_image_trained_on_is_found_by_its_name(split: DetectionDataset, tmp_path: Path) -> None:
    folder = training(tmp_path / "t", v2__1_dot_0__0___0=noise(20, 20), w=noise(40, 60, seed=7))
    assert check_training(split, folder).text == "1 of 3 images have the name of a training image (v2)"


def test_other_images_are_no_reason_to_worry(split: DetectionDataset, tmp_path: Path) -> None:
    check = check_training(split, training(tmp_path / "t", w=noise(40, 60, seed=7), x=noise(20, 20)))
    assert check == Check("training images", "good", "none of 3 images is among the 2 trained on (by their pixels)")


def test_many_images_are_compared_by_their_files(
    split: DetectionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "MOST_DECODED", 1)
    folder = training(tmp_path / "t", w=noise(40, 60, seed=7))
    assert check_training(split, folder).state == "good"
    (folder / "copy.png").write_bytes(split.paths[0].read_bytes())
    assert check_training(split, folder).text == "1 of 3 images were trained on (v0; by their files)"


def test_an_empty_folder_is_no_answer(split: DetectionDataset, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    assert check_training(split, tmp_path / "t").state == "unknown"


def test_few_objects() -> None:
    truth = indexed([(40, 50)], [[BOX] * 45])
    metrics = score(case_from_files(truth, read_task_files([], 1, "none")))
    assert metrics.objects.tolist() == [23, 22]
    assert check_objects(metrics).state == "good"
    assert check_objects(metrics, least=23).text == "1 class has fewer than 23 objects (plane 22)"
    assert check_objects(metrics, least=24).text == "2 classes have fewer than 24 objects (ship 23, plane 22)"


def test_known_overlaps_between_benchmarks() -> None:
    ids = ("P0003", "P0007__1.0__0___0", "P30")
    ohd = indexed([(40, 50)] * 3, [[]] * 3, root=Path("x/OHD-SJTU-L"), ids=ids)
    check = check_shared(ohd)
    assert check is not None
    assert check.text == "2 of 3 images are DOTA's by name, so seen in training on DOTA train and val"
    assert check_shared(indexed([(40, 50)], [[]], root=Path("x/ShipRSImageNet_V1"))) is not None
    assert check_shared(indexed([(40, 50)] * 3, [[]] * 3, root=Path("x/DOTA"), ids=ids)) is None
    assert check_shared(indexed([(40, 50)], [[]], root=Path("x/OHD-SJTU-S"), ids=("P30",))) is None


def test_chosen_on_the_split_itself(split: DetectionDataset) -> None:
    root = str(split.root)
    assert check_selection([(root, "val")], split).state == "warning"
    assert check_selection([(f"{root}/../data", "val")], split).state == "warning"
    assert check_selection([(root, "test")], split).state == "good"
    assert check_selection([], split).state == "good"


def test_the_line_begins_with_the_warnings() -> None:
    checks = [UNKNOWN_TRAINING, Check("selection", "good", "fine"), Check("few objects", "warning", "bad")]
    assert trust_line(checks) == "trust: bad; fine; not checked whether these images were trained on"
