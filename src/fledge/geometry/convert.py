"""Box conventions by name: every form of rotated box found in the wild, to and from fledge's own (le90).

Each pair is lossless: ``from_X(to_X(boxes))`` has the corners of ``boxes`` to the precision of the dtype. A square may
come back turned by quarter turns, which is the same set of points.

| name | angle | range | sides |
|---|---|---|---|
| ``oc`` (OpenCV >= 4.5.1) | radians, clockwise on screen, of the side w | (0, pi/2] | not ordered |
| ``le135`` | radians, clockwise on screen, of the side w | [-pi/4, 3 pi/4) | w >= h |
| ``torchvision`` (CXCYWHR) | degrees, counter-clockwise on screen, of the side w | (-90, 90] | written w >= h |
| ``detectron2`` (RotatedBoxes) | the same form as torchvision | | |
| ``ultralytics`` (xywhr, regularised) | radians, clockwise on screen, of the side w | [0, pi/2) | not ordered |
| ``quads`` (DOTA, eight numbers) | none | | corners x1 y1 … x4 y4 |

All tensors are (N, 5) in pixels but for ``quads``, which is (N, 8). The readers accept any angle and side order and
return le90 boxes in the input's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fledge.geometry.boxes import boxes_from_quads, canonicalize, corners, wrap_angle


def from_oc(boxes: Tensor) -> Tensor:
    """OpenCV boxes (N, 5), radians in (0, pi/2], sides not ordered, as le90."""
    return canonicalize(boxes)


def to_oc(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) in OpenCV's form: radians in (0, pi/2], w along the angle, sides not ordered."""
    negative, quarters = wrap_angle(-boxes[:, 4].double(), -math.pi / 2, math.pi / 2, boxes.dtype)
    return _turned(boxes, -negative, quarters)


def from_le135(boxes: Tensor) -> Tensor:
    """Long-edge boxes (N, 5), radians in [-pi/4, 3 pi/4), as le90."""
    return canonicalize(boxes)


def to_le135(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) with the angle in [-pi/4, 3 pi/4), radians, ``w >= h``."""
    angle, _ = wrap_angle(boxes[:, 4].double(), -math.pi / 4, math.pi, boxes.dtype)
    return torch.cat([boxes[:, :4], angle[:, None]], dim=1)


def from_torchvision(boxes: Tensor) -> Tensor:
    """Torchvision CXCYWHR boxes (N, 5), degrees counter-clockwise, as le90."""
    angle = torch.deg2rad(-boxes[:, 4:].double())
    exact = canonicalize(torch.cat([boxes[:, :4].double(), angle], dim=1))
    return canonicalize(exact.to(boxes.dtype))


def to_torchvision(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) as torchvision CXCYWHR: degrees counter-clockwise in (-90, 90], ``w >= h``."""
    angle = -torch.rad2deg(boxes[:, 4:].double())
    return torch.cat([boxes[:, :4], angle.to(boxes.dtype)], dim=1)


def from_detectron2(boxes: Tensor) -> Tensor:
    """Detectron2 RotatedBoxes (N, 5), degrees counter-clockwise (torchvision's form), as le90."""
    return from_torchvision(boxes)


def to_detectron2(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) as detectron2 RotatedBoxes: degrees counter-clockwise in (-90, 90], ``w >= h``."""
    return to_torchvision(boxes)


def from_ultralytics(boxes: Tensor) -> Tensor:
    """Ultralytics xywhr boxes (N, 5), radians clockwise on screen, as le90."""
    return canonicalize(boxes)


def to_ultralytics(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) as regularised Ultralytics xywhr: radians in [0, pi/2), sides not ordered."""
    angle, quarters = wrap_angle(boxes[:, 4].double(), 0.0, math.pi / 2, boxes.dtype)
    return _turned(boxes, angle, quarters)


def from_quads(quads: Tensor) -> Tensor:
    """Eight-number quadrilaterals (N, 8), points in any order, as the smallest enclosing le90 boxes (N, 5)."""
    return boxes_from_quads(quads.reshape(-1, 4, 2))


def to_quads(boxes: Tensor) -> Tensor:
    """Le90 boxes (N, 5) as eight numbers x1 y1 … x4 y4 (N, 8), clockwise on screen."""
    return corners(boxes).flatten(1)


def _turned(boxes: Tensor, angle: Tensor, quarters: Tensor) -> Tensor:
    """The boxes with a new angle that differs by whole quarter turns: an odd number exchanges the sides."""
    cx, cy, w, h, _ = boxes.unbind(-1)
    odd = quarters.remainder(2) == 1
    return torch.stack([cx, cy, torch.where(odd, h, w), torch.where(odd, w, h), angle], dim=-1)


Converter = Callable[[Tensor], Tensor]

CONVENTIONS: dict[str, tuple[Converter, Converter]] = {
    "oc": (from_oc, to_oc),
    "le135": (from_le135, to_le135),
    "torchvision": (from_torchvision, to_torchvision),
    "detectron2": (from_detectron2, to_detectron2),
    "ultralytics": (from_ultralytics, to_ultralytics),
    "quads": (from_quads, to_quads),
}
"""Name of a convention to its (reader, writer)."""
