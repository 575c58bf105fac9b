"""Images of other bands and depths, from the files to detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.data.tiffs import write_tiff

from fledge import api
from fledge.data.raster import PixelRule, read_image
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint
from fledge.errors import DataError, UsageError
from fledge.inference.found import Found
from fledge.inference.pictures import draw_scene
from fledge.recipe import Recipe, load_recipe, make_recipe

TINY: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0, "image_size": 64,
    "overlap": 16, "batch_size": 2, "epochs": 1, "workers": 0, "warmup_steps": 0, "photometric": 0.5, "device": "cpu",
    "score_threshold": 0.001, "max_detections": 20,
}  # fmt: skip
PLANE = "20 20 50 20 50 40 20 40 plane 0\n"


def write_split(root: Path, split: str, images: list[NDArray[Any]]) -> None:
    """A split in DOTA's form: one plane an image."""
    (root / split / "images").mkdir(parents=True)
    (root / split / "labelTxt").mkdir()
    for k, samples in enumerate(images):
        write_tiff(root / split / "images" / f"{split}{k}.tif", samples)
        (root / split / "labelTxt" / f"{split}{k}.txt").write_text(PLANE)


def scene(rng: np.random.Generator, bands: int, low: int, high: int, dtype: str) -> NDArray[Any]:
    return rng.integers(low, high, (70, 90, bands)).astype(dtype)


@pytest.fixture(scope="module")
def five_bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 16-bit GeoTIFFs of five bands, as satellites give them."""
    root, rng = tmp_path_factory.mktemp("five"), np.random.default_rng(0)
    write_split(root, "train", [scene(rng, 5, 200, 3000, "uint16") for _ in range(2)])
    write_split(root, "val", [scene(rng, 5, 200, 3000, "uint16")])
    return root


def recipe(data: Path, **settings: Any) -> Recipe:
    return make_recipe({**TINY, "data": str(data), **settings}, "test")


@pytest.fixture(scope="module")
def run(five_bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(recipe(five_bands, bands=[5, 3, 2, 1, 4]), tmp_path_factory.mktemp("runs") / "five")


def test_the_range_is_measured_once_and_goes_with_the_run(run: Path) -> None:
    settings = load_recipe(run / "recipe.toml")
    low, high = settings.pixel_range
    assert 200 <= low < 240
    assert 2960 < high <= 3000
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    manifest, groups = load_checkpoint(newest)
    assert manifest["meta"]["recipe"]["pixel_range"] == [low, high]
    assert manifest["meta"]["recipe"]["bands"] == [5, 3, 2, 1, 4]
    assert groups["model"]["backbone.body.conv1.0.weight"].shape[1] == 5


def test_a_finished_run_is_left_as_it_is(run: Path, five_bands: Path) -> None:
    before = newest_checkpoint(run / "checkpoints")
    assert api.train(recipe(five_bands, bands=[5, 3, 2, 1, 4]), run) == run
    assert newest_checkpoint(run / "checkpoints") == before


def test_evaluation_and_detection_read_images_as_training_did(run: Path, five_bands: Path) -> None:
    image = five_bands / "val" / "images" / "val0.tif"
    predictor = api.load(run, "cpu")
    assert predictor.pixels == PixelRule((5, 3, 2, 1, 4), tuple(load_recipe(run / "recipe.toml").pixel_range))  # type: ignore[arg-type]
    evaluation = api.evaluate(run, device="cpu")
    (found,) = api.detect(run, [image], 0.0, "cpu")
    assert len(found) > 0
    assert evaluation.detections[0].scores.tolist() == found.scores.tolist()
    (same,) = api.detect(predictor, [read_image(image, predictor.pixels)], 0.0)
    assert same.scores.tolist() == found.scores.tolist()


def test_images_with_too_few_bands_are_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    grey = write_tiff(tmp_path / "grey.tif", np.zeros((70, 70, 1), np.uint16))
    with pytest.raises(
        DataError, match=r"^too few bands: [^\n]*grey\.tif: it has 1, and `bands` asks for band 5: [^\n]*$"
    ):
        api.detect(run, [grey], device="cpu")
    with pytest.raises(UsageError, match=r"give uint8 \(H, W, 5\)$"):
        api.detect(run, [np.zeros((70, 70, 3), np.uint8)], device="cpu")


def test_five_bands_without_a_choice_are_refused_before_the_run_folder_is_made(
    five_bands: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"train0\.tif: it has 5 bands: say which with `bands`, such as \[3, 2, 1\]$"):
        api.train(recipe(five_bands), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_reads_other_pixels_is_refused(run: Path, five_bands: Path, tmp_path: Path) -> None:
    settings = {"method": "kd_rnet", "teacher": str(run), "kd_probability": "sigmoid"}
    with pytest.raises(DataError, match=r"pixels differ: .*bands = \[5, 3, 2, 1, 4\].*this recipe with bands = \[1\]"):
        api.distill(recipe(five_bands, bands=[1], **settings), tmp_path / "run")
    api.distill(recipe(five_bands, bands=[5, 3, 2, 1, 4], **settings), tmp_path / "run")


@pytest.mark.parametrize("bands", [[1], [1, 2]])
def test_one_and_two_bands_of_floating_point_numbers(bands: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = [rng.gamma(2.0, 0.01, (64, 64, 2)).astype(np.float32) for _ in range(2)]
    images[0][:20, :20] = np.nan
    write_split(tmp_path, "train", images)
    write_split(tmp_path, "val", images[:1])
    out = api.train(recipe(tmp_path, bands=bands), tmp_path / "run")
    assert 0 <= load_recipe(out / "recipe.toml").pixel_range[0] < 0.01
    assert api.evaluate(out, device="cpu").cost.flops > 0


def test_eight_bit_colour_needs_no_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    write_split(tmp_path, "train", [scene(rng, 3, 0, 256, "uint8") for _ in range(2)])
    out = api.train(recipe(tmp_path), tmp_path / "run")
    assert load_recipe(out / "recipe.toml").pixel_range == ()


def test_detections_on_many_bands_are_drawn_on_the_first_three(run: Path, tmp_path: Path) -> None:
    even = np.tile(np.array([200, 1000, 2000, 600, 2900], np.uint16), (70, 90, 1))
    image, predictor = write_tiff(tmp_path / "even.tif", even), api.load(run, "cpu")
    picture = tmp_path / "drawn.jpg"
    draw_scene(Found.of(predictor.detect(image, 1.0)), image, picture, predictor.pixels)
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    low, high = load_recipe(run / "recipe.toml").pixel_range
    blue_green_red = [round(255 * (value - low) / (high - low)) for value in (1000, 2000, 2900)]
    assert np.abs(drawn.mean(axis=(0, 1)) - blue_green_red).max() < 4  # JPEG
