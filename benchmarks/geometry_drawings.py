"""The drawings of docs/geometry.md.

    python -m benchmarks.geometry_drawings docs/images/geometry

Writes ``convention.svg``, ``slab.svg``, ``derivative.svg``, ``fixed_point.svg`` and ``sweep.svg``.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Arc, Polygon, Rectangle
from numpy.typing import NDArray

from fledge.files import write_bytes
from fledge.geometry import corners, hulls, rotated_iou

Points = NDArray[np.float64]
BLUE, ORANGE, GREEN, RED, INK, GREY = "#1f6fb4", "#e07b1a", "#2f9e5b", "#c23b4b", "#222222", "#9a9a9a"
STYLE: Any = {"svg.hashsalt": "fledge", "font.size": 11, "text.color": INK, "savefig.facecolor": "white"}
W, H = 3.0, 2.0  # half sides of B
A = (1.6, 1.1, 5.0, 2.6, math.radians(-62))  # box A in the frame of B


def main() -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    mpl.use("Agg")
    with mpl.rc_context(STYLE):
        for draw in (convention, slab, derivative, fixed_point, sweep):
            write_bytes(out / f"{draw.__name__}.svg", _svg(draw()))


def convention() -> Any:
    """Axes, angle, sides and the order of the corners."""
    figure, axes = plt.subplots(figsize=(7, 3.9), layout="constrained")
    _bare(axes, (-0.7, 13.6), (7.3, -0.7))
    for x, y, name in ((2.6, 0, "x"), (0, 2.6, "y")):
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4})
        axes.text(x + 0.25 * (x > 0), y + 0.35 * (y > 0), name, ha="center", va="center", style="italic")
    axes.text(0.2, -0.35, "pixel (0, 0), its outer corner", fontsize=9, color=GREY, va="center")
    angle = math.radians(25)
    points = _corners((6.9, 3.6, 6.4, 3.0, angle))
    axes.add_patch(Polygon(points, fill=True, facecolor="#dcebf7", edgecolor=BLUE, lw=2))
    centre = points.mean(axis=0)
    along, across = (points[1] - points[0]) / 2, (points[3] - points[0]) / 2
    axes.plot(*centre, "o", color=INK, ms=5)
    axes.text(centre[0] - 0.2, centre[1] + 0.3, "(cx, cy)", ha="right", va="center")
    axes.plot([centre[0], centre[0] + 3.6], [centre[1]] * 2, color=GREY, lw=1, ls="--")
    axes.plot(*zip(centre, centre + along, strict=True), color=INK, lw=1)
    axes.add_patch(Arc(tuple(centre), 3.6, 3.6, theta1=0, theta2=math.degrees(angle), color=ORANGE, lw=2))
    axes.text(centre[0] + 0.55, centre[1] - 0.45, "angle > 0", color=ORANGE, va="center")
    for k, sign in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
        axes.plot(*points[k], "o", color=BLUE, ms=7)
        place = points[k] + 0.32 * (sign[0] * along / np.hypot(*along) + sign[1] * across / np.hypot(*across))
        axes.text(place[0], place[1], str(k), ha="center", va="center", color=BLUE, weight="bold")
    _measure(axes, points[3], points[2], across / np.hypot(*across) * 0.55, "w")
    _measure(axes, points[2], points[1], along / np.hypot(*along) * 0.75, "h")
    axes.text(10.9, 0.5, "w ≥ h\n−90° ≤ angle < 90°", va="center", color=GREY, fontsize=10)
    return figure


def slab() -> Any:
    """The intersection, and what each edge of A adds to its area."""
    figure = plt.figure(figsize=(7, 3.9), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(2.1, 1, 1))
    points, inside = _corners(A), _intersection()
    whole = figure.add_subplot(grid[:, 0])
    _frame(whole)
    whole.add_patch(Polygon(inside, facecolor="#bfe3cc", edgecolor="none"))
    _outlines(whole, points)
    total = 0.0
    for k in range(4):
        small = figure.add_subplot(grid[k // 2, 1 + k % 2])
        _frame(small, names=False)
        small.add_patch(Polygon(points, fill=False, edgecolor=ORANGE, lw=1, alpha=0.5))
        x, y = _clamped(points[k], points[(k + 1) % 4])
        share = -float(np.trapezoid(y, x))
        total += share
        colour = GREEN if share >= 0 else RED
        adds = y * (x[-1] - x[0]) < 0
        for tone, where in ((GREEN, adds), (RED, ~adds)):
            small.fill_between(x, y, 0, where, True, color=tone, alpha=0.35, lw=0)
        small.plot(x, y, color=colour, lw=2)
        small.annotate("", points[(k + 1) % 4], points[k], arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 1.6})
        small.set_title(f"edge {k}: {_signed(share)}", fontsize=10, color=colour)
    whole.set_title(f"area of A ∩ B = {total:.2f}", fontsize=11)
    return figure


def derivative() -> Any:
    """What moving A gains and loses: strips along its edges inside B."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
    points, step = _corners(A), np.array([0.42, -0.12])
    for axes in (left, right):
        _frame(axes)
        axes.add_patch(Polygon(points, fill=False, edgecolor=ORANGE, lw=1.4))
    for k in range(4):
        a, b = _within(points[k], points[(k + 1) % 4])
        if a is None or b is None:
            continue
        left.plot(*zip(a, b, strict=True), color=INK, lw=3.5, solid_capstyle="butt")
        edge = points[(k + 1) % 4] - points[k]
        normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)  # outwards, y pointing down
        middle = (a + b) / 2
        left.annotate("", middle + 0.8 * normal, middle, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})
        left.text(*(middle - 0.45 * normal), f"ℓ{'₀₁₂₃'[k]}", ha="center", va="center", fontsize=11)
        colour = GREEN if normal @ step > 0 else RED
        right.add_patch(Polygon([a, b, b + step, a + step], facecolor=colour, alpha=0.55, lw=0))
    right.add_patch(Polygon(points + step, fill=False, edgecolor=ORANGE, lw=1.2, ls="--"))
    left.set_title("A's edges inside B: lengths and normals", fontsize=10)
    right.set_title("moved by (dx, dy): gained, lost", fontsize=10)
    for axes in (left, right):
        axes.text(-W + 0.25, -H + 0.4, "B", color=BLUE, weight="bold", va="center", fontsize=13)
    return figure


