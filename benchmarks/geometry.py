"""How fast and how exact rotated geometry is, against every other library that is installed.

    python -m benchmarks.geometry --out docs/results

On one thread, all libraries in turn round by round, after a warm-up: medians, ratios to fledge, and errors in float32
on eleven sets of difficult pairs against a float64 clipper. Prints the tables and writes them as Markdown and JSON, and
a plot into ``images`` beside the folder. ``--smoke`` runs everything at a tiny size.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks.geometry_errors import errors
from benchmarks.geometry_peers import Peer, fledge, peers
from benchmarks.geometry_report import errors_table, page, plot, speed_table
from torch import Tensor

from fledge.engine.progress import progress
from fledge.files import write_bytes, write_json
from fledge.geometry import AnchorGrid, corners

BUDGET = 5.0  # seconds after which an implementation gets no further round
LEVELS = ((128, 128), (64, 64), (32, 32), (16, 16))
STRIDES = (8, 16, 32, 64, 128)
NMS_THRESHOLD = 0.3


class Work(NamedTuple):
    """One row of the table.

    Attributes:
        title: what is computed, with its size.
        kind: which of a peer's functions does it.
        size: pairs or boxes, against the most that a slow peer is given.
        inputs: makes fledge's tensors.
    """

    title: str
    kind: str
    size: int
    inputs: Callable[[], tuple[Any, ...]]


def boxes(count: int, area: float, seed: int) -> Tensor:
    """Random boxes (count, 5) of 8 to 72 by 6 to 30 px in a square of ``area`` px."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([area, area, 64, 24, math.pi])
    return torch.rand(count, 5, generator=generator) * scale + torch.tensor([0, 0, 8, 6, -math.pi / 2])


