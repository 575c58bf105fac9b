"""Average precision of some of the objects: by size, by aspect ratio."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fledge.evaluation.average_precision import DEFAULT, Metrics, summarize
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.matching import Scope, assign, find_overlaps
from fledge.evaluation.protocols import Protocol

Floats = NDArray[np.float64]

# COCO's areas in square pixels, both ends included.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, math.inf)}
# Long side over short side, the upper end left out.
ASPECTS = {"1 to 2": (0.0, 2.0), "2 to 4": (2.0, 4.0), "4 to 8": (4.0, 8.0), "8 and more": (8.0, math.inf)}


def breakdown(case: Case, protocol: Protocol = DEFAULT, by: Literal["size", "aspect"] = "size") -> dict[str, Metrics]:
    """Average precisions of the objects of each size or aspect ratio, by name.

    The objects outside a part count neither way, and neither does a detection outside it that finds nothing: COCO's
    rule. Sizes are areas of what the protocol compares: quadrilaterals, rectangles or hulls.

    Args:
        case: objects and detections.
        protocol: the rules.
        by: ``size`` for COCO's small, medium and large; ``aspect`` for the ratio of long to short side.
    """
    measure = _areas if by == "size" else _aspects
    truth, found = measure(case.objects, protocol), measure(case.found, protocol)
    overlaps = find_overlaps(case, protocol)
    parts = {}
    for name, (low, high) in (SIZES if by == "size" else ASPECTS).items():
        scope = Scope(*((x >= low) & ((x <= high) if by == "size" else (x < high)) for x in (truth, found)))
        parts[name] = summarize(case, protocol, assign(case, protocol, overlaps, scope), scope)
    return parts


def _areas(shapes: Objects | Found, protocol: Protocol) -> Floats:
    """Areas (N,) of what the protocol compares."""
    if protocol.iou == "box":
        return np.asarray(shapes.boxes[:, 2] * shapes.boxes[:, 3])
    if protocol.iou == "quad":
        from fledge.geometry.quad_kernels import outlines

        return np.asarray(outlines(np.ascontiguousarray(shapes.quads))[2])
    return np.asarray((_sides(shapes) + protocol.pixel).prod(axis=1))


def _aspects(shapes: Objects | Found, protocol: Protocol) -> Floats:
    """Long over short side (N,); the largest number there is where the short one is zero."""
    sides = _sides(shapes) + protocol.pixel if protocol.iou == "horizontal" else shapes.boxes[:, 2:4]
    short = sides.min(axis=1, initial=math.inf)
    ratio = np.full(len(sides), np.finfo(np.float64).max)
    np.divide(sides.max(axis=1, initial=0), short, out=ratio, where=short > 0)
    return ratio


def _sides(shapes: Objects | Found) -> Floats:
    """Width and height (N, 2) of the horizontal hulls."""
    return np.asarray(shapes.quads.max(axis=1) - shapes.quads.min(axis=1))
