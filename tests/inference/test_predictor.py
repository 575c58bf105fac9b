from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.squares import GREEN, RED, painted, truth

import fledge.inference.predictor as module
from fledge.data.raster import PixelRule
from fledge.errors import DataError, UsageError
from fledge.inference.model import TorchModel
from fledge.inference.predictor import Predictor
from fledge.inference.windows import windows
from fledge.types import Detections

Image = NDArray[np.uint8]
Make = Callable[..., Predictor[TorchModel]]


def network_of(predictor: Predictor[TorchModel]) -> Any:
    return predictor.model.module


def rows(found: Detections) -> list[tuple[float, ...]]:
    boxes = found.boxes.tolist()
    return sorted((label, *box) for label, box in zip(found.labels.tolist(), boxes, strict=True))


# 96-pixel windows with an overlap of 40 over 250×300: x starts 0, 56, 112, 168, 204; seams at 76, 132, 188, 234
ON_SEAMS = [
    (66, 30, 20, 10, RED),  # centre exactly on the first vertical seam
    (30, 70, 10, 12, GREEN),  # centre on the first horizontal seam
    (70, 68, 12, 16, RED),  # centre on the corner of four windows
    (126, 126, 12, 12, GREEN),  # and on another corner
    (180, 20, 17, 9, RED),
    (228, 180, 13, 30, GREEN),
    (5, 5, 20, 20, RED),
    (270, 225, 20, 20, GREEN),
    (150, 200, 39, 7, RED),  # nearly as long as the overlap
]


def test_objects_on_seams_and_corners_are_found_once(finder: Make) -> None:
    found = finder().detect(painted(250, 300, ON_SEAMS))
    assert rows(found) == truth(ON_SEAMS)
    assert found.frame.size == (250, 300)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_tiled_equals_untiled(finder: Make) -> None:
    image = painted(250, 300, ON_SEAMS)
    assert rows(finder().detect(image)) == rows(finder(image_size=320).detect(image))


@pytest.mark.parametrize("seed", range(12))
def test_any_objects_smaller_than_the_overlap_are_found_once(finder: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(60, 330, 2))
    patches = []
    for x in range(1, width - 41, 41):  # one in each cell of 41 pixels, so that patches never touch
        for y in range(1, height - 41, 41):
            w, h = (int(v) for v in rng.integers(4, 40, 2))
            dx, dy = int(rng.integers(0, 40 - w + 1)), int(rng.integers(0, 40 - h + 1))
            patches.append((x + dx, y + dy, w, h, RED if rng.random() < 0.5 else GREEN))
    assert rows(finder().detect(painted(height, width, patches))) == truth(patches)


def test_the_order_of_the_windows_does_not_matter(finder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    image = painted(250, 300, ON_SEAMS)
    before = finder().detect(image)
    monkeypatch.setattr(module, "windows", lambda *args: windows(*args)[::-1])
    after = finder().detect(image)
    assert rows(after) == rows(before)
    assert sorted(after.scores.tolist()) == sorted(before.scores.tolist())


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_the_batch_size_does_not_matter(finder: Make, batch_size: int) -> None:
    images = [painted(250, 300, ON_SEAMS), painted(50, 70, [(9, 9, 12, 8, RED)]), painted(250, 300, ON_SEAMS[:2])]
    one, other = finder(batch_size=1).detect_many(images), finder(batch_size=batch_size).detect_many(images)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.labels, b.labels)


def test_windows_of_neighbouring_images_share_a_batch(finder: Make) -> None:
    predictor = finder(batch_size=4)
    seen: list[int] = []
    found = predictor.detect_many([painted(60, 60, [(9, 9, 12, 8, RED)])] * 5, advance=seen.append)
    module = network_of(predictor)
    assert module.batches == [(4, 3, 64, 64), (1, 3, 64, 64)]
    assert (len(found), seen, [d.frame.image_id for d in found]) == (5, [1, 2, 3, 4, 5], list("01234"))


