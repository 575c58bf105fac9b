"""How long an evaluation takes, beside a per-class loop in plain Python and pycocotools.

    python benchmarks/evaluation.py --out docs/results/evaluation_speed.md

Makes a crowded case (by default 100,000 detections and 30,000 objects in 500 images, 15 classes of very unequal size,
ten IoU thresholds) and scores it on one thread, in one run: by fledge, by the loop that the DOTA devkit's description
suggests (its overlaps by clipping polygons in Python, or by shapely), and, horizontally, by pycocotools. The figures
have to agree to 1e-12 before any time is printed. Nothing is read from files; compiling is timed apart.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from fledge.evaluation.average_precision import score
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.coco import library_ap
from fledge.evaluation.protocols import PROTOCOLS, Protocol
from fledge.files import write_bytes
from fledge.geometry.boxes import corners

Floats = NDArray[np.float64]
Point = tuple[float, float]
CLASSES, SIDE = 15, 1024


def main() -> None:
    """Make the case, check that all agree, time them, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=30_000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=7, help="of what is fast")
    parser.add_argument("--out", type=Path, help="Markdown to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = make_case(options.detections, options.objects, options.images)
    dota, coco = PROTOCOLS["dota"], replace(PROTOCOLS["coco"], library="")
    small = make_case(100, 100, 2)
    compiling = seconds(lambda: score(small, dota), 1)[0] + seconds(lambda: score(small, coco), 1)[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours, fast = seconds(lambda: score(case, dota).ap, options.repeats)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rows = [("fledge, `dota`, quadrilaterals", ours, 1.0)]
    for name, loop in PLAIN.items():
        time_taken, ap = seconds(lambda loop=loop: loop(case, dota), 1)  # type: ignore[misc]
        np.testing.assert_allclose(ap, fast, rtol=0, atol=1e-9 if "shapely" in name else 1e-12)
        rows.append((name, time_taken, time_taken / ours))
    level, upright = seconds(lambda: score(case, coco).ap, options.repeats)
    time_taken, ap = seconds(lambda: library_ap(case, coco), 1)
    np.testing.assert_allclose(ap, upright, rtol=0, atol=1e-12)
    rows += [("fledge, `coco`, horizontal", level, 1.0), ("pycocotools, horizontal", time_taken, time_taken / level)]
    text = page(options, rows, compiling, memory)
    print(text)
    if options.out:
        write_bytes(options.out, text.encode())


def make_case(detections: int, objects: int, images: int, seed: int = 0) -> Case:
    """Rotated rectangles, crowded as in aerial images: half of the objects in a tenth of the images."""
    rng = np.random.default_rng(seed)
    image = rng.choice(images, objects, p=falling(images, 0.7))
    label = rng.choice(CLASSES, objects, p=falling(CLASSES, 1.2))
    boxes = np.stack(
        [
            *rng.uniform(0, SIDE, (2, objects)),
            rng.uniform(12, 60, objects),
            rng.uniform(8, 12, objects),
            rng.uniform(-np.pi / 2, np.pi / 2, objects),
        ],
        axis=1,
    )
    source = rng.integers(0, objects, detections)
    source = source[np.argsort(image[source], kind="stable")]  # COCOeval takes equal scores in the order of the images
    near = boxes[source] + rng.normal(0, 1, (detections, 5)) * np.array([2, 2, 3, 0.6, 0.05])
    far = rng.random(detections) < 0.2
    near[far, :2] = rng.uniform(0, SIDE, (int(far.sum()), 2))
    # Two digits, as in many result files: equal scores abound.
    found = Found(image[source], label[source], rng.random(detections).round(2), quads(near), near)
    flags = rng.random(objects) < 0.05, np.zeros(objects, dtype=np.bool_)
    names = tuple(f"P{i:04d}" for i in range(images))
    return Case(
        names, tuple(f"c{k}" for k in range(CLASSES)), Objects(image, label, quads(boxes), boxes, *flags), found
    )


def falling(n: int, power: float) -> Floats:
    """Probabilities of n things, the k-th falling as k to a power."""
    weights = np.arange(1, n + 1) ** -power
    return np.asarray(weights / weights.sum())


def quads(boxes: Floats) -> Floats:
    """Corners (N, 4, 2), kept to a tenth of a pixel as in label files."""
    return np.asarray(corners(torch.from_numpy(boxes)).numpy().round(1))


def seconds(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median processor time of some runs, which other work on the machine does not add to, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return statistics.median(times), result


# ---- the plain evaluator: a loop over classes, detections and thresholds


def devkit_ap(case: Case, protocol: Protocol) -> Floats:
    """Average precision (K, T) as the devkit is called: for one threshold after the other."""
    alone = [plain_ap(case, replace(protocol, thresholds=(t,)), clipped_iou) for t in protocol.thresholds]
    return np.concatenate(alone, axis=1)


def plain_ap(case: Case, protocol: Protocol, iou: Callable[[Any, Any], float]) -> Floats:
    """Average precision (K, T), by the devkit's rules; each pair whose hulls meet is intersected once."""
    prepare = shapely.polygons if iou is shapely_iou else lambda q: [[tuple(p) for p in quad] for quad in q.tolist()]
    truth, found = case.objects, case.found
    shapes, others = prepare(truth.quads), prepare(found.quads)
    boxes, hulls = hulls_of(truth.quads), hulls_of(found.quads)
    table = np.full((len(case.classes), len(protocol.thresholds)), np.nan)
    for k in range(len(case.classes)):
        by_image: dict[int, list[int]] = {}
        for g in np.flatnonzero(truth.label == k).tolist():
            by_image.setdefault(int(truth.image[g]), []).append(g)
        rows = np.flatnonzero(found.label == k)
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        matched = []
        for d in rows.tolist():
            best, most = -1, -np.inf
            left, top, right, bottom = hulls[d]
            for g in by_image.get(int(found.image[d]), []):
                a, b, c, e = boxes[g]
                if a < right and c > left and b < bottom and e > top:
                    value = iou(others[d], shapes[g])
                    if value > most:
                        best, most = g, value
            matched.append((best, most))
        count = int((~truth.difficult[truth.label == k]).sum())
        if count:
            table[k] = [plain_curve(matched, truth.difficult, t, count) for t in protocol.thresholds]
    return table


def plain_curve(matched: list[tuple[int, float]], difficult: NDArray[np.bool_], threshold: float, count: int) -> float:
    """11-point average precision of one class at one threshold."""
    true, false = np.zeros(len(matched)), np.zeros(len(matched))
    taken = set()
    for n, (g, value) in enumerate(matched):
        if value <= threshold:
            false[n] = 1
        elif not difficult[g]:
            if g in taken:
                false[n] = 1
            else:
                true[n] = 1
                taken.add(g)
    true, false = np.cumsum(true), np.cumsum(false)
    recall, precision = true / count, true / np.maximum(true + false, np.finfo(np.float64).eps)
    points = [precision[recall >= t] for t in np.arange(0.0, 1.1, 0.1)]
    return float(sum(p.max() / 11 for p in points if p.size))


def hulls_of(shapes: Floats) -> list[list[float]]:
    """Left, top, right and bottom of each shape."""
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1).tolist()  # type: ignore[no-any-return]


def shapely_iou(first: shapely.Polygon, second: shapely.Polygon) -> float:
    """By the library for planar geometry."""
    shared = first.intersection(second).area
    return float(shared / (first.area + second.area - shared))


def clipped_iou(first: list[Point], second: list[Point]) -> float:
    """By clipping one convex polygon with the sides of another, clockwise on screen."""
    part = first
    for (ax, ay), (bx, by) in pairwise([*second, second[0]]):
        sides = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in part]
        kept: list[Point] = []
        for i, (p, s) in enumerate(zip(part, sides, strict=True)):
            q, r = part[i - 1], sides[i - 1]
            if s * r < 0:
                kept.append((q[0] + (p[0] - q[0]) * r / (r - s), q[1] + (p[1] - q[1]) * r / (r - s)))
            if s >= 0:
                kept.append(p)
        part = kept
    shared = area(part)
    return shared / (area(first) + area(second) - shared)


def area(polygon: list[Point]) -> float:
    """Of a polygon that runs clockwise on screen; 0 without points."""
    if not polygon:
        return 0.0
    x, y = polygon[0]
    return sum((a - x) * (d - y) - (b - y) * (c - x) for (a, b), (c, d) in pairwise(polygon)) / 2


PLAIN: dict[str, Callable[[Case, Protocol], Floats]] = {
    "plain Python, one threshold after the other": devkit_ap,
    "plain Python, each pair intersected once": lambda case, protocol: plain_ap(case, protocol, clipped_iou),
    "plain Python and shapely, each pair once": lambda case, protocol: plain_ap(case, protocol, shapely_iou),
}


def page(options: argparse.Namespace, rows: list[tuple[str, float, float]], compiling: float, memory: int) -> str:
    """The results as Markdown."""
    table = "\n".join(f"| {name} | {taken:.3f} | {ratio:.0f} |" for name, taken, ratio in rows)
    machine = (
        f"One thread of a {platform.machine()} machine, Python {platform.python_version()}, NumPy {np.__version__}"
    )
    arguments = f"--detections {options.detections} --objects {options.objects} --images {options.images}"
    return f"""# Evaluation speed

```sh
python benchmarks/evaluation.py {arguments}
```

{options.detections:,} detections, {options.objects:,} objects, {options.images} images, {CLASSES} classes of very
unequal size, ten IoU thresholds from 0.5 to 0.95. Everything is in memory: reading files is not counted. All evaluators
agree to 1e-12 (shapely to 1e-9), or the benchmark stops. The plain loop goes through classes and detections in Python,
for one threshold after the other as the DOTA devkit is called, or for all at once, which the ratio in
[evaluation](../evaluation.md#speed) refers to.

{machine}; processor time, medians of {options.repeats} runs for fledge, one run for the others. The load of the machine
at the end was {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.

| Evaluator | CPU s | times fledge's |
|---|---|---|
{table}

fledge's loops are compiled at their first use and kept on the disk: the first calls took {compiling:.1f} CPU s together
in this run. Scoring raised the peak of memory by {memory / 1024:.0f} MB.
"""


if __name__ == "__main__":
    main()
