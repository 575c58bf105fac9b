"""Exact overlap of quadrilaterals of any shape, as DOTA labels them and as its protocol compares them.

Write the points of a polygon as signed strips below its edges: an edge that forms an upper border counts +1, one that
forms a lower border -1. For two polygons the area of the intersection is then the sum, over all pairs of edges, of the
product of the signs times the integral of ``min(y1, y2)`` over the common range of x. Since the signs of a closed
polygon add up to zero at every x, only the differences remain: minus half the integral of ``|y1 - y2|``. No vertices
are sorted, nothing is compared with a tolerance, and convex, concave, coincident or touching shapes are one case.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fledge.errors import UsageError
from fledge.geometry.iou import Mode, result_dtype
from fledge.geometry.pairs import candidate_pairs, upper_bound

_PAIR_CHUNK = 1 << 13  # pairs intersected at once: 1 to 2.4 MB per intermediate
_STEEP = 1e-18  # run over rise below which an edge is vertical in float64
_FLAT = 1e-12  # area over squared extent below which rounding noise outweighs an area
_TINY = 1e-300


class _Outlines(NamedTuple):
    """Quads ready to be intersected.

    Attributes:
        origins: (N, 2) first points; the edges are relative to them.
        edges: (N, E, 5) left x, right x, y at the left, slope and sign; E is 4, or 6 when a quad crosses itself.
        areas: (N,), 0 for flat quads.
        hulls: (N, 4) x1, y1, x2, y2.
    """

    origins: Tensor
    edges: Tensor
    areas: Tensor
    hulls: Tensor


def quad_iou(quads1: Tensor, quads2: Tensor, aligned: bool = False, mode: Mode = "iou") -> Tensor:
    """Intersection over union of quadrilaterals, exact up to rounding; not differentiable.

    A quad may be convex or concave, run either way round and start anywhere. One that crosses itself (bow-tie) covers
    both its lobes; even-odd and nonzero filling agree on that, since no point of a quad is surrounded twice. A quad
    whose area is at most 1e-12 of its squared extent is flat: it overlaps nothing (0, not NaN). A NaN or infinity in a
    quad makes all its overlaps NaN. Computed in float64 from differences, so that 1e5 px from the origin cost nothing;
    the rounding error of an area is some 1e-15 of the squared extent. On simple quads this is what polyiou of the DOTA
    devkit computes; on bow-ties that one subtracts one lobe from the other.

    Args:
        quads1: (N, 4, 2) points in pixels, in order around the quad.
        quads2: (M, 4, 2), or (N, 4, 2) when aligned; same frame.
        aligned: compare row with row instead of all pairs.
        mode: "iou", or "iof" for the intersection over the area of ``quads1``.

    Returns:
        (N, M), or (N,) when aligned, without gradient, in the inputs' dtype; float32 for half-precision and integer
        inputs. Beyond the result itself the memory is bounded by the number of pairs whose hulls overlap.

    Raises:
        UsageError: a shape other than these.
    """
    dtype = result_dtype(quads1, quads2)
    if aligned:
        return _aligned(_outlines(quads1), _outlines(quads2), mode).to(dtype)
    i, j, values = quad_iou_pairs(quads1, quads2, mode=mode)
    rows, columns = len(quads1), len(quads2)
    dense = torch.zeros(rows * columns, dtype=dtype, device=quads1.device)
    return dense.scatter_(0, i * columns + j, values).view(rows, columns)


def quad_iou_pairs(
    quads1: Tensor, quads2: Tensor, min_iou: float = 0.0, mode: Mode = "iou"
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of quadrilaterals whose overlap exceeds ``min_iou``, by the rules of ``quad_iou``.

    Args:
        quads1: (N, 4, 2) points in pixels, in order around the quad.
        quads2: (M, 4, 2), same frame.
        min_iou: pairs at or below it are left out; at least 0. Pairs with a quad that is not finite are reported, as
            NaN.
        mode: "iou", or "iof" for the intersection over the area of ``quads1``.

    Returns:
        i (P,) int64 rows of ``quads1``, j (P,) int64 rows of ``quads2``, and the overlaps (P,) in the inputs' dtype
        (float32 for half-precision and integer inputs).

    Raises:
        UsageError: a shape other than these.
    """
    first, second = _outlines(quads1), _outlines(quads2)
    none = torch.zeros(0, dtype=torch.int64, device=quads1.device)
    found = [(none, none, first.areas[:0])]
    for i, j in candidate_pairs(first.hulls, second.hulls):
        if min_iou > 0:
            most = upper_bound(first.hulls[i], second.hulls[j], first.areas[i], second.areas[j], mode == "iof")
            i, j = i[~(most <= min_iou)], j[~(most <= min_iou)]
        values = _overlaps(first, second, i, j, mode)
        keep = ~(values <= min_iou)
        found.append((i[keep], j[keep], values[keep]))
    i, j, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return i, j, values.to(result_dtype(quads1, quads2))