def test_no_images(finder: Make) -> None:
    assert finder().detect_many([]) == []


def test_nothing_to_find(finder: Make) -> None:
    for size in ((40, 40), (250, 300)):
        found = finder().detect(painted(*size, []))
        assert (len(found), found.classes, found.boxes.shape) == (0, ("red", "green"), (0, 5))


def test_the_threshold_and_the_classes(finder: Make) -> None:
    image = painted(250, 300, ON_SEAMS)
    everything = finder().detect(image)
    cut = float(everything.scores.median())
    assert len(finder().detect(image, cut)) == int((everything.scores >= cut).sum())
    assert finder().classes == ("red", "green")


@pytest.mark.parametrize(("height", "width"), [(201, 333), (333, 201), (192, 384), (97, 101), (64, 48), (1000, 31)])
def test_fitted_images_give_boxes_in_their_own_pixels(finder: Make, height: int, width: int) -> None:
    w, h = max(width // 3, 12), max(height // 5, 12)
    patches = [(width // 4, height // 2, w, h, RED), (width // 3, height // 8, w, h, GREEN)]
    found = finder(image_size=192, fit=True, pixel_scale=192 / max(height, width), tolerance=127).detect(
        painted(height, width, patches)
    )
    assert len(found) == 2
    pixel = max(max(height, width) / 192, 1)  # of the network's input, in those of the image
    for got, expected in zip(rows(found), truth(patches), strict=True):
        assert got[0] == expected[0]
        assert np.abs(np.subtract(got[1:3], expected[1:3])).max() < 0.5 * pixel
        assert np.abs(np.subtract(got[3:5], expected[3:5])).max() <= pixel


def test_a_short_side_is_one_oblong_window(finder: Make) -> None:
    """600 × 900 and 900 × 600 at 96/600; a long one, 300 × 1200, at 160/1200: nothing is cut, and all boxes return."""
    predictor = finder(batch_size=1, image_size=160, short_side=96, fit=True, pixel_scale=0.16, tolerance=150)
    patches = [(100, 100, 200, 100, RED), (400, 150, 100, 100, GREEN)]
    sizes = [(600, 900), (900, 600), (300, 1200)]
    found = predictor.detect_many([painted(*size, patches) for size in sizes])
    assert network_of(predictor).batches == [(1, 3, 96, 160), (1, 3, 160, 96), (1, 3, 64, 160)]
    for detections in found:
        np.testing.assert_allclose(rows(detections), truth(patches), atol=6)  # a pixel of the network is 6 to 7


def test_fit_shrinks_exactly(finder: Make) -> None:
    patches = [(40, 40, 80, 40, RED), (200, 100, 40, 120, GREEN)]
    found = finder(image_size=96, fit=True, pixel_scale=0.25).detect(painted(288, 384, patches))
    assert rows(found) == truth(patches)


def test_fitted_detectors_cut_images_far_larger_than_those_of_training(finder: Make) -> None:
    patches = [(40, 40, 80, 40, RED), (600, 300, 40, 120, GREEN), (288, 440, 80, 80, RED)]
    predictor = finder(image_size=96, fit=True, pixel_scale=0.25)
    found = predictor.detect(painted(600, 800, patches))
    network = network_of(predictor)
    assert network.batches  # 200×150 network pixels: windows of 96
    assert all(shape[2:] == (96, 96) for shape in network.batches)
    assert rows(found) == truth(patches)


def test_the_border_between_one_window_and_many(finder: Make) -> None:
    for side, count in ((500, 1), (575, 1), (577, 4)):  # 1.5 times 384
        predictor = finder(image_size=96, fit=True, pixel_scale=0.25)
        predictor.detect(painted(side, side, []))
        network = network_of(predictor)
        assert sum(shape[0] for shape in network.batches) == count


def test_a_scale_can_be_asked_for(finder: Make) -> None:
    patches = [(40, 40, 80, 40, RED)]
    assert rows(finder(image_size=320).detect(painted(160, 200, patches), scale=0.5)) == truth(patches)


def test_grey_arrays_become_rgb(finder: Make) -> None:
    predictor = finder()
    assert len(predictor.detect(np.full((50, 70), 200, dtype=np.uint8))) == 0
    network = network_of(predictor)
    assert network.batches == [(1, 3, 64, 96)]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), dtype=np.float32),
        np.zeros((8, 8, 4), dtype=np.uint8),
        np.zeros((3, 8, 8), dtype=np.uint8),
        np.zeros(8, dtype=np.uint8),
        np.zeros((1, 8, 8, 3), dtype=np.uint8),
    ],
)
def test_other_arrays_are_refused(finder: Make, array: Any) -> None:
    with pytest.raises(UsageError, match="not an image"):
        finder().detect(array)


