"""Boxes must stay on the pixels they were drawn on, whatever the transform."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fledge.data.sampling import collate
from fledge.data.transforms import (
    PAD,
    Augment,
    _add_noise,
    ceil_stride,
    fit_scale,
    fit_to,
    flip,
    move_targets,
    pad_colour,
    photometric,
    quarter_turns,
    rotation,
    scaling,
    shift,
    warp,
)
from fledge.geometry.boxes import canonicalize, corners
from fledge.types import Targets

ALWAYS = np.random.default_rng


def targets_of(*boxes: tuple[float, float, float, float, float]) -> Targets:
    n = len(boxes)
    flags = torch.zeros(n, dtype=torch.bool)
    box = canonicalize(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5))
    return Targets(box, torch.zeros(n, dtype=torch.int64), flags, flags.clone(), corners(box), "scene")


def drawn(height: int, width: int, box: tuple[float, float, float, float, float]) -> NDArray[np.uint8]:
    """A white box on black, anti-aliased by 5 × 5 samples per pixel; an oracle that shares no code with the package."""
    cx, cy, w, h, angle = box
    y, x = (np.mgrid[: height * 5, : width * 5] + 0.5) / 5
    u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
    v = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
    mask = (abs(u) <= w / 2) & (abs(v) <= h / 2)
    grey = mask.reshape(height, 5, width, 5).mean(axis=(1, 3)) * 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def measured(image: NDArray[np.uint8]) -> tuple[float, float, float, float, float]:
    """The drawn box back from the pixels, by moments: centre, sides and angle of a uniform rectangle."""
    weight = image[..., 0].astype(np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    total = weight.sum()
    cx, cy = (weight * x).sum() / total, (weight * y).sum() / total
    covariance = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weight.ravel() / 255, ddof=0)
    values, vectors = np.linalg.eigh(covariance)
    angle = math.atan2(vectors[1, 1], vectors[0, 1])
    return cx, cy, math.sqrt(12 * values[1]), math.sqrt(12 * values[0]), angle


def around(image: NDArray[np.uint8], box: list[float]) -> NDArray[np.uint8]:
    """The pixels in a circle 4 px wider than the box; the rest, with the padding, is set to black."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    near = np.hypot(x - box[0], y - box[1]) <= math.hypot(box[2], box[3]) / 2 + 4
    return np.where(near[..., None], image, 0).astype(np.uint8)


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("height", "width"), [(5, 8), (64, 33), (1, 1)])
def test_flips_are_exactly_numpys(height: int, width: int, horizontal: bool, vertical: bool) -> None:
    image = ALWAYS(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    axes = (0,) * vertical + (1,) * horizontal
    moved = warp(image, flip(width, height, horizontal, vertical), (height, width))
    assert np.array_equal(moved, np.flip(image, axes))


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(5, 8), (64, 33), (1, 1)])
def test_quarter_turns_are_exactly_numpys(height: int, width: int, turns: int) -> None:
    image = ALWAYS(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = (height, width) if turns % 2 == 0 else (width, height)
    moved = warp(image, quarter_turns(width, height, turns), size)
    assert np.array_equal(moved, np.rot90(image, -turns))  # numpy counts counter-clockwise


def test_hand_computed_corner_after_flip_and_turn() -> None:
    """In a frame 100 wide and 60 high, (10, 20) flips to (90, 20); a clockwise quarter turn takes it to (40, 90)."""
    point = quarter_turns(100, 60, 1) @ flip(100, 60, True, False) @ np.array([10.0, 20.0, 1.0])
    assert point.tolist() == [40.0, 90.0, 1.0]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    fit=st.booleans(),
    angle=st.floats(-1.5, 1.5),
    size=st.sampled_from([(96, 96), (80, 128), (150, 90)]),
)
def test_a_label_stays_on_its_object(seed: int, fit: bool, angle: float, size: tuple[int, int]) -> None:
    height, width = size
    box = (width / 2 + 3.3, height / 2 - 2.7, 34.0, 14.0, angle)
    augment = Augment(96, fit, hflip=True, vflip=True, right_angles=True, rotate_degrees=180, scale=(0.7, 1.1))
    image, moved = augment(drawn(height, width, box), targets_of(box), ALWAYS(seed))
    assert image.shape == (96, 96, 3)
    if len(moved) == 0 or not bool(((corners(moved.boxes) > 1) & (corners(moved.boxes) < 95)).all()):
        return  # cut by the frame: the pixels no longer show the whole rectangle
    expected = moved.boxes[0].tolist()
    cx, cy, w, h, found = measured(around(image, expected))
    assert abs(cx - expected[0]) < 0.3
    assert abs(cy - expected[1]) < 0.3
    assert abs(w - expected[2]) < 0.6
    assert abs(h - expected[3]) < 0.6
    assert abs(math.sin(found - expected[4])) < 0.02


