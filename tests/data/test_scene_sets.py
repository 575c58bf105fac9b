"""Scene classification, segmentation and unlabelled images: miniatures in each dataset's own folders."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from tests.data.made import noise

from fledge.data.catalogue import CATALOGUE
from fledge.data.raster import PixelRule
from fledge.data.scenes.folder_per_class import open_scenes, scene_splits
from fledge.data.scenes.health import check_images, holds_images, image_findings, image_record
from fledge.data.scenes.lists import pick_listed
from fledge.data.scenes.loveda import loveda_splits, open_loveda
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.data.scenes.segmentation_dataset import NO_DATA
from fledge.data.scenes.unlabelled import open_unlabelled
from fledge.errors import DataError, UsageError
from fledge.evaluation.segmentation import segmentation
from fledge.visualize.image_page import image_page

SHARED = Path(__file__).parents[3] / "shared" / "data"


def picture(path: Path, seed: int = 0, size: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), noise(size, size, seed))


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


def test_a_link_upwards_does_no_harm(tmp_path: Path) -> None:
    picture(tmp_path / "data" / "a" / "1.jpg")
    picture(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    assert open_unlabelled(tmp_path / "data").names == ("a/1.jpg", "b/2.jpg")


def made(counts: list[int]) -> SceneDataset:
    names = tuple(f"c{label}/{k:04}.jpg" for label, count in enumerate(counts) for k in range(count))
    labels = np.repeat(np.arange(len(counts)), counts)
    return SceneDataset(Path("nowhere"), "all", tuple(f"c{k}" for k in range(len(counts))), names, labels)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sampled_from([{"train": 0.2, "test": 0.8}, {"train": 0.6, "val": 0.2, "test": 0.2}, {"a": 1 / 3}]),
    st.integers(0, 5),
)
@settings(max_examples=60)
def test_divided_by_class(counts: list[int], shares: dict[str, float], seed: int) -> None:
    dataset = made(counts)
    parts = dataset.divide(shares, seed)
    assert list(parts) == list(shares)
    taken = [name for part in parts.values() for name in part.names]
    assert len(set(taken)) == len(taken)
    if sum(shares.values()) > 0.999:
        assert set(taken) == set(dataset.names)
    for name, share in shares.items():
        part = parts[name]
        assert part.split == name
        assert part.names == tuple(sorted(part.names))
        for label, count in enumerate(counts):
            assert abs(int((part.labels == label).sum()) - share * count) <= 1
        assert all(n.startswith(f"c{label}/") for n, label in zip(part.names, part.labels, strict=True))
    again = made(counts).divide(shares, seed)
    assert all(again[name].names == parts[name].names for name in shares)


def test_seeds_differ_and_classes_do_not_depend_on_each_other() -> None:
    shares = {"train": 0.2, "test": 0.8}
    one, two = made([50, 50]).divide(shares, 0), made([50, 50]).divide(shares, 1)
    assert one["train"].names != two["train"].names
    other = made([50, 7]).divide(shares, 0)
    assert [n for n in other["train"].names if n[:2] == "c0"] == [n for n in one["train"].names if n[:2] == "c0"]
    names = tuple(f"wrapped/{name[:-4]}.tif" for name in made([50, 50]).names)
    copy = replace(made([50, 50]), names=names).divide(shares, 0)
    assert [Path(n).stem for n in copy["train"].names] == [Path(n).stem for n in one["train"].names]
    # What papers repeat must not change from one version to the next: by hashlib alone, and written down.
    drawn = sorted(range(12), key=lambda k: hashlib.blake2b(f"0/c0/{k:04}".encode(), digest_size=16).digest())
    train = made([12]).divide({"train": 0.25}, 0)["train"].names
    assert train == tuple(f"c0/{k:04}.jpg" for k in sorted(drawn[:3]))
    assert train == ("c0/0001.jpg", "c0/0008.jpg", "c0/0011.jpg")


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": 0.7, "b": 0.4}, {"a": -0.1}, {"a": float("nan")}])
def test_shares_that_cannot_be(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="shares"):
        made([3]).divide(shares, 0)
    with pytest.raises(UsageError, match="seed"):
        made([3]).divide({"a": 0.5}, -1)


def test_lists(tmp_path: Path) -> None:
    for name in (
        "Forest/Forest_1.tif",
        "Forest/Forest_2.tif",
        "River/River_1.tif",
        "River/same.tif",
        "Forest/same.tif",
    ):
        picture(tmp_path / "data" / name)
    dataset = open_scenes(tmp_path / "data")
    path = tmp_path / "eurosat-train.txt"
    path.write_text("River_1.jpg\n\nForest/Forest_2.tif\nForest_1 7\nRiver/same.jpg\n")
    picked = pick_listed(dataset, path)
    assert picked.split == "eurosat-train"
    assert picked.names == ("River/River_1.tif", "Forest/Forest_2.tif", "Forest/Forest_1.tif", "River/same.tif")
    assert [picked.classes[k] for k in picked.labels] == ["River", "Forest", "Forest", "River"]
    path.write_text("River_1.jpg\nRiver_9.jpg\nsame.jpg\nRiver/River_1.jpg\n")
    with pytest.raises(DataError) as refused:
        pick_listed(dataset, path, "train")
    text = str(refused.value)
    assert f"{path}:2: no image 'River_9.jpg'" in text
    assert f"{path}:3: 'same.jpg' is in several folders" in text
    assert f"{path}:4: 'River/River_1.jpg' is listed in line 1 already" in text
    path.write_bytes(b"\n")
    with pytest.raises(DataError, match="the list is empty"):
        pick_listed(dataset, path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="save it as UTF-8"):
        pick_listed(dataset, path)


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


def sick(root: Path) -> Path:
    for k, name in enumerate(("train/ship/1.png", "train/ships/2.png", "val/ship/3.png", "val/plane/4.png")):
        picture(root / name, k)
    shutil.copy(root / "train/ship/1.png", root / "train/ships/copy.png")
    shutil.copy(root / "train/ship/1.png", root / "val/ship/leak.png")
    (root / "val/plane/bad.png").write_bytes((root / "val/plane/4.png").read_bytes()[:100])
    return root


def test_a_sick_dataset(tmp_path: Path) -> None:
    health = check_images(sick(tmp_path / "data"))
    assert not health.passed
    assert [(twin.split, twin.path.name, twin.other.name) for twin in health.leaks] == [("val", "leak.png", "1.png")]
    assert [(twin.path.name, twin.other.name) for twin in health.conflicts] == [("copy.png", "1.png")]
    texts = [(f.kind, f.where, f.text) for f in image_findings(health)]
    assert ("warning", "all", "ship and ships may be one class: put them into one folder") in texts
    assert ("warning", "train", "no image of plane") in texts
    assert any(kind == "error" and "bad.png" in text for kind, _, text in texts)
    assert any(kind == "error" and "the same pixels in two classes" in text for kind, _, text in texts)
    record = json.loads(json.dumps(image_record(health), allow_nan=False))
    assert record["same pixels in two classes"][0]["exact"] is True
    assert record["splits"]["val"]["images of classes"] == {"plane": 2, "ship": 2, "ships": 0}
    assert record["splits"]["train"]["image sizes"] == {"24x24": 3}
    page = image_page(health, "fledge check data").html()
    assert page.count("<img") > 8
    assert "Images of val" in page


def test_against_another(tmp_path: Path) -> None:
    root = sick(tmp_path / "data")
    picture(tmp_path / "other" / "harbor" / "x.png", 9)
    picture(tmp_path / "other" / "ship" / "y.png", 2)
    health = check_images(root, tmp_path / "other")
    assert (health.only_here, health.only_there) == (("plane", "ships"), ("harbor",))
    between = [t for t in health.leaks if str(tmp_path / "other") in t.split + t.other_split]
    assert [{t.path.name, t.other.name} for t in between] == [{"y.png", "3.png"}]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import fledge.cli

    def run(*arguments: object) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["fledge", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            fledge.cli.main()
        return stop.value.code or 0, capsys.readouterr().out

    code, out = run(sick(tmp_path / "data"), "--out", tmp_path / "check")
    assert code == 3
    assert "same pixels: " in out
    assert (tmp_path / "check" / "check.html").exists()
    for k in range(2):
        picture(tmp_path / "well" / "aGrass" / f"{k}.jpg", 20 + k)
    code, out = run(tmp_path / "well", "--as", "rsscn7")
    assert code == 0
    assert "warning: all: 2 images, 2,800 published of RSSCN7" in out
    assert "classes of RSSCN7 that are not here: bField" in out


def test_loveda_is_checked(tmp_path: Path) -> None:
    root = loveda(tmp_path / "LoveDA")
    health = check_images(root)
    assert (list(health.splits), list(health.refused), health.passed) == (["train", "val"], ["test"], False)
    assert "no images" in image_findings(health)[0].text
    picture(root / "Test" / "Rural" / "images_png" / "77.png", 77, 16)
    assert holds_images(root)
    health = check_images(root, name="loveda")
    assert health.passed
    pixels = {
        split: np.concatenate([open_loveda(root, split).mask(i).ravel() for i in range(4)])
        for split in ("train", "val")
    }
    for split, values in pixels.items():
        counted = {name: int((values == label).sum()) for label, name in enumerate(CATALOGUE["loveda"].classes)}
        assert health.counts[split] == {**counted, "(no data)": int((values == 255).sum())}
    assert health.counts["test"] == {}
    compared = [(c.split, c.what, c.found) for c in health.beside.comparisons]
    assert compared == [("train", "images", 4), ("val", "images", 4), ("test", "images", 3), ("", "images", 11)]
    cv2.imwrite(str(root / open_loveda(root, "val").masks[0]), np.full((16, 16), 9, np.uint8))
    health = check_images(root)
    assert not health.passed
    assert any("value 9 in a mask" in f.text for f in image_findings(health))
    record = json.loads(json.dumps(image_record(health), allow_nan=False))
    assert record["known as"] == "loveda"
    assert "building" in record["splits"]["train"]["pixels of classes"]
    page = image_page(health, "fledge check LoveDA").html()
    assert page.count("<img") >= 8


def test_images_alone_are_checked(tmp_path: Path) -> None:
    for k in range(3):
        picture(tmp_path / "data" / f"{k}.png", k)
    shutil.copy(tmp_path / "data" / "0.png", tmp_path / "data" / "copy.png")
    assert holds_images(tmp_path / "data")
    health = check_images(tmp_path / "data")
    assert health.passed
    assert [f.text for f in image_findings(health)] == [
        "1 image has the same pixels as an earlier one of the same split"
    ]
    assert "Spread evenly over the split" in image_page(health, "fledge check data").html()


@pytest.mark.parametrize("extra", ["labels/0.txt", "annotations/train.json", "0.xml"])
def test_a_detection_dataset_that_lost_something_is_not_taken_for_images(tmp_path: Path, extra: str) -> None:
    for k in range(3):
        picture(tmp_path / "train" / "images" / f"{k}.png", k)
    assert holds_images(tmp_path), "images and nothing else"
    (tmp_path / extra).parent.mkdir(exist_ok=True)
    (tmp_path / extra).write_text("1")
    assert not holds_images(tmp_path)


@pytest.mark.slow
def test_the_pages_in_a_browser(tmp_path: Path, open_page: Any) -> None:
    for root in (loveda(tmp_path / "LoveDA"), sick(tmp_path / "data")):
        path = image_page(check_images(root), "fledge check").write(tmp_path / f"{root.name}.html")
        facts = open_page(path)
        assert (facts.console, facts.requests, facts.broken, facts.overflow, facts.enlarged) == ([], [], [], [], True)


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
