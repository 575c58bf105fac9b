"""Segmentation masks, and images without labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.made import picture

from fledge.data.catalogue import CATALOGUE
from fledge.data.scenes.loveda import loveda_splits, open_loveda
from fledge.data.scenes.segmentation_dataset import NO_DATA
from fledge.data.scenes.unlabelled import open_unlabelled
from fledge.errors import DataError, UsageError
from fledge.evaluation.segmentation import segmentation


def loveda(root: Path) -> Path:
    rng = np.random.default_rng(0)
    number = 0
    for split, domains in (("Train", ("Urban", "Rural")), ("Val", ("Urban", "Rural")), ("Test", ("Urban",))):
        for domain in domains:
            for _ in range(2):
                picture(root / split / domain / "images_png" / f"{number}.png", number, 16)
                if split != "Test":
                    mask = root / split / domain / "masks_png" / f"{number}.png"
                    mask.parent.mkdir(parents=True, exist_ok=True)
                    assert cv2.imwrite(str(mask), rng.integers(0, 8, (16, 16), dtype=np.uint8))
                number += 1
    (root / "Test" / "Rural" / "images_png").mkdir(parents=True)
    return root


def test_loveda(tmp_path: Path) -> None:
    root = loveda(tmp_path)
    assert loveda_splits(root) == ("train", "val", "test")
    train = open_loveda(root, "train")
    assert train.classes == CATALOGUE["loveda"].classes
    assert train.domains == ("Urban", "Urban", "Rural", "Rural")
    assert len(open_loveda(root, "val", ["Rural"])) == 2
    for i in range(len(train)):
        stored = cv2.imread(str(root / train.masks[i]), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        mask = train.mask(i)
        assert Path(train.masks[i]).stem == train.path(i).stem
        assert ((mask == NO_DATA) == (stored == 0)).all()
        for value in range(1, 8):
            assert ((mask == value - 1) == (stored == value)).all()
        assert train.read(i).shape == (16, 16, 3)
    perfect = segmentation(((train.mask(i), np.minimum(train.mask(i), 6)) for i in range(4)), train.classes)
    assert perfect.mean_iou == 1
    test = open_loveda(root, "test", ["Urban"])
    assert (len(test), test.masks) == (2, ())
    with pytest.raises(DataError, match="no masks"):
        test.mask(0)


def test_loveda_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no LoveDA split 'train': .*Urban/images_png: .*\nLoveDA: +ROOT/"):
        open_loveda(tmp_path, "train")
    root = loveda(tmp_path)
    with pytest.raises(DataError, match="no LoveDA split 'Train'"):
        open_loveda(root, "Train")
    with pytest.raises(UsageError, match="choose from Urban, Rural"):
        open_loveda(root, "train", ["Suburb"])
    with pytest.raises(DataError, match=r"no images: .*Test/Rural"):
        open_loveda(root, "test")
    masks = root / "Val" / "Rural" / "masks_png"
    first = sorted(masks.iterdir())[0]
    cv2.imwrite(str(first), np.full((16, 16), 9, np.uint8))
    with pytest.raises(DataError, match=rf"value 9 in a mask: .*{first.name}: values are 0 to 7"):
        open_loveda(root, "val", ["Rural"]).mask(0)
    cv2.imwrite(str(first), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(DataError, match="3 bands of uint8"):
        open_loveda(root, "val", ["Rural"]).mask(0)
    cv2.imwrite(str(first), np.zeros((8, 16), np.uint8))
    with pytest.raises(DataError, match=r"sizes differ: .*16x8 pixels, .*16x16"):
        open_loveda(root, "val")
    first.rename(masks / "999.png")
    with pytest.raises(DataError, match=rf"1 images have no mask: .*{first.name}"):
        open_loveda(root, "val")
    picture(root / "Val" / "Rural" / "images_png" / "999.png", 0, 16)
    (root / "Val" / "Rural" / "images_png" / first.name).unlink()
    cv2.imwrite(str(masks / "1000.png"), np.zeros((16, 16), np.uint8))
    with pytest.raises(DataError, match=r"masks have no image: .*1000"):
        open_loveda(root, "val")


def test_a_link_upwards_does_no_harm(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a" / "1.jpg")
    picture(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    assert open_unlabelled(tmp_path / "data").names == ("a/1.jpg", "b/2.jpg")


def test_unlabelled(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*\nUnlabelled: +ROOT/NAME\.jpg"):
        open_unlabelled(tmp_path / "nowhere")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_unlabelled(tmp_path / "data")
    for name in ("b.png", "a/z.jpg", "a/deep/er/y.tif"):
        picture(tmp_path / "data" / name)
    (tmp_path / "data" / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images = open_unlabelled(tmp_path / "data")
    assert images.names == ("b.png", "a/bad.png", "a/z.jpg", "a/deep/er/y.tif")
    assert images.read(2).shape == (24, 24, 3)
    with pytest.raises(DataError, match=r"bad\.png"):
        images.read(1)