def test_most_of_those_examples_are_measured() -> None:
    augment = Augment(96, True, True, True, True, 180, (0.7, 1.1))
    box = (67.3, 37.3, 34.0, 14.0, 0.4)
    kept = 0
    for seed in range(40):
        _, moved = augment(np.zeros((80, 128, 3), np.uint8), targets_of(box), ALWAYS(seed))
        kept += len(moved) and bool(((corners(moved.boxes) > 1) & (corners(moved.boxes) < 95)).all())
    assert kept > 25


@pytest.mark.parametrize("target", [256, 96, 64, 40])
def test_fit_keeps_labels_on_objects_at_every_reduction(target: int) -> None:
    box = (81.3, 60.6, 60.0, 24.0, 0.5)
    image, factor = fit_to(drawn(120, 160, box), target)
    assert factor == target / 160
    assert image.shape == (ceil_stride(120 * factor), ceil_stride(160 * factor), 3)
    cx, cy, w, h, angle = measured(around(image, [v * factor for v in box]))
    for found, true in zip((cx, cy, w, h), box[:4], strict=True):
        assert abs(found - true * factor) < 0.35
    assert abs(math.sin(angle - 0.5)) < 0.02


@pytest.mark.parametrize(
    ("height", "width", "scaled"),
    [(600, 1000, (800, 1333)), (1000, 600, (1333, 800)), (930, 930, (800, 800)), (500, 2000, (333, 1333)),
     (2000, 500, (1333, 333)), (400, 640, (800, 1280))],
)  # fmt: skip
def test_the_short_side_unless_the_long_one_would_exceed(height: int, width: int, scaled: tuple[int, int]) -> None:
    """By hand: 600 × 1000 at 800/600 would be 1333.3 wide; 500 × 2000 at 800/500 would be 3200."""
    factor = fit_scale(height, width, 1333, 800)
    assert (round(height * factor), round(width * factor)) == scaled


def test_upright_and_lying_images_in_one_batch() -> None:
    """Oblong inputs, padded to the highest and the widest; each box stays on the pixels it was drawn on."""
    augment, box = Augment(133, hflip=True, short_side=80), (44.3, 38.6, 30.0, 12.0, 0.5)
    shapes = ((60, 90), (100, 70))
    batch = collate([augment(drawn(*shape, box), targets_of(box), ALWAYS(1)) for shape in shapes])
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.sizes.tolist() == [[96, 128], [128, 96]]
    for pixels, targets, shape in zip(batch.images, batch.targets, shapes, strict=True):
        scale = 80 / min(shape)
        assert targets.boxes[0, 2:4].tolist() == pytest.approx([30 * scale, 12 * scale], rel=1e-4)
        expected = targets.boxes[0].tolist()
        cx, cy, *_, angle = measured(around(pixels.permute(1, 2, 0).numpy(), expected))
        assert math.hypot(cx - expected[0], cy - expected[1]) < 0.3
        assert abs(math.sin(angle - expected[4])) < 0.02


def test_a_reduction_whose_sides_do_not_divide_still_keeps_the_label() -> None:
    """105 rows become 22.4: averaged to 22 whole rows first, which must not move the object by a third of a pixel."""
    box = (150.0, 80.0, 40.0, 12.0, 0.1)
    image, factor = fit_to(drawn(105, 300, box), 64)
    cx, cy, *_ = measured(around(image[:21], [v * factor for v in box]))  # the padding begins in row 22
    assert abs(cx - 150 * factor) < 0.1
    assert abs(cy - 80 * factor) < 0.1


def test_noise_has_the_stated_spread() -> None:
    grey = np.full((256, 256, 3), 100, np.uint8)
    noisy = _add_noise(grey, 5.0, ALWAYS(0)).astype(float) - 100
    assert abs(noisy.mean()) < 0.1
    assert abs(noisy.std() - 5) < 0.15
    assert set(np.unique(_add_noise(np.full((64, 64, 3), 255, np.uint8), 5.0, ALWAYS(0)))) <= set(range(235, 256))


