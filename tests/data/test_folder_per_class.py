"""Scene classification: a miniature of each dataset in its own folders, real parts, odd folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from tests.data.made import picture

from fledge.data.catalogue import CATALOGUE
from fledge.data.raster import PixelRule
from fledge.data.scenes.findings import image_findings
from fledge.data.scenes.folder_per_class import open_scenes, scene_splits
from fledge.data.scenes.health import check_images
from fledge.data.scenes.unlabelled import open_unlabelled
from fledge.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"


# From the catalogue's name to the folder of a class and the name of its image k, as unpacked.
LAYOUTS = {
    "eurosat": ("2750/{c}", "{c}_{k}.jpg"),
    "nwpu-resisc45": ("NWPU-RESISC45/{c}", "{c}_{k:03}.jpg"),
    "rsscn7": ("{c}", "{c[0]}{k:03}.jpg"),
    "uc-merced": ("UCMerced_LandUse/Images/{c}", "{c}{k:02}.tif"),
    "aid": ("AID/{c}", "{c}_{k}.jpg"),
}


@pytest.fixture(params=list(LAYOUTS))
def scenes(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    folder, name = LAYOUTS[request.param]
    for label, c in enumerate(CATALOGUE[request.param].classes):
        for k in (1, 2):
            picture(tmp_path / "data" / folder.format(c=c) / name.format(c=c, k=k), 2 * label + k)
    return request.param, tmp_path / "data"


def test_each_dataset_in_its_own_folders(scenes: tuple[str, Path]) -> None:
    key, root = scenes
    known = CATALOGUE[key]
    assert scene_splits(root) == ("all",)
    dataset = open_scenes(root)
    assert dataset.classes == known.classes, "the order of the folders is that of the catalogue"
    assert dataset.labels.tolist() == [label for label in range(len(known.classes)) for _ in (1, 2)]
    assert dataset.names == tuple(sorted(dataset.names))
    assert dataset.read(0).shape == (24, 24, 3)
    for i in range(len(dataset)):
        assert dataset.path(i).parent.name == known.classes[dataset.labels[i]]
    health = check_images(root)
    assert health.beside.known is known
    assert health.passed
    assert dataset.summary().objects == dict.fromkeys(known.classes, 2)


def test_all_bands_of_eurosat(tmp_path: Path) -> None:
    path = tmp_path / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/Forest/Forest_1.tif"
    path.parent.mkdir(parents=True)
    samples = (np.arange(13)[:, None, None] * 200 + np.zeros((13, 8, 8))).astype(np.uint16)
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=13, dtype="uint16") as file,
    ):
        file.write(samples)
    picture(path.parents[1] / "River" / "River_1.tif")
    pixels = open_scenes(tmp_path, pixels=PixelRule(bands=(4, 3, 2), range=(0, 2750))).read(0)
    assert pixels[0, 0].tolist() == [round(k * 200 * 255 / 2750) for k in (3, 2, 1)]


def test_split_folders_as_of_imagenet(tmp_path: Path) -> None:
    for split, synsets in (("train", ("n02", "n01")), ("val", ("n01", "n03"))):
        for synset in synsets:
            picture(tmp_path / "in1k" / split / synset / f"{synset}_7.JPEG")
    picture(tmp_path / "in1k" / "test" / "flat.JPEG")
    assert scene_splits(tmp_path) == ("train", "val"), "test has no class folders"
    train, val = open_scenes(tmp_path, "train"), open_scenes(tmp_path, "val")
    assert train.classes == val.classes == ("n01", "n02", "n03"), "of all splits together"
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1], [0, 2])
    assert open_scenes(tmp_path, "val", ["n03", "n01"]).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"no class n02: .*the classes are n01, n03: rename"):
        open_scenes(tmp_path, "train", ["n01", "n03"])


def test_the_labelled_part_of_million_aid(tmp_path: Path) -> None:
    for path in (
        "agriculture_land/grassland/meadow/a.jpg",
        "agriculture_land/woodland/forest/b.jpg",
        "water_area/lake/c.jpg",
    ):
        picture(tmp_path / "train" / path)
    picture(tmp_path / "test" / "P0000000.jpg")
    dataset = open_scenes(tmp_path, "train")
    assert dataset.classes == ("forest", "lake", "meadow")
    assert dataset.names[0] == "train/agriculture_land/grassland/meadow/a.jpg"
    images = open_unlabelled(tmp_path)
    assert images.names[0] == "test/P0000000.jpg"
    assert len(images) == 4
    assert len(open_unlabelled(tmp_path / "test")) == 1


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "preview.jpg", ".hidden/x.jpg", "a/.2.jpg"):
        picture(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "b" / "readme.txt").write_text("x")
    dataset = open_scenes(tmp_path)
    assert dataset.classes == ("a", "b", "c"), "an empty folder keeps its number"
    assert dataset.names == ("a/1.jpg", "b/1.jpg")
    assert dataset.notes == ("1 images beside the class folders, left out", "class folders without images: c")
    assert [f.text for f in image_findings(check_images(tmp_path)) if "no image of" in f.text] == ["no image of c"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ((), r"no split 'all': .*\nScene classes: +ROOT/CLASS/NAME\.jpg"),
        (("flat.jpg",), "make it look like this"),
        (("a/1.jpg", "a/more/2.jpg"), "images beside folders of images: .*one class or several"),
        (("x/a/1.jpg", "y/a/1.jpg"), "two folders called a: .*x/a and y/a: rename one"),
        (("a-b/1.jpg", "A_b/1.jpg"), "a class is named twice"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: tuple[str, ...], what: str) -> None:
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(DataError, match=what):
        open_scenes(tmp_path)
    with pytest.raises(DataError, match="no split 'all'"):
        open_scenes(tmp_path / "nowhere")


@pytest.mark.skipif(not (SHARED / "rsscn7").is_dir(), reason="no ../shared/data/rsscn7")
def test_a_real_part_of_rsscn7() -> None:
    dataset = open_scenes(SHARED / "rsscn7", classes=CATALOGUE["rsscn7"].classes)
    assert dataset.summary().objects == dict.fromkeys(CATALOGUE["rsscn7"].classes, 100)
    assert dataset.read(699).shape == (400, 400, 3)
    parts = dataset.divide({"train": 0.2, "test": 0.8}, seed=3)
    assert [len(part) for part in parts.values()] == [140, 560]


@pytest.mark.skipif(not (SHARED / "tiny_imagenet").is_dir(), reason="no ../shared/data/tiny_imagenet")
def test_a_real_part_of_imagenet() -> None:
    train, val = (open_scenes(SHARED / "tiny_imagenet", split) for split in ("train", "val"))
    assert (len(train.classes), len(train), len(val)) == (101, 5050, 2020)
    assert train.classes == val.classes
    assert train.read(0).shape == (64, 64, 3)