def fixed_point() -> Any:
    """A chain of boxes, and what each round keeps."""
    boxes = torch.tensor([[3.0 + 2.1 * k, 1.8 + 0.35 * (-1) ** k, 3.4, 1.7, 0.5 * (-1) ** k] for k in range(5)])
    boxes = torch.cat([boxes, torch.tensor([[15.4, 1.7, 3.4, 1.6, 0.1], [15.9, 2.1, 3.2, 1.5, 0.5]])])
    scores = (0.9, 0.8, 0.7, 0.6, 0.5, 0.85, 0.75)
    better = np.array(scores)[:, None] > np.array(scores)
    touch = (rotated_iou(boxes, boxes).numpy() > 0.05) & better
    rounds: list[NDArray[np.bool_]] = [np.ones(len(scores), bool)]
    while len(rounds) < 2 or (rounds[-1] != rounds[-2]).any():
        rounds.append(np.asarray(~(touch & rounds[-1][:, None]).any(axis=0)))
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    _bare(axes, (-2.2, 18), (4.8 + 1.05 * len(rounds), -0.4))
    for box, kept in zip(boxes.tolist(), rounds[-1], strict=True):
        colour = BLUE if kept else GREY
        axes.add_patch(Polygon(_corners(box), fill=kept, facecolor="#dcebf780", edgecolor=colour, lw=1.8))
    spots = [0.9 + 2.3 * k for k in range(5)] + [14.2, 16.6]
    for x, box, score in zip(spots, boxes.tolist(), scores, strict=True):
        axes.plot([box[0], x], [box[1], 3.75], color=GREY, lw=0.6, ls=":")
        axes.plot(box[0], box[1], ".", color=GREY)
        axes.text(x, 4.1, f"{score}", ha="center", va="center", weight="bold")
    for number, kept in enumerate(rounds):
        y = 5.1 + 1.05 * number
        text = "start" if number == 0 else f"round {number}"
        axes.text(-2.1, y, text, va="center", fontsize=10)
        for x, keep in zip(spots, kept, strict=True):
            axes.plot(x, y, "o", ms=11, color=BLUE if keep else "white", mec=BLUE if keep else GREY)
        for i, j in zip(*np.nonzero(touch), strict=True):
            if number and rounds[number - 1][i]:
                axes.annotate(
                    "",
                    (spots[j] - 0.1, y - 0.3),
                    (spots[i] + 0.15, y - 0.8),
                    arrowprops={"arrowstyle": "-|>", "color": RED, "lw": 0.9, "alpha": 0.8},
                )
    return figure


def sweep() -> Any:
    """Boxes in their hulls, and the hulls' extents in x, sorted by where they begin."""
    boxes = torch.tensor(
        [
            [2.4, 1.6, 3.2, 1.1, 0.5],
            [5.0, 3.7, 3.4, 1.2, -0.6],
            [7.2, 1.5, 3.8, 1.2, 0.35],
            [9.2, 4.3, 2.6, 1.1, -0.3],
            [12.2, 3.6, 3.4, 1.2, -0.5],
            [13.6, 1.4, 2.4, 1.0, 0.4],
        ]
    )
    extents = hulls(boxes).numpy()
    order = np.argsort(extents[:, 0])
    chosen = 2
    x1, _, x2, _ = extents[chosen]
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    _bare(axes, (-0.6, 15.4), (11.1, -0.2))
    axes.add_patch(Rectangle((x1, 0), x2 - x1, 10.8, color=BLUE, alpha=0.09, lw=0))
    for k, box in enumerate(boxes.tolist()):
        a, b, c, d = extents[k]
        colour = _sweep_colour(extents, chosen, k)
        axes.add_patch(Rectangle((a, b), c - a, d - b, fill=False, edgecolor=GREY, lw=0.9, ls="--"))
        axes.add_patch(Polygon(_corners(box), facecolor="white", edgecolor=colour, lw=2))
        axes.text(box[0], box[1], "abcdef"[k], ha="center", va="center")
    axes.text(-0.5, 5.95, "extents in x, sorted by where they begin", fontsize=10, color=INK)
    for row, k in enumerate(order):
        y = 6.7 + 0.72 * row
        colour = _sweep_colour(extents, chosen, int(k))
        axes.plot(extents[k, [0, 2]], [y, y], color=colour, lw=5, solid_capstyle="butt")
        axes.text(extents[k, 0] - 0.25, y, "abcdef"[k], ha="right", va="center")
    return figure