def test_fit_pads_right_and_bottom_with_the_mean_colour() -> None:
    image, factor = fit_to(np.full((50, 64, 3), 7, np.uint8), 64)
    assert factor == 1.0
    assert image.shape == (64, 64, 3)
    assert (image[:50] == 7).all()
    assert (image[50:] == PAD).all()


def test_strong_reduction_averages_instead_of_skipping() -> None:
    """Stripes one pixel wide, a quarter of the size: the average grey, where bilinear sampling alone shows stripes."""
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::8] = 255
    image, _ = fit_to(stripes, 64)
    assert image.std() < 40
    assert abs(image.mean() - 255 / 8) < 2
    naive = np.asarray(cv2.resize(stripes, (64, 64), interpolation=cv2.INTER_LINEAR))
    assert abs(naive.mean() - 255 / 8) > 5, "the fixture must be one where it matters"


@pytest.mark.parametrize("short_side", [0, 48])
def test_default_augment_is_what_evaluation_sees(short_side: int) -> None:
    image = ALWAYS(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    trained, moved = Augment(96, short_side=short_side)(image, targets_of((70, 50, 40, 10, 0.3)), ALWAYS(1))
    evaluated, factor = fit_to(image, 96, short_side)
    assert np.array_equal(trained, evaluated)
    assert torch.allclose(moved.boxes[0, :4] / factor, torch.tensor([70.0, 50, 40, 10]), atol=1e-3)
    assert moved.quads is None
    assert moved.image_id == "scene"


def test_a_native_crop_copies_pixels() -> None:
    image = ALWAYS(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for seed in range(5):
        matrix, size = Augment(64, fit=False).draw(90, 120, ALWAYS(seed))
        x, y = (-int(v) for v in matrix[:2, 2])
        assert 0 <= x <= 56
        assert 0 <= y <= 26
        crop, _ = Augment(64, fit=False)(image, targets_of(), ALWAYS(seed))
        assert size == (64, 64)
        assert np.array_equal(crop, image[y : y + 64, x : x + 64])


def test_boxes_leaving_the_frame_are_kept_ignored_or_dropped_by_area() -> None:
    """Boxes 20 wide in a frame 100 wide, cut by its left edge to 80, 70.5, 69.5, 10.5, 9.5 and 0 per cent."""
    shares = [0.8, 0.705, 0.695, 0.105, 0.095, 0.0]
    boxes = [(20 * share - 10, 50.0, 20.0, 8.0, 0.0) for share in shares]
    moved = move_targets(targets_of(*boxes), np.eye(3), (100, 100))
    assert moved.ignore.tolist() == [False, False, True, True]
    assert torch.allclose(moved.boxes[:, 2], torch.tensor(20.0)), "boxes keep their full extent"


def test_a_tilted_box_on_a_corner_is_judged_by_its_own_area_not_its_hull() -> None:
    """A long diagonal box through the corner (0, 0): half of it is inside, whatever its hull says."""
    inside = (0.0, 0.0, 40.0, 4.0, math.pi / 4)
    moved = move_targets(targets_of(inside), np.eye(3), (100, 100))
    assert moved.ignore.tolist() == [True]
    across = (0.0, 0.0, 40.0, 4.0, -math.pi / 4)  # a triangle of 4 px² of its 160 is inside
    assert len(move_targets(targets_of(across), np.eye(3), (100, 100))) == 0


def test_thin_objects_are_ignored_and_flags_are_kept() -> None:
    targets = targets_of((50, 50, 30, 5, 0), (50, 50, 30, 3, 0))
    moved = move_targets(targets, scaling(0.5), (50, 50))
    assert moved.ignore.tolist() == [False, True]
    already = Targets(targets.boxes, targets.labels, torch.tensor([True, False]), torch.tensor([False, True]))
    moved = move_targets(already, np.eye(3), (100, 100))
    assert moved.ignore.tolist() == [True, False]
    assert moved.difficult.tolist() == [False, True]


def test_no_boxes() -> None:
    for augment in (Augment(64), Augment(64, False, True, True, True, 30, (0.5, 2.0), 1.0)):
        image, moved = augment(np.zeros((40, 70, 3), np.uint8), Targets.empty("e"), ALWAYS(0))
        assert image.dtype == np.uint8
        assert moved.boxes.shape == (0, 5)
        assert moved.labels.shape == (0,)


def test_boxes_are_le90_float32_after_any_turn() -> None:
    for seed in range(30):
        augment = Augment(128, True, True, True, True, 180, (0.8, 1.2))
        _, moved = augment(
            np.zeros((128, 128, 3), np.uint8), targets_of((64, 64, 20, 20, 0), (60, 70, 9, 30, 0)), ALWAYS(seed)
        )
        assert moved.boxes.dtype == torch.float32
        assert bool((moved.boxes[:, 2] >= moved.boxes[:, 3]).all())
        assert bool((moved.boxes[:, 4] >= -torch.pi / 2).all())
        assert bool((moved.boxes[:, 4] < torch.tensor(torch.pi / 2)).all())


def test_the_same_numbers_give_the_same_image_and_others_another() -> None:
    image = ALWAYS(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    augment = Augment(64, True, True, True, True, 20, (0.8, 1.2), 1.0)
    first, second, third = (augment(image, targets_of((30, 30, 10, 5, 0)), ALWAYS(s)) for s in (3, 3, 4))
    assert np.array_equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert not np.array_equal(first[0], third[0])


def test_inversion_swaps_light_and_dark_half_of_the_time_and_nothing_else() -> None:
    image = ALWAYS(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    before, box = image.copy(), (30.0, 20.0, 12.0, 6.0, 0.3)
    counts = {False: 0, True: 0}
    for seed in range(100):
        changed, targets = Augment(64, invert=True, fit=False)(image, targets_of(box), ALWAYS(seed))
        inverted = bool((changed[:40, :60] == 255 - image).all())
        assert inverted or (changed[:40, :60] == image).all()
        assert (changed[40:] == np.array(pad_colour(3))).all()
        assert targets.boxes.tolist() == targets_of(box).boxes.tolist()
        counts[inverted] += 1
    assert min(counts.values()) > 30
    assert (image == before).all()


def test_photometric_keeps_grey_grey_and_changes_within_its_bounds() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    coloured = grey.copy()
    coloured[..., 0] = 60
    means = []
    for seed in range(20):
        changed = photometric(grey, 1.0, ALWAYS(seed))
        assert (changed == changed[..., :1]).all()
        means.append(float(changed.mean()))
        assert abs(means[-1] - 128) < 52
        assert changed.std() < 9
        assert photometric(coloured, 1.0, ALWAYS(seed)).shape == coloured.shape
    assert np.std(means) > 15
    assert abs(float(photometric(grey, 0.01, ALWAYS(0)).mean()) - 128) < 1


def test_inputs_are_not_changed() -> None:
    image = ALWAYS(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    targets = targets_of((30, 30, 10, 5, 0))
    before, boxes = image.copy(), targets.boxes.clone()
    Augment(64, True, True, True, True, 20, (0.8, 1.2), 1.0)(image, targets, ALWAYS(0))
    assert np.array_equal(image, before)
    assert torch.equal(targets.boxes, boxes)


def test_a_shift_by_half_a_pixel_blends_neighbours() -> None:
    row = np.zeros((1, 4, 3), np.uint8)
    row[0, 1] = 200
    assert warp(row, shift(0.5, 0), (1, 4))[0, 1:3, 0].tolist() == [100, 100]


def test_crops_of_a_large_image_mostly_hold_an_object() -> None:
    image = np.zeros((700, 900, 3), np.uint8)
    targets = replace(
        Targets.empty("x"),
        boxes=torch.tensor([[810.0, 40.0, 20.0, 10.0, 0.3]]),
        labels=torch.zeros(1, dtype=torch.int64),
        ignore=torch.zeros(1, dtype=torch.bool),
        difficult=torch.zeros(1, dtype=torch.bool),
    )
    augment = Augment(image_size=128, fit=False, hflip=True, right_angles=True)
    held = 0
    for seed in range(200):
        _, moved = augment(image, targets, np.random.default_rng(seed))
        held += len(moved) == 1 and bool(((moved.boxes[0, :2] >= 0) & (moved.boxes[0, :2] <= 128)).all())
    assert 130 <= held <= 175  # three in four, and few of the others by chance


CHANNELS = (1, 2, 4, 5, 8, 12)
TURNED = shift(3, -4) @ rotation(20, (30, 20))


@pytest.mark.parametrize("matrix", [np.eye(3), TURNED, scaling(0.3) @ TURNED, scaling(1.7)], ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_channel_is_moved_alike(channels: int, matrix: NDArray[np.float64]) -> None:
    image = ALWAYS(channels).integers(0, 256, (50, 70, channels), dtype=np.uint8)
    moved = warp(image, matrix, (64, 96))
    assert moved.shape == (64, 96, channels)
    for k in range(channels):
        as_colour = warp(image[..., [k, k, k]], matrix, (64, 96))
        # Where nothing of the canvas's colour is mixed in, a channel is what it would be in a picture of three.
        covered = (warp(np.full((50, 70, 3), 255, np.uint8), matrix, (64, 96)) == 255).all(axis=2)
        difference = np.abs(moved[..., k][covered].astype(int) - as_colour[..., 0][covered])
        assert difference.max() <= 8  # of noise up to 255: for two channels OpenCV counts in 1/32 of a pixel
        assert covered.sum() > 200


@pytest.mark.parametrize("channels", CHANNELS)
def test_other_channels_are_padded_with_grey(channels: int) -> None:
    image, _ = fit_to(np.zeros((20, 64, channels), np.uint8), 64)
    assert image.shape == (32, 64, channels)
    assert (image[20:] == 128).all()
    assert not image[:20].any()


@pytest.mark.parametrize("channels", CHANNELS)
def test_augmented_images_keep_their_channels(channels: int) -> None:
    image = ALWAYS(0).integers(0, 256, (50, 70, channels), dtype=np.uint8)
    augment = Augment(64, rotate_degrees=30, scale=(0.4, 1.5), right_angles=True, photometric=1.0)
    moved, targets = augment(image, targets_of((35, 25, 20, 10, 0.3)), ALWAYS(1))
    assert moved.shape == (64, 64, channels)
    assert moved.dtype == np.uint8
    assert len(targets) == 1


def test_photometric_changes_each_channel_of_many_on_its_own_and_noise_is_common() -> None:
    image = np.full((400, 400, 6), (40, 80, 100, 120, 160, 200), dtype=np.uint8)
    changed = photometric(image, 0.4, ALWAYS(3)).astype(float)
    means, noise = changed.mean(axis=(0, 1)), changed - changed.mean(axis=(0, 1))
    slopes = (means - 128) / (np.array([40, 80, 100, 120, 160, 200]) - 128)
    assert np.ptp(slopes) > 0.01
    assert np.abs(np.corrcoef(noise.reshape(-1, 6).T) - 1).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 5])
def test_photometric_keeps_equal_channels_equal(channels: int) -> None:
    grey = np.repeat(ALWAYS(0).integers(0, 256, (40, 50, 1), dtype=np.uint8), channels, axis=2)
    for seed in range(20):
        changed = photometric(grey, 1.0, ALWAYS(seed))
        assert changed.shape == grey.shape
        assert (changed == changed[..., :1]).all()


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, (50, 70), 1),
        ({"hflip": True}, (50, 70), 2),
        ({"hflip": True, "vflip": True}, (50, 70), 4),
        ({"right_angles": True}, (50, 70), 4),
        ({"right_angles": True, "vflip": True}, (50, 70), 8),
        ({"right_angles": True, "hflip": True, "vflip": True}, (31, 17), 8),
        ({"fit": False, "hflip": True}, (64, 40), 2),
        ({"invert": True}, (50, 70), 2),
        ({"invert": True, "right_angles": True, "vflip": True}, (50, 70), 16),
        ({"fit": False}, (65, 40), 0),
        ({"fit": False}, (40, 80), 0),
        ({"photometric": 0.1}, (64, 64), 0),
        ({"scale": (0.9, 1.1)}, (64, 64), 0),
        ({"rotate_degrees": 5.0}, (64, 64), 0),
    ],
)
def test_views_are_as_many_as_are_seen(options: dict[str, Any], size: tuple[int, int], expected: int) -> None:
    image = ALWAYS(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    augment = Augment(64, **options)
    assert augment.views(*size) == expected
    seen = {augment(image, targets_of(), ALWAYS(seed))[0].tobytes() for seed in range(120)}
    assert len(seen) == expected or (expected == 0 and len(seen) > 1)