@pytest.mark.parametrize("shape", [(0, 8, 3), (8, 0, 3), (0, 0)])
def test_arrays_without_pixels_are_refused(finder: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="not an image"):
        finder().detect(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_arrays_of_other_channels(finder: Make, channels: int) -> None:
    predictor = finder(fit=True, pixel_scale=0.4, pixels=PixelRule(tuple(range(1, channels + 1))))
    image = np.full((200, 150, channels), 7, np.uint8)
    seen: list[torch.Tensor] = []
    network_of(predictor).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    predictor.detect(image)
    assert seen[0].shape == (1, channels, 96, 96)
    assert bool((seen[0][:, :, :, :72] == 7).all())
    assert bool((seen[0][:, :, :, 72:] == 128).all())
    wrongs: list[Any] = [np.zeros((9, 9, channels + 1), np.uint8), np.zeros((9, 9, channels), np.uint16)]
    for wrong in wrongs:
        with pytest.raises(UsageError, match=rf"give uint8 \(H, W, {channels}\)"):
            predictor.detect(wrong)


def test_a_grey_array_is_enough_for_one_channel(finder: Make) -> None:
    predictor = finder(pixels=PixelRule((1,)))
    assert len(predictor.detect(np.zeros((50, 60), np.uint8))) == 0
    with pytest.raises(UsageError, match=r"give uint8 \(H, W, 2\)$"):
        finder(pixels=PixelRule((1, 2))).detect(np.zeros((50, 60), np.uint8))


def test_files_are_read_by_the_rule(finder: Make, tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    samples = painted(60, 80, [(20, 20, 20, 10, RED)]).astype(np.uint16) * 4
    assert cv2.imwrite(str(path), samples[..., ::-1])
    assert len(finder().detect(path)) == 0, "divided by 257 it is nearly black"
    predictor = finder(pixels=PixelRule((), (0, 1020)))
    assert rows(predictor.detect(path)) == truth([(20, 20, 20, 10, RED)])
    assert predictor.detect(path).frame.image_id == "deep"


def test_a_strip_much_thinner_than_a_network_pixel_is_no_crash(finder: Make) -> None:
    found = finder(fit=True, pixel_scale=0.1).detect(np.zeros((2, 960, 3), dtype=np.uint8))
    assert len(found) == 0


def test_files(finder: Make, tmp_path: Path) -> None:
    image = painted(120, 150, [(20, 30, 20, 10, RED)])
    assert cv2.imwrite(str(tmp_path / "tile.0.png"), image[..., ::-1])
    found = finder().detect(tmp_path / "tile.0.png")
    assert (found.frame.image_id, found.frame.size) == ("tile.0", (120, 150))
    assert rows(found) == rows(finder().detect(str(tmp_path / "tile.0.png"))) == [(0, 30.0, 35.0, 20.0, 10.0, 0.0)]
    with pytest.raises(DataError, match=r"absent\.png"):
        finder().detect(tmp_path / "absent.png")


def test_the_image_given_is_not_written_to(finder: Make) -> None:
    image = painted(250, 300, ON_SEAMS)
    copy = image.copy()
    finder().detect(image)
    assert np.array_equal(image, copy)
