"""Bars on noise: the data of the synthetic study, as a DOTA folder.

    python benchmarks/studies/synthetic/bars.py --out runs/bars

Images of 64 px with one to five bars in any direction. Three classes differ in what is painted on a bar (nothing, a
stripe along it, bands across it); bars with a spot in the middle, and blotches, are not labelled. It is a task for tiny
networks on one core, and says nothing of remote sensing. Each image is drawn from its split and its number, so that the
splits are disjoint and a larger one begins with a smaller one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.files import write_bytes

CLASSES = ("plain", "stripe", "bands")
SPLITS = {"train": 400, "tune": 200, "test": 400}
SIDE = 64
_FINE = 4  # painted so many times as large, then shrunk: smooth edges

Floats = NDArray[np.float64]


def main() -> None:
    """Write the splits that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="dataset folder")
    write_bars(parser.parse_args().out)


def write_bars(root: Path, counts: dict[str, int] | None = None) -> None:
    """Write ``counts`` images and label files a split into a DOTA folder; by default as many as the study has."""
    for split, count in (counts or SPLITS).items():
        for part in ("images", "labelTxt"):
            (root / split / part).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image, text = draw(split, i)
            png = cv2.imencode(".png", image)[1].tobytes()
            write_bytes(root / split / "images" / f"{split}_{i:04d}.png", png)
            write_bytes(root / split / "labelTxt" / f"{split}_{i:04d}.txt", text.encode())


def draw(split: str, number: int) -> tuple[NDArray[np.uint8], str]:
    """One image (64, 64, 3) and its lines of labels."""
    rng = np.random.default_rng([crc32(split.encode()), number])
    canvas = np.full((SIDE * _FINE, SIDE * _FINE), rng.uniform(80, 120))
    for _ in range(rng.integers(2, 6)):
        _blotch(canvas, rng)
    lines: list[str] = []
    centres: list[Floats] = []
    for _ in range(rng.integers(2, 6)):
        centre = rng.uniform(8, SIDE - 8, 2)
        if all(np.hypot(*(centre - other)) > 15 for other in centres):
            centres.append(centre)
            kind = int(rng.integers(len(CLASSES) + 1))
            quad = _bar(canvas, rng, centre, kind)
            if kind < len(CLASSES):
                lines.append(" ".join(f"{v:.2f}" for v in quad.ravel()) + f" {CLASSES[kind]} 0\n")
    small = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA) + rng.normal(0, 14, (SIDE, SIDE))
    grey = np.clip(small, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), "".join(lines)


def _bar(canvas: Floats, rng: np.random.Generator, centre: Floats, kind: int) -> Floats:
    """Paint a bar; its corners (4, 2)."""
    length, width = rng.uniform(14, 22), rng.uniform(6, 9)
    angle = rng.uniform(0, np.pi)
    light, dark = rng.uniform(150, 190), rng.uniform(40, 70)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])

    def part(u1: float, u2: float, v1: float, v2: float, value: float) -> Floats:
        """Fill what lies between two shares of the half length and two of the half width."""
        signs = np.array([[u1, v1], [u2, v1], [u2, v2], [u1, v2]]) * (length / 2, width / 2)
        quad: Floats = centre + signs @ np.stack([along, across])
        cv2.fillPoly(canvas, [np.round(quad * _FINE).astype(np.int32)], value)
        return quad

    corners = part(-1, 1, -1, 1, light)
    if kind == 1:
        part(-0.8, 0.8, -0.3, 0.3, dark)
    elif kind == 2:
        for place in (-0.6, 0.6):
            part(place - 0.15, place + 0.15, -1, 1, dark)
    elif kind == 3:
        part(-0.25, 0.25, -0.6, 0.6, dark)
    return corners


def _blotch(canvas: Floats, rng: np.random.Generator) -> None:
    """A round patch of another grey."""
    x, y = rng.integers(0, SIDE * _FINE, 2).tolist()
    axes = rng.integers(3 * _FINE, 9 * _FINE, 2).tolist()
    cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(60, 170)), -1)


if __name__ == "__main__":
    main()