def _aligned(first: _Outlines, second: _Outlines, mode: Mode) -> Tensor:
    """Overlaps (N,) float64 row with row; only where the hulls are not provably disjoint is there something to do."""
    if len(first.areas) != len(second.areas):
        raise UsageError(f"quad_iou: {len(first.areas)} and {len(second.areas)} quads: aligned needs as many of both")
    apart = (first.hulls[:, :2] >= second.hulls[:, 2:]) | (first.hulls[:, 2:] <= second.hulls[:, :2])
    i = torch.nonzero(~apart.any(dim=1))[:, 0]  # negated, so that a NaN stays
    return torch.zeros_like(first.areas).scatter_(0, i, _overlaps(first, second, i, i, mode))


def _overlaps(first: _Outlines, second: _Outlines, i: Tensor, j: Tensor, mode: Mode) -> Tensor:
    """Overlaps (P,) float64 of the quads i with the quads j, int64 (P,), in chunks; 0 / 0 is 0."""
    inter = first.areas.new_empty(len(i))
    for start in range(0, len(i), _PAIR_CHUNK):
        part = slice(start, start + _PAIR_CHUNK)
        inter[part] = _intersection_areas(first, second, i[part], j[part])
    area1, area2 = first.areas[i], second.areas[j]
    inter = torch.minimum(inter.clamp(min=0), torch.minimum(area1, area2))
    whole = area1 + area2 - inter if mode == "iou" else area1
    return inter.div_(torch.where(whole == 0, 1.0, whole))


def _intersection_areas(first: _Outlines, second: _Outlines, i: Tensor, j: Tensor) -> Tensor:
    """Areas (P,) of the intersections, up to rounding of either sign; the hulls of a pair have to meet."""
    # Pairs come last in memory: the inner loops are then long.
    left1, right1, y1, slope1, sign1 = first.edges[i].permute(2, 1, 0).contiguous()[:, :, None].unbind()  # (E1, 1, P)
    left2, right2, y2, slope2, sign2 = second.edges[j].permute(2, 1, 0).contiguous()[:, None].unbind()  # (1, E2, P)
    dx, dy = (second.origins[j] - first.origins[i]).T
    left2, right2, y2 = left2 + dx, right2 + dx, y2 + dy
    left = torch.maximum(left1, left2)
    width = (torch.minimum(right1, right2) - left).clamp_(min=0)
    begin = (left - left1).mul_(slope1).add_(y1).sub_((left - left2).mul_(slope2).add_(y2))
    end = (slope1 - slope2).mul_(width).add_(begin)
    crossing = (begin * end).clamp_(max=0)  # below zero where the two edges cross
    total = begin.abs_().add_(end.abs_())
    distance = total.mul(0.5).add_(crossing.div_(total.add_(_TINY)))  # mean of |y1 - y2| over the width
    return distance.mul_(width).mul_(sign1).mul_(sign2).sum(dim=(0, 1)) * -0.5


