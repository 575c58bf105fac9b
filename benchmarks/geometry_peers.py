"""The libraries that ``benchmarks/geometry.py`` compares with: the same work, given in each one's own inputs.

A library that cannot be imported is left out. Its inputs are converted before the clock starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from fledge import geometry
from fledge.geometry.convert import to_detectron2, to_torchvision

Run = Callable[[], Any]
Shapes = Sequence[tuple[int, int]]
BINS, SCALE, RATIO = 7, 1 / 8, 2  # of RoIAlign
_BLOCK = 20  # rows compared at once to read aligned overlaps from a matrix's diagonal


class Peer(NamedTuple):
    """One implementation.

    Attributes:
        name: with its version.
        makers: by kind of work, a function from fledge's tensors to the call that is timed.
        most: the most pairs or boxes it is given, where more would take minutes.
    """

    name: str
    makers: dict[str, Callable[..., Run]]
    most: dict[str, int] = {}  # noqa: RUF012 - never written to


def fledge() -> Peer:
    """What is measured, through its public functions."""
    makers: dict[str, Callable[..., Run]] = {
        "matrix": lambda a, b: lambda: geometry.rotated_iou(a, b),
        "pairs": lambda a, b: lambda: geometry.rotated_iou_pairs(a, b),
        "aligned": lambda a, b: lambda: geometry.rotated_iou(a, b, aligned=True),
        "aligned with gradient": lambda a, b: with_gradient(
            lambda x, y: geometry.rotated_iou(x, y, aligned=True), a, b
        ),
        "nms": lambda boxes, scores, t: lambda: geometry.rotated_nms(boxes, scores, t),
        **_pooling(_align),
        **_deformable(geometry.deformable_sample),
        "quads": lambda a, b: lambda: geometry.quad_iou(a, b, aligned=True),
    }
    return Peer("fledge", makers)


def peers() -> list[Peer]:
    """Every other implementation that is installed, in the order of the columns."""
    found = [_shapely(), _torchvision(), _opencv(), _torch()]
    for package, make in (("mmcv", _mmcv), ("detectron2", _detectron2), ("oriented_det", _oriented_det)):
        try:
            module = importlib.import_module("mmcv.ops" if package == "mmcv" else package)
        except ImportError:
            continue
        found.append(make(module))
    return found


def with_gradient(function: Callable[..., Tensor], *inputs: Tensor) -> Run:
    """A call of ``function`` and its backward pass to all inputs."""
    leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]

    def run() -> None:
        result = function(*leaves)
        result.backward(torch.ones_like(result))  # type: ignore[no-untyped-call]
        for leaf in leaves:
            leaf.grad = None

    return run


def _deformable(function: Callable[[Tensor, Tensor, Tensor, Shapes], Tensor]) -> dict[str, Callable[..., Run]]:
    return {
        "deformable": lambda v, at, w, shapes: lambda: function(v, at, w, shapes),
        "deformable with gradient": lambda v, at, w, shapes: with_gradient(
            lambda *leaves: function(leaves[0], leaves[1], leaves[2], shapes), v, at, w
        ),
    }


def _pooling(function: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Callable[..., Run]]:
    return {
        "align": lambda features, boxes: lambda: function(features, boxes),
        "align with gradient": lambda features, boxes: with_gradient(lambda f: function(f, boxes), features),
    }


def _align(features: Tensor, boxes: Tensor) -> Tensor:
    return geometry.rotated_roi_align(features, [boxes], BINS, SCALE, RATIO)


def _shapely() -> Peer:
    def pairs(a: Tensor, b: Tensor) -> Run:
        first, second = _polygons(_exact_corners(a)), _polygons(_exact_corners(b))

        def run() -> Any:
            j, i = shapely.STRtree(first).query(second)
            return i, j, _shapely_iou(first[i], second[j])

        return run

    def aligned(a: Tensor, b: Tensor) -> Run:
        return quads(_exact_corners(a), _exact_corners(b))

    def quads(a: Tensor, b: Tensor) -> Run:
        first, second = _polygons(a), _polygons(b)
        return lambda: torch.from_numpy(_shapely_iou(first, second))

    def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Run:
        polygons, order = _polygons(_exact_corners(boxes)), scores.argsort(descending=True, stable=True).numpy()
        return lambda: _shapely_nms(polygons[order], order, threshold)

    makers: dict[str, Callable[..., Run]] = {"pairs": pairs, "aligned": aligned, "quads": quads, "nms": nms}
    return Peer(f"shapely {shapely.__version__}", makers)


def _exact_corners(boxes: Tensor) -> Tensor:
    return geometry.corners(boxes.double())


def _polygons(corners: Tensor) -> NDArray[Any]:
    return np.asarray(shapely.polygons(corners.double().numpy()))


def _shapely_iou(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    inter = shapely.area(shapely.intersection(first, second))
    return np.asarray(inter / (shapely.area(first) + shapely.area(second) - inter))


def _shapely_nms(ranked: NDArray[Any], order: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Overlaps of all candidate pairs at once, then the greedy choice over the list of each box."""
    i, j = shapely.STRtree(ranked).query(ranked)
    i, j = i[i < j], j[i < j]
    above = _shapely_iou(ranked[i], ranked[j]) > threshold
    i, j = i[above], j[above]
    worse = j[np.argsort(i, kind="stable")]
    ends = np.searchsorted(np.sort(i), np.arange(len(ranked) + 1))
    kept = np.ones(len(ranked), bool)
    for k in range(len(ranked)):
        if kept[k]:
            kept[worse[ends[k] : ends[k + 1]]] = False
    return order[kept]