def _sweep_colour(extents: Points, chosen: int, k: int) -> str:
    """Blue for the box itself, red where the hulls meet, orange where only x does, grey elsewhere."""
    one, other = extents[chosen], extents[k]
    if k == chosen:
        return BLUE
    if other[0] >= one[2] or other[2] <= one[0]:
        return GREY
    return RED if other[1] < one[3] and other[3] > one[1] else ORANGE


def _corners(box: Any) -> Points:
    return np.asarray(corners(torch.tensor(box, dtype=torch.float64)).numpy())


def _bare(axes: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.axis("off")


def _frame(axes: Any, names: bool = True) -> None:
    """B as a slab about the origin, y down."""
    _bare(axes, (-W - 1.3, W + 1.9), (H + 2.2, -H - 0.9))
    axes.add_patch(Rectangle((-W, -H), 2 * W, 2 * H, facecolor="#dcebf7", edgecolor=BLUE, lw=1.6, alpha=0.9, zorder=0))
    axes.plot([-W - 1.1, W + 1.4], [0, 0], color=GREY, lw=0.8, zorder=1)
    if names:
        axes.text(W + 1.5, 0, "x", va="center", style="italic", color=GREY)


def _outlines(axes: Any, points: Points) -> None:
    axes.add_patch(Polygon(points, fill=False, edgecolor=ORANGE, lw=2))
    for k in range(4):
        middle = (points[k] + points[(k + 1) % 4]) / 2
        outwards = (middle - points.mean(axis=0)) / np.hypot(*(middle - points.mean(axis=0)))
        axes.text(*(middle + 0.4 * outwards), str(k), color=ORANGE, ha="center", va="center", weight="bold")
    axes.text(*points.mean(axis=0), "A", color=ORANGE, weight="bold", ha="center", va="center", fontsize=13)
    axes.text(-W + 0.25, -H + 0.4, "B", color=BLUE, weight="bold", va="center", fontsize=13)
    for x, text in ((-W, "−W"), (W, "W")):
        axes.text(x + (0.12 if x > 0 else -0.12), 0.3, text, ha="left" if x > 0 else "right", fontsize=9, color=BLUE)
    for y, text in ((-H, "−H"), (H, "H")):
        axes.text(-W - 0.12, y, text, ha="right", va="center", fontsize=9, color=BLUE)


def _clamped(a: Points, b: Points) -> tuple[Points, Points]:
    """The edge over the clamped range of x, its height clamped."""
    rise = (b[1] - a[1]) / (b[0] - a[0])
    ends = np.clip([a[0], b[0]], -W, W)
    bends = np.clip([a[0] + (height - a[1]) / rise for height in (-H, H)], *sorted(ends))
    x = np.sort([*ends, *bends])[:: 1 if b[0] > a[0] else -1]
    return x, np.clip(a[1] + (x - a[0]) * rise, -H, H)


def _within(a: Points, b: Points) -> tuple[Points | None, Points | None]:
    """The part of an edge inside B."""
    t = np.linspace(0, 1, 20001)[:, None]
    points = a + t * (b - a)
    inside = points[(np.abs(points) <= (W, H)).all(axis=1)]
    return (inside[0], inside[-1]) if len(inside) else (None, None)


def _intersection() -> Points:
    """The corners of A ∩ B, clockwise on screen: ends of the edges' parts inside the other box."""
    points, frame = _corners(A), _corners((0, 0, 2 * W, 2 * H, 0.0))
    found = [end for k in range(4) for end in _within(points[k], points[(k + 1) % 4]) if end is not None]
    cos, sin = math.cos(A[4]), math.sin(A[4])
    for x, y in frame:
        u, v = (x - A[0]) * cos + (y - A[1]) * sin, (y - A[1]) * cos - (x - A[0]) * sin
        if abs(u) <= A[2] / 2 and abs(v) <= A[3] / 2:
            found.append(np.array([x, y]))
    centre = np.mean(found, axis=0)
    return np.array(sorted(found, key=lambda p: math.atan2(p[1] - centre[1], p[0] - centre[0])))


def _measure(axes: Any, a: Points, b: Points, aside: Points, name: str) -> None:
    """A line with two arrow heads beside a side."""
    a, b = a + aside, b + aside
    axes.annotate("", b, a, arrowprops={"arrowstyle": "<|-|>", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0})
    axes.text(*((a + b) / 2 + 0.6 * aside), name, ha="center", va="center", style="italic")


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{abs(value):.2f}"


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