def crowd(count: int, area: float, seed: int) -> tuple[Tensor, Tensor, float]:
    """Boxes for NMS, three of four jittered copies of another, their scores and the threshold."""
    generator = torch.Generator().manual_seed(seed)
    objects = boxes(-(-count // 4), area, seed)
    found = objects.repeat(4, 1)[:count]
    found[len(objects) :] += torch.randn(count - len(objects), 5, generator=generator) * torch.tensor(
        [3, 3, 2, 1, 0.05]
    )
    found[:, 2:4].clamp_(min=1)
    return found, torch.rand(count, generator=generator), NMS_THRESHOLD


def quads(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of labelled objects: corners of near boxes, each moved by some pixels; float64."""
    generator = torch.Generator().manual_seed(seed)
    first = boxes(count, 1024, seed).double()
    second = first + torch.randn(count, 5, generator=generator) * torch.tensor([4, 4, 2, 1, 0.1])
    moved = [corners(b) + torch.randn(count, 4, 2, generator=generator) for b in (first, second)]
    return moved[0], moved[1]


def anchors(side: int) -> Tensor:
    """One anchor a cell on five levels of a tile."""
    grid = AnchorGrid(STRIDES, octaves=1, ratios=(1.0,))
    return torch.cat(grid.grids([(-(-side // s), -(-side // s)) for s in STRIDES], "cpu"))


def regions(count: int, channels: int, side: int) -> tuple[Tensor, Tensor]:
    """A map of stride 8 in channels-last memory and boxes on it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, side // 8, side // 8, generator=generator)
    return features.contiguous(memory_format=torch.channels_last), boxes(count, side, 0)


def attention(shapes: tuple[tuple[int, int], ...], heads: int = 8, points: int = 4) -> tuple[Any, ...]:
    """An encoder's self-attention: every cell of every level asks near itself."""
    generator = torch.Generator().manual_seed(0)
    cells = sum(h * w for h, w in shapes)
    centres = [
        torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1) for h, w in shapes
    ]
    values = torch.randn(1, cells, heads, 32, generator=generator)
    offsets = 0.03 * torch.randn(1, cells, heads, len(shapes), points, 2, generator=generator)
    weights = torch.rand(1, cells, heads, len(shapes) * points, generator=generator).softmax(-1)
    locations = torch.cat(centres)[None, :, None, None, None] + offsets
    return values, locations, weights.view(1, cells, heads, len(shapes), points), shapes


def rows(smoke: bool) -> Iterator[Work]:
    """The work of the table; tiny where only the script is tried."""
    cut = 100 if smoke else 1

    def overlaps(title: str, first: Tensor, second: Tensor) -> Iterator[Work]:
        for kind, what in (("matrix", "IoU matrix"), ("pairs", "overlapping pairs")):
            yield Work(f"{what}, {title}", kind, len(first) * len(second), lambda: (first, second))

    def nms(n: int, area: float) -> Work:
        n = n // cut
        return Work(f"NMS {n:,} in {area:,.0f} px", "nms", n, lambda: crowd(n, area, 3))

    side = 128 if smoke else 1024
    grid = anchors(side)
    objects = boxes(200 // cut, side, 2)
    many, pairs = 10_000 // cut, 20_000 // cut
    yield from overlaps(f"{2000 // cut:,} × {len(objects)}", boxes(2000 // cut, side, 1), objects)
    yield from overlaps(f"{len(grid):,} anchors × {len(objects)}", grid, objects)
    yield from overlaps(f"{many:,} × {many:,}", boxes(many, 8192, 1), boxes(many, 8192, 2))
    yield Work(
        f"aligned IoU and gradient, {pairs:,}",
        "aligned with gradient",
        pairs,
        lambda: (crowd(pairs, 1024, 4)[0], crowd(pairs, 1024, 5)[0]),
    )
    yield Work(f"quad IoU, {pairs:,} aligned", "quads", pairs, lambda: quads(pairs, 6))
    yield nms(1000, 1024)
    yield nms(5000, 1024)
    yield nms(20_000, 8192)
    yield nms(20_000, 1024)
    count, channels = (4, 8) if smoke else (512, 256)
    name = f"RoIAlign {count} × {channels} × 7²"
    yield Work(name, "align", count, lambda: regions(count, channels, side))
    yield Work(f"{name} and gradient", "align with gradient", count, lambda: regions(count, channels, side))
    shapes = LEVELS[2:] if smoke else LEVELS
    cells = sum(h * w for h, w in shapes)
    name = f"deformable attention, {cells:,} queries"
    yield Work(name, "deformable", cells, lambda: attention(shapes))
    yield Work(f"{name} and gradient", "deformable with gradient", cells, lambda: attention(shapes))


def measure(work: Work, implementations: list[Peer], rounds: int) -> dict[str, Any]:
    """Milliseconds of every round by implementation; what a suppression kept stands beside them."""
    inputs = work.inputs()
    calls = {
        p.name: p.makers[work.kind](*inputs)
        for p in implementations
        if work.kind in p.makers and work.size <= p.most.get(work.kind, work.size)
    }
    kept: dict[str, int] = {}
    for name, call in calls.items():  # warms up, and compiles what is compiled on first use
        result = call()
        if work.kind == "nms":
            kept[name] = len(result)
        del result
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if sum(times[name]) < BUDGET:
                times[name].append(_seconds(call))
    milliseconds = {name: [1000 * t for t in found] for name, found in times.items()}
    medians = {name: statistics.median(found) for name, found in milliseconds.items()}
    return {"work": work.title, "kind": work.kind, "median_ms": medians, "rounds_ms": milliseconds, "kept": kept}


def _seconds(call: Callable[[], Any]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def machine() -> dict[str, str]:
    """What the figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":", 1)[1].strip() if models else platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numba", "numpy")},
    }


def main() -> None:
    """Measure all rows, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for geometry_speed.md and .json; the plot goes to ../images")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs in each set of the error table")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see whether the script runs")
    parser.add_argument("--only", default="", help="rows whose title contains this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    implementations = [fledge(), *peers()]
    todo = [work for work in rows(options.smoke) if options.only in work.title]
    result: dict[str, Any] = {"machine": machine(), "rows": [], "errors": {}}
    with progress("geometry", len(todo) + 1) as advance:
        for number, work in enumerate(todo):
            result["rows"].append(measure(work, implementations, 1 if options.smoke else options.rounds))
            advance(number + 1, work.title)
        result["errors"] = errors(implementations, 50 if options.smoke else options.pairs)
        advance(len(todo) + 1, "")
    result["pairs"] = 50 if options.smoke else options.pairs
    print(speed_table(result), errors_table(result), sep="\n\n")
    if options.out:
        write_bytes(options.out / "geometry_speed.md", page(result).encode())
        write_json(options.out / "geometry_speed.json", result)
        write_bytes(options.out.parent / "images" / "geometry_speed.svg", plot(result))


if __name__ == "__main__":
    main()