def _torchvision() -> Peer:
    iou = torchvision.ops.box_iou
    makers: dict[str, Callable[..., Run]] = {
        **_pooling(_upright),
    }
    if "fmt" in iou.__code__.co_varnames:  # rotated since 0.25 or so

        def matrix(a: Tensor, b: Tensor) -> Run:
            first, second = to_torchvision(a), to_torchvision(b)
            return lambda: iou(first, second, fmt="cxcywhr")

        def aligned(a: Tensor, b: Tensor) -> Run:
            blocks = list(
                zip(torch.split(to_torchvision(a), _BLOCK), torch.split(to_torchvision(b), _BLOCK), strict=True)
            )
            return lambda: torch.cat([iou(x, y, fmt="cxcywhr").diagonal() for x, y in blocks])

        makers |= {"matrix": matrix, "aligned": aligned}
    return Peer(f"torchvision {torchvision.__version__.split('+')[0]}", makers)


def _blocks(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(a, _BLOCK), torch.split(b, _BLOCK), strict=True))


def _upright(features: Tensor, boxes: Tensor) -> Tensor:
    """RoIAlign at angle 0, the only one there is."""
    flat = geometry.hulls(boxes * boxes.new_tensor([1, 1, 1, 1, 0]))
    pooled: Tensor = torchvision.ops.roi_align(features, [flat], BINS, SCALE, RATIO, aligned=True)
    return pooled


def _opencv() -> Peer:
    def matrix(a: Tensor, b: Tensor) -> Run:
        first, second = _rects(a), _rects(b)
        return lambda: [[_opencv_iou(x, y) for y in second] for x in first]

    def aligned(a: Tensor, b: Tensor) -> Run:
        couples = list(zip(_rects(a), _rects(b), strict=True))
        return lambda: torch.tensor([_opencv_iou(x, y) for x, y in couples], dtype=torch.float64)

    def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Run:
        rects, values = _rects(boxes), scores.tolist()
        return lambda: cv2.dnn.NMSBoxesRotated(rects, values, 0.0, threshold)

    makers: dict[str, Callable[..., Run]] = {"matrix": matrix, "aligned": aligned, "nms": nms}
    return Peer(f"OpenCV {cv2.__version__}", makers, {"matrix": 5_000_000, "nms": 5000})


def _rects(boxes: Tensor) -> list[Any]:
    degrees = torch.rad2deg(boxes[:, 4].double()).tolist()
    return [((x, y), (w, h), d) for (x, y, w, h, _), d in zip(boxes.tolist(), degrees, strict=True)]


