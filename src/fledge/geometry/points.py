"""Points and boxes: the smallest box around points, and which points lie in which boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from fledge.errors import UsageError
from fledge.geometry.boxes import canonicalize, smallest_rectangles

_CHUNK = 1 << 18  # points compared with boxes at once: 2 MB per intermediate


def min_area_boxes(polygons: Tensor | Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """The smallest enclosing box of each set of points, exactly; not differentiable.

    The smallest enclosing rectangle has a side along an edge of the convex hull (Freeman and Shapira, 1975): all hull
    edges are tried at once, in float64. The points need no order, may repeat or lie in a line, and a polygon may be
    concave or cross itself. For quadrilaterals alone ``boxes_from_quads`` is quicker and differentiable.

    Args:
        polygons: (N, P, 2) points in pixels, or N tensors (P_i, 2), at least one point each.
        mask: (N, P) bool, which of the points count; with a tensor only. None: all.

    Returns:
        (N, 5) canonical (le90) boxes, without gradient, in the input's dtype; float32 for half-precision and integer
        inputs. Points that coincide or lie in a line give sides of zero, up to rounding; a NaN or infinity among the
        points that count makes the box NaN. The memory grows with N P.

    Raises:
        UsageError: a shape other than these, or a set without points.
    """
    points, counted = _padded(polygons, mask)
    dtype = torch.promote_types(points.dtype, torch.float32)
    if len(points) == 0:
        return torch.zeros(0, 5, dtype=dtype, device=points.device)
    rows = torch.arange(len(points), device=points.device)
    origin = points[rows, counted.int().argmax(dim=1)].double()[:, None]
    local = torch.where(counted[..., None], points.double() - origin, 0.0)
    loops = convex_hulls(local)
    boxes = smallest_rectangles(loops, loops.roll(-1, dims=1) - loops)
    boxes = boxes + 0 * local.sum(dim=(1, 2))[:, None]  # NaN, whatever the hull made of it
    return canonicalize(torch.cat([boxes[:, :2] + origin[:, 0], boxes[:, 2:]], dim=1).to(dtype))


def convex_hulls(points: Tensor) -> Tensor:
    """Convex hulls of sets of points, as closed loops; points in a line with their neighbours are left out.

    A point on or inside the segment between its two neighbours (in the order of x) on the way along the upper hull is
    no corner of it. All such points of all sets go at once, until none is left: a few rounds.

    Args:
        points: (N, P, 2) float64, N and P > 0, in any order, may repeat.

    Returns:
        (N, L, 2) points around the hull from +x towards +y; the first and last of each half may repeat.
    """
    order = points[..., 1].argsort(dim=1, stable=True)
    order = order.gather(1, points[..., 0].gather(1, order).argsort(dim=1, stable=True))
    points = points.gather(1, order[..., None].expand(-1, -1, 2))
    distinct = (points[:, 1:] != points[:, :-1]).any(dim=-1)
    points = torch.cat([points, points[:, -1:]], dim=1)
    points = _compact(points, pad(distinct, (1, 1), value=True))
    return torch.cat([_chain(points, 1.0), _chain(points, -1.0).flip(1)], dim=1)


def _chain(points: Tensor, sense: float) -> Tensor:
    """One half of the hulls, (N, H, 2): with the lower y for sense 1, the other for -1.

    Args:
        points: (N, P, 2), distinct, sorted by x and then y; the last one is repeated as often as needed, P > 1.
        sense: 1 or -1.
    """
    count = -1
    while True:
        x, y = (points[:, 1:] - points[:, :-1]).unbind(-1)
        corner = sense * (x[:, :-1] * y[:, 1:] - y[:, :-1] * x[:, 1:]) > 0
        keep = pad(corner, (1, 1), value=True)
        if int(keep.sum()) == count:
            return points
        count = int(keep.sum())
        points = _compact(points, keep)


def _compact(points: Tensor, keep: Tensor) -> Tensor:
    """The points (N, P, 2) to keep, (N, P) bool, in order: (N, H, 2); the last one, always kept, fills up."""
    place = keep.cumsum(dim=1) - 1
    rows, columns = torch.nonzero(keep, as_tuple=True)
    kept = points[:, -1:].repeat(1, int(place[:, -1].max()) + 1, 1)
    kept[rows, place[rows, columns]] = points[rows, columns]
    return kept


def _padded(polygons: Tensor | Sequence[Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Points (N, P, 2), detached, and which of them count, (N, P)."""
    if not isinstance(polygons, Tensor):
        if mask is not None:
            raise UsageError("min_area_boxes: mask: give it with a tensor, not with a list")
        lengths = torch.tensor([len(points) for points in polygons])
        polygons = pad_sequence(list(polygons), batch_first=True) if polygons else torch.zeros(0, 1, 2)
        mask = torch.arange(polygons.shape[1]) < lengths[:, None]
    if polygons.dim() != 3 or polygons.shape[2] != 2:
        raise UsageError(f"min_area_boxes: polygons of shape {tuple(polygons.shape)}: give (N, P, 2)")
    counted = torch.ones_like(polygons[..., 0], dtype=torch.bool) if mask is None else mask.to(polygons.device)
    if counted.shape != polygons.shape[:2] or counted.dtype != torch.bool:
        raise UsageError(f"min_area_boxes: mask of shape {tuple(counted.shape)}, {counted.dtype}: give (N, P) bool")
    bare = torch.nonzero(~counted.any(dim=1))[:, 0]
    if len(bare):
        raise UsageError(f"min_area_boxes: set {int(bare[0])}: it has no points: leave it out")
    return polygons.detach(), counted


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points lie in which boxes; the border belongs to the box.

    Computed in float64, with an error of some 1e-15 of the coordinates: the border is exact for boxes of angle 0 whose
    sides are numbers the dtype holds, and elsewhere decided by rounding. A box with a side of zero or below holds
    nothing, nor does one with a NaN or infinity; a point with one is in no box.

    Args:
        points: (M, 2) pixels.
        boxes: (N, 5) pixels and radians, canonical or not, same frame.

    Returns:
        (M, N) bool; beyond it the memory is bounded.

    Raises:
        UsageError: a shape other than these.
    """
    if points.dim() != 2 or points.shape[1] != 2 or boxes.dim() != 2 or boxes.shape[1] != 5:
        shapes = f"{tuple(points.shape)} and {tuple(boxes.shape)}"
        raise UsageError(f"points_in_boxes: points and boxes of shapes {shapes}: give (M, 2) and (N, 5)")
    found = torch.empty(len(points), len(boxes), dtype=torch.bool, device=boxes.device)
    exact = boxes.detach().double()
    usable = exact.isfinite().all(dim=1) & (exact[:, 2:4] > 0).all(dim=1)
    exact = torch.where(usable[:, None], exact, torch.nan)  # nothing compares with NaN
    for left in range(0, len(boxes), _CHUNK):
        part = exact[left : left + _CHUNK]
        step = _CHUNK // len(part)
        for top in range(0, len(points), step):
            inside = _inside(points[top : top + step].detach().double(), part)
            found[top : top + step, left : left + _CHUNK] = inside
    return found


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether the points (M, 2) lie in the boxes (N, 5), (M, N), all float64."""
    cx, cy, w, h, angle = boxes.T
    cos, sin = angle.cos(), angle.sin()
    along = torch.addmm(-(cx * cos + cy * sin), points, torch.stack([cos, sin])).abs_()
    across = torch.addmm(cx * sin - cy * cos, points, torch.stack([-sin, cos])).abs_()
    return torch.le(along, w / 2).logical_and_(torch.le(across, h / 2))
