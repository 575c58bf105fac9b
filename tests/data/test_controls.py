"""Labels that are wrong on purpose."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.miniatures import text

from fledge.data.controls import with_shuffled_labels
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.errors import DataError


def made(root: Path, count: int) -> DetectionDataset:
    """Image k, 100 × (50 + 10 k) pixels, has one plane, k + 2 pixels long, at its middle; image 0's is difficult."""
    for k in range(count):
        (root / "train" / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "train" / "images" / f"i{k}.png"), np.zeros((50 + 10 * k, 100, 3), dtype=np.uint8))
        low, high = 50 - (k + 2) / 2, 50 + (k + 2) / 2
        middle = 25 + 5 * k
        quad = f"{low} {middle - 2} {high} {middle - 2} {high} {middle + 2} {low} {middle + 2}"
        text(root / "train" / "labelTxt" / f"i{k}.txt", f"{quad} plane {int(k == 0)}")
    return open_dataset(root, "train")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return made(tmp_path_factory.mktemp("controls"), 6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 6))
def test_every_image_has_the_objects_of_another(dataset: DetectionDataset, seed: int, count: int) -> None:
    few = dataset.subset(range(count))
    given_ = with_shuffled_labels(few, seed)
    lengths = np.round(np.ptp(given_.quads[..., 0], axis=1)).astype(int) - 2  # whose object it is
    assert sorted(lengths) == list(range(count))
    assert (lengths != np.arange(count)).all()
    assert given_.paths == few.paths
    assert given_.difficult.tolist() == (lengths == 0).tolist()
    centres = given_.quads.mean(axis=1)
    np.testing.assert_allclose(centres, few.sizes[:, ::-1] / 2, rtol=1e-6)  # the middle stays the middle
    heights = 4 * few.sizes[:, 0] / few.sizes[lengths, 0]
    np.testing.assert_allclose(np.ptp(given_.quads[..., 1], axis=1), heights, rtol=1e-4)
    np.testing.assert_allclose(given_.boxes[:, 2:4].max(axis=1), np.maximum(lengths + 2, heights), rtol=1e-4)
    again = with_shuffled_labels(few, seed)
    assert (again.quads == given_.quads).all()


def test_images_without_objects_take_part(tmp_path: Path) -> None:
    dataset = made(tmp_path, 2)
    (tmp_path / "train" / "labelTxt" / "i1.txt").write_text("")
    given_ = with_shuffled_labels(open_dataset(tmp_path, "train"), 0)
    assert np.diff(given_.offsets).tolist() == [0, 1]
    assert given_.ids == dataset.ids


def test_one_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two"):
        with_shuffled_labels(made(tmp_path, 1), 0)