def _opencv_iou(a: Any, b: Any) -> float:
    kind, points = cv2.rotatedRectangleIntersection(a, b)
    if kind == cv2.INTERSECT_NONE or points is None:
        return 0.0
    inter = cv2.contourArea(cv2.convexHull(points))
    return float(inter / (a[1][0] * a[1][1] + b[1][0] * b[1][1] - inter))


def _torch() -> Peer:
    return Peer(f"grid_sample of torch {torch.__version__.split('+')[0]}", _deformable(by_grid_sample))


def by_grid_sample(values: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """Deformable attention as most models compute it on a CPU: one ``grid_sample`` a level, samples held."""
    batch, _, heads, channels = values.shape
    queries, sampled = locations.shape[1], []
    for level, plane in enumerate(torch.split(values, [h * w for h, w in shapes], dim=1)):
        image = plane.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shapes[level])
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled.append(F.grid_sample(image, grid, align_corners=False))
    share = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    total = (torch.cat(sampled, dim=-1) * share).sum(-1)
    return total.view(batch, heads * channels, queries).transpose(1, 2)


def _mmcv(ops: Any) -> Peer:
    def deformable(v: Tensor, at: Tensor, w: Tensor, shapes: Shapes) -> Tensor:
        sizes = torch.tensor(shapes)
        return ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(v, sizes, at, w)  # type: ignore[no-any-return]

    def align(features: Tensor, boxes: Tensor) -> Tensor:
        layer = ops.RoIAlignRotated((BINS, BINS), SCALE, RATIO, aligned=True, clockwise=True)
        return layer(features, _with_image(boxes))  # type: ignore[no-any-return]

    makers: dict[str, Callable[..., Run]] = {
        "matrix": lambda a, b: lambda: ops.box_iou_rotated(a, b),
        "aligned": lambda a, b: lambda: ops.box_iou_rotated(a, b, aligned=True),
        "nms": lambda boxes, scores, t: lambda: ops.nms_rotated(boxes, scores, t)[1],
        **_pooling(align),
        **_deformable(deformable),
    }
    return Peer(f"mmcv {version('mmcv')}", makers, {"matrix": 5_000_000})


def _detectron2(_: Any) -> Peer:
    layers = importlib.import_module("detectron2.layers")
    iou = importlib.import_module("detectron2.layers.rotated_boxes").pairwise_iou_rotated

    def matrix(a: Tensor, b: Tensor) -> Run:
        first, second = to_detectron2(a), to_detectron2(b)
        return lambda: iou(first, second)

    def aligned(a: Tensor, b: Tensor) -> Run:
        blocks = _blocks(to_detectron2(a), to_detectron2(b))
        return lambda: torch.cat([iou(x, y).diagonal() for x, y in blocks])

    def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Run:
        converted = to_detectron2(boxes)
        return lambda: layers.nms_rotated(converted, scores, threshold)

    def align(features: Tensor, boxes: Tensor) -> Tensor:
        layer = layers.ROIAlignRotated((BINS, BINS), SCALE, RATIO)
        return layer(features, _with_image(to_detectron2(boxes)))  # type: ignore[no-any-return]

    makers: dict[str, Callable[..., Run]] = {
        "matrix": matrix,
        "aligned": aligned,
        "nms": nms,
        **_pooling(align),
    }
    return Peer(f"detectron2 {version('detectron2')}", makers, {"matrix": 5_000_000})


def _with_image(boxes: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)


def _oriented_det(_: Any) -> Peer:
    ops = importlib.import_module("oriented_det.ops")
    makers: dict[str, Callable[..., Run]] = {
        "matrix": lambda a, b: lambda: ops.pairwise_rotated_iou(a, b),
        "nms": lambda boxes, scores, t: lambda: ops.rotated_nms(boxes, scores, t),
    }
    return Peer(f"oriented-det {version('oriented-det')}", makers, {"matrix": 400_000, "nms": 5000})
