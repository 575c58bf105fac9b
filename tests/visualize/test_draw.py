from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fledge.errors import NumericError
from fledge.visualize.draw import draw_boxes, resize
from fledge.visualize.palette import class_colour, ink_on

CLASSES = tuple("abcdefghijklmnopqrstuvwxyz")


def grey(height: int = 100, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def edge_distance(x: float, y: float, box: list[float]) -> float:
    """Distance of a point to the outline of a box, in the box's own frame."""
    cx, cy, w, h, a = box
    u = abs((x - cx) * math.cos(a) + (y - cy) * math.sin(a)) - w / 2
    v = abs(-(x - cx) * math.sin(a) + (y - cy) * math.cos(a)) - h / 2
    return -max(u, v) if max(u, v) < 0 else math.hypot(max(u, 0), max(v, 0))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(M, 2) x, y of the centres of pixels that took on colour; the grey halo does not count."""
    after = after.astype(int)
    colourful = (after.max(axis=2) - after.min(axis=2) > 60) & (before != after).any(axis=2)
    return np.argwhere(colourful)[:, ::-1] + 0.5


@given(
    cx=st.floats(35, 85),
    cy=st.floats(35, 65),
    w=st.floats(20, 45),
    h=st.floats(10, 20),
    a=st.floats(-math.pi / 2, 1.57),
)
def test_the_outline_lies_on_the_edges(cx: float, cy: float, w: float, h: float, a: float) -> None:
    box = [cx, cy, w, h, a]
    image = grey()
    drawn = draw_boxes(image, torch.tensor([box]), torch.tensor([0]), CLASSES, thickness=1)
    points = changed(image, drawn)
    assert max(edge_distance(x, y, box) for x, y in points) <= 1.5  # anti-aliasing reaches one pixel further
    for t in np.linspace(-0.5, 0.5, 21):  # and every part of every edge is there
        for u, v in ((t * w, h / 2), (t * w, -h / 2), (w / 2, t * h), (-w / 2, t * h)):
            x, y = cx + u * math.cos(a) - v * math.sin(a), cy + u * math.sin(a) + v * math.cos(a)
            assert np.hypot(points[:, 0] - x, points[:, 1] - y).min() <= 1.0


@pytest.mark.parametrize("scale", [2.0, 3.0, 0.5])
def test_boxes_move_with_the_resized_image(scale: float) -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[30:51, 20:61] = 90  # from 20 to 61 and from 30 to 51
    drawn = draw_boxes(image, torch.tensor([[40.5, 40.5, 41.0, 21.0, 0.0]]), torch.tensor([0]), CLASSES, scale=scale)
    points = changed(resize(image, scale), drawn)
    assert abs(points[:, 0].min() - 20 * scale) <= 2
    assert abs(points[:, 0].max() - 61 * scale) <= 2
    assert abs(points[:, 1].min() - 30 * scale) <= 2
    assert drawn.shape == (80 * scale, 80 * scale, 3)


def test_the_colour_is_that_of_the_class() -> None:
    drawn = draw_boxes(grey(), torch.tensor([[60.0, 50.0, 60.0, 40.0, 0.0]]), torch.tensor([3]), CLASSES, thickness=3)
    assert tuple(drawn[30, 60]) == class_colour(3)


def test_the_input_is_not_modified() -> None:
    image = grey()
    image.setflags(write=False)
    draw_boxes(image, torch.tensor([[60.0, 50.0, 60.0, 40.0, 0.3]]), torch.tensor([0]), CLASSES, captions=True)
    assert (image == 128).all()


def test_no_boxes_leave_the_image_as_it_was() -> None:
    drawn = draw_boxes(grey(), torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), CLASSES)
    assert (drawn == 128).all()


def test_boxes_outside_or_huge_do_no_harm() -> None:
    boxes = torch.tensor([[-500.0, 50, 20, 10, 0], [60, 1e9, 20, 10, 0], [60, 50.5, 1e12, 40, 0]])
    drawn = draw_boxes(grey(), boxes, torch.tensor([0, 0, 1]), CLASSES, thickness=1)
    assert set(map(tuple, changed(grey(), drawn))) == {(x + 0.5, y) for x in range(120) for y in (30.5, 70.5)}


def test_dashes_break_the_edges_but_mark_the_corners() -> None:
    box = torch.tensor([[60.0, 50.0, 80.0, 60.0, 0.0]])
    solid = draw_boxes(grey(), box, torch.tensor([0]), CLASSES)
    dashed = draw_boxes(grey(), box, torch.tensor([0]), CLASSES, dashed=torch.tensor([True]))
    whole, part = len(changed(grey(), solid)), len(changed(grey(), dashed))
    assert 0.4 * whole < part < 0.85 * whole
    for x, y in ((20, 20), (100, 20), (100, 80), (20, 80)):
        assert tuple(dashed[y, x]) != (128, 128, 128)


def test_a_degenerate_dashed_box_is_drawn() -> None:
    box = torch.tensor([[60.0, 50.0, 30.0, 0.0, 0.0]])
    drawn = draw_boxes(grey(), box, torch.tensor([0]), CLASSES, dashed=torch.tensor([True]))
    assert len(changed(grey(), drawn)) > 5


def test_captions_stay_inside() -> None:
    boxes = torch.tensor([[2.0, 2.0, 30.0, 20.0, 0.5], [118.0, 98.0, 30.0, 20.0, 0.5]])
    names = ("ünïcode", "a name wider than the whole picture")
    drawn = draw_boxes(grey(), boxes, torch.tensor([0, 1]), names, scores=torch.tensor([0.5, 1.0]), captions=True)
    assert tuple(drawn[1, 1]) == class_colour(0)


def test_a_box_that_is_not_finite_is_named() -> None:
    boxes = torch.tensor([[5.0, 5, 2, 1, 0], [5, math.nan, 2, 1, 0]])
    with pytest.raises(NumericError, match="row 1"):
        draw_boxes(grey(), boxes, torch.tensor([0, 0]), CLASSES)


def test_class_colours_differ_also_for_colour_blind_eyes() -> None:
    """Deuteranopia and protanopia after Viénot, Brettel & Mollon (1999), linear RGB, compared in CIE Lab."""
    colours = np.array([class_colour(i) for i in range(10)]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    for sight in (np.eye(3), deutan, protan):
        seen = (linear @ sight.T).clip(0, 1)
        srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055).astype(np.float32)
        lab = cv2.cvtColor(srgb[None], cv2.COLOR_RGB2LAB)[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1e3 * np.eye(10)
        assert apart.min() > 10, np.unravel_index(apart.argmin(), apart.shape)


def test_class_colours_of_later_rounds_differ() -> None:
    assert len({class_colour(i) for i in range(30)}) == 30


def test_ink_is_readable() -> None:
    assert ink_on((255, 240, 77)) == (0, 0, 0)
    assert ink_on((20, 30, 90)) == (255, 255, 255)
