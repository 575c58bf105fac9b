from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fledge.geometry import CONVENTIONS, canonicalize, corners
from fledge.geometry.convert import (
    from_detectron2,
    from_le135,
    from_oc,
    from_quads,
    from_torchvision,
    from_ultralytics,
    to_detectron2,
    to_le135,
    to_oc,
    to_quads,
    to_torchvision,
    to_ultralytics,
)

from .test_boxes import same_points

PI = math.pi
RANGES = {
    "oc": lambda a: (a > 0) & (a <= PI / 2),
    "le135": lambda a: (a >= -PI / 4) & (a < 3 * PI / 4),
    "torchvision": lambda a: (a > -90) & (a <= 90),
    "detectron2": lambda a: (a > -90) & (a <= 90),
    "ultralytics": lambda a: (a >= 0) & (a < PI / 2),
}


def border_boxes(dtype: torch.dtype) -> Tensor:
    """Ordinary, square and degenerate le90 boxes with angles at, just above and just below every multiple of pi/4."""
    border = torch.tensor([k * PI / 4 for k in range(-2, 3)], dtype=dtype)
    infinity = torch.tensor(math.inf, dtype=dtype)
    angle = torch.cat(
        [border, border.nextafter(infinity), border.nextafter(-infinity), torch.linspace(-1.5, 1.5, 31).to(dtype)]
    )
    sides = torch.tensor([[40, 10], [10, 10], [40, 0], [0, 0], [1e-3, 1e-3], [2000, 0.5]], dtype=dtype)
    rows = [[3.0, -4.0, w, h, a] for w, h in sides.tolist() for a in angle.tolist()]
    return canonicalize(torch.tensor(rows, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_round_trips(name: str, dtype: torch.dtype) -> None:
    read, write = CONVENTIONS[name]
    boxes = border_boxes(dtype)
    written = write(boxes)
    assert written.dtype == dtype
    back = read(written)
    assert same_points(back, boxes) < (5e-4 if dtype == torch.float32 else 1e-11)
    assert torch.equal(canonicalize(back), back)
    if name in RANGES:
        assert RANGES[name](written[:, 4]).all()
    if name in ("le135", "torchvision", "detectron2"):
        assert (written[:, 2] >= written[:, 3]).all()


@pytest.mark.parametrize("name", CONVENTIONS)
def test_empty(name: str) -> None:
    read, write = CONVENTIONS[name]
    assert read(write(torch.zeros(0, 5))).shape == (0, 5)


def box(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_known_oc_le135_le90_facts() -> None:
    """The relations between mmrotate's three angle versions, by hand."""
    upright = box(0, 0, 10, 40, PI / 2)  # OpenCV's answer for a wide horizontal rectangle
    torch.testing.assert_close(from_oc(upright), box(0, 0, 40, 10, 0))
    torch.testing.assert_close(to_oc(box(0, 0, 40, 10, 0)), upright)
    torch.testing.assert_close(from_oc(box(0, 0, 40, 10, PI / 2)), box(0, 0, 40, 10, -PI / 2))
    torch.testing.assert_close(to_oc(box(0, 0, 40, 10, -PI / 2)), box(0, 0, 40, 10, PI / 2))
    torch.testing.assert_close(from_oc(box(0, 0, 10, 40, 0.3)), box(0, 0, 40, 10, 0.3 - PI / 2))
    torch.testing.assert_close(to_oc(box(0, 0, 40, 10, -0.3)), box(0, 0, 10, 40, PI / 2 - 0.3))
    torch.testing.assert_close(to_le135(box(0, 0, 40, 10, -PI / 4)), box(0, 0, 40, 10, -PI / 4))
    torch.testing.assert_close(to_le135(box(0, 0, 40, 10, -PI / 3)), box(0, 0, 40, 10, 2 * PI / 3))
    torch.testing.assert_close(from_le135(box(0, 0, 40, 10, 2 * PI / 3)), box(0, 0, 40, 10, -PI / 3))


def test_degrees_are_counter_clockwise() -> None:
    """Torchvision's own conversion puts the corner of a box at +90 degrees above, not below, its centre."""
    torch.testing.assert_close(from_torchvision(box(5, 5, 4, 2, 30)), box(5, 5, 4, 2, -PI / 6))
    torch.testing.assert_close(from_torchvision(box(5, 5, 2, 4, 30)), box(5, 5, 4, 2, PI / 3))
    torch.testing.assert_close(to_torchvision(box(5, 5, 4, 2, -PI / 2)), box(5, 5, 4, 2, 90))
    torch.testing.assert_close(from_detectron2(box(0, 0, 4, 2, 1612)), box(0, 0, 4, 2, math.radians(8)))
    torch.testing.assert_close(to_detectron2(box(0, 0, 4, 2, 0.5)), box(0, 0, 4, 2, -math.degrees(0.5)))


def test_torchvision_agrees() -> None:
    ops = pytest.importorskip("torchvision.ops")
    boxes = border_boxes(torch.float64)
    theirs = ops.box_convert(to_torchvision(boxes), "cxcywhr", "xyxyxyxy").view(-1, 4, 2)
    gap = (theirs[:, :, None] - corners(boxes)[:, None]).norm(dim=-1).amin(dim=1)
    assert gap.max() < 1e-3


def test_ultralytics_by_hand() -> None:
    torch.testing.assert_close(to_ultralytics(box(0, 0, 40, 10, 0.3)), box(0, 0, 40, 10, 0.3))
    torch.testing.assert_close(to_ultralytics(box(0, 0, 40, 10, -0.3)), box(0, 0, 10, 40, PI / 2 - 0.3))
    torch.testing.assert_close(to_ultralytics(box(0, 0, 40, 10, -PI / 2)), box(0, 0, 10, 40, 0))
    torch.testing.assert_close(from_ultralytics(box(0, 0, 40, 10, 2.0)), box(0, 0, 40, 10, 2.0 - PI))


def test_quads_by_hand() -> None:
    torch.testing.assert_close(to_quads(box(5, 5, 4, 2, 0)), torch.tensor([[3, 4, 7, 4, 7, 6, 3, 6]]).double())
    torch.testing.assert_close(
        from_quads(torch.tensor([[3.0, 4, 7, 4, 7, 6, 3, 6]])), torch.tensor([[5.0, 5, 4, 2, 0]])
    )