def _outlines(quads: Tensor) -> _Outlines:
    """Quads (N, 4, 2) as signed edges, float64 and detached."""
    if quads.dim() != 3 or quads.shape[1:] != (4, 2):
        raise UsageError(f"quad_iou: quads of shape {tuple(quads.shape)}: give (N, 4, 2), four points each")
    points = quads.detach().double()
    points = points + 0 * points.sum(dim=(1, 2), keepdim=True)  # so that no part of a NaN quad is finite
    local = points - points[:, :1]
    start, end, sign = _border(local)
    areas = (sign * _cross(start, end)).sum(dim=1) / 2
    extent = (local.amax(dim=1) - local.amin(dim=1)).amax(dim=1)
    areas = torch.where(areas <= _FLAT * extent.square(), 0.0, areas)
    hulls = torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
    return _Outlines(points[:, 0], _strips(start, end, sign), areas, hulls)


def _border(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Directed edges around each quad (N, 4, 2) and the sense of the loop they belong to.

    Returns:
        Starts (N, E, 2) and ends (N, E, 2) of the edges, and +1 or -1 (N, E) for a loop that runs from +x towards +y or
        against it; 0 for edges that only fill up. E is 6 when a quad crosses itself, and then has two loops.
    """
    following = points.roll(-1, dims=1)
    turns = _cross(following - points, points.roll(-2, dims=1) - following)  # at the points 1, 2, 3, 0
    sense = torch.where(turns[:, 0] + turns[:, 2] < 0, -1.0, 1.0).to(points.dtype)
    start, end, sign = points, following, sense[:, None].expand(-1, 4)
    negative = turns < 0
    crossed = (negative[:, 0] != negative[:, 2]) & (negative[:, 1] != negative[:, 3])
    rows = torch.nonzero(crossed)[:, 0]
    if len(rows) == 0:
        return start, end, sign
    lobes = _lobes(points[rows], turns[rows])
    fill = (start[:, :2] * 0, end[:, :2] * 0, sign[:, :2] * 0)
    return (
        torch.cat([start, fill[0]], dim=1).index_copy(0, rows, lobes[0]),
        torch.cat([end, fill[1]], dim=1).index_copy(0, rows, lobes[1]),
        torch.cat([sign, fill[2]], dim=1).index_copy(0, rows, lobes[2]),
    )


def _lobes(points: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two triangles of quads (R, 4, 2) that cross themselves, as ``_border`` gives edges (E = 6)."""
    # Start at the next point where needed, so that the edges 0-1 and 2-3 are the ones that cross.
    shifted = (turns[:, 0] < 0) == (turns[:, 3] < 0)
    turns = torch.where(shifted[:, None], turns.roll(-1, dims=1), turns)
    a, b, c, d = torch.where(shifted[:, None, None], points.roll(-1, dims=1), points).unbind(1)
    side_c, side_d = turns[:, 0], turns[:, 3]  # twice the areas of a b c and a b d: of different signs
    crossing = c + (d - c) * (side_c / (side_c - side_d))[:, None]
    loops = torch.stack([crossing, b, c, crossing, d, a], dim=1)
    ends = torch.stack([b, c, crossing, d, a, crossing], dim=1)
    one = torch.where(side_c < 0, -1.0, 1.0).to(points.dtype)
    return loops, ends, torch.stack([one, one, one, -one, -one, -one], dim=1)


def _strips(start: Tensor, end: Tensor, sign: Tensor) -> Tensor:
    """Edges (N, E, 5) as the strips below them: left x, right x, y at the left, slope, and +1, 0 or -1."""
    run, rise = (end - start).unbind(-1)
    forwards = run > 0
    left = torch.where(forwards[..., None], start, end)
    right = torch.where(forwards, end[..., 0], start[..., 0])
    steep = run.abs() <= _STEEP * rise.abs()
    slope = torch.where(steep, 0.0, rise / torch.where(steep, 1.0, run))
    return torch.stack([left[..., 0], right, left[..., 1], slope, -sign * run.sign()], dim=-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross products (...,) of vectors (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
