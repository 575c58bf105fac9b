"""Small datasets for the tests of the data tools: indexes in memory, and DOTA folders with noise for images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import DetectionDataset, minimum_boxes

Quad = Sequence[Sequence[float]]


def rectangle(x: float, y: float, w: float, h: float, degrees: float = 0.0) -> list[list[float]]:
    """The corners of a box about (x, y), by hand: no code of the package."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return [
        [x + dx * cos - dy * sin, y + dx * sin + dy * cos]
        for dx, dy in ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
    ]


def indexed(sizes: Sequence[tuple[int, int]], quads: Sequence[Sequence[Quad]], **changes: Any) -> DetectionDataset:
    """An index without files: (height, width) and quads of each image; labels count up in two classes."""
    flat = np.array([q for image in quads for q in image], dtype=np.float64).reshape(-1, 4, 2)
    fields: dict[str, Any] = {
        "root": Path("nowhere"),
        "split": "train",
        "format": "dota",
        "classes": ("ship", "plane"),
        "paths": tuple(Path(f"i{k}.png") for k in range(len(sizes))),
        "ids": tuple(f"i{k}" for k in range(len(sizes))),
        "sizes": np.array(sizes, dtype=np.int32).reshape(-1, 2),
        "quads": flat.astype(np.float32),
        "boxes": minimum_boxes(flat),
        "labels": np.arange(len(flat)) % 2,
        "difficult": np.zeros(len(flat), dtype=np.bool_),
        "ignore": np.zeros(len(flat), dtype=np.bool_),
        "offsets": np.cumsum([0, *map(len, quads)]),
        "stamps": np.zeros((len(sizes), 2), dtype=np.int64),
    }
    return DetectionDataset(**(fields | changes))


def noise(height: int, width: int, seed: int = 0, bands: int = 3, dtype: type = np.uint8) -> NDArray[Any]:
    """Smooth random pixels (H, W, bands)."""
    coarse = np.random.default_rng(seed).random((max(2, height // 8), max(2, width // 8), bands))
    fine = np.stack([cv2.resize(coarse[..., k], (width, height)) for k in range(bands)], axis=-1)
    return np.asarray(fine * np.iinfo(dtype).max, dtype=dtype)


def line(quad: Quad, name: str, difficult: int = 0) -> str:
    return " ".join(f"{v:.2f}" for point in quad for v in point) + f" {name} {difficult}\n"


def dota_folder(root: Path, splits: Mapping[str, Mapping[str, tuple[NDArray[Any], str]]]) -> Path:
    """A DOTA folder: by split and stem, the image (bands in the order of the file) and the label text."""
    for split, scenes in splits.items():
        for folder in ("images", "labelTxt"):
            (root / split / folder).mkdir(parents=True)
        for stem, (image, text) in scenes.items():
            pixels = image[..., 0] if image.shape[2] == 1 else image[..., ::-1]
            assert cv2.imwrite(str(root / split / "images" / f"{stem}.png"), pixels)
            (root / split / "labelTxt" / f"{stem}.txt").write_text(text)
    return root


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(path: Path) -> NDArray[Any]:
    """The pixels of a file, read without any of the package's code; red first."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels[..., None] if pixels.ndim == 2 else pixels[..., ::-1]


def picture(path: Path, seed: int = 0, size: int = 24) -> None:
    """A small square image in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), noise(size, size, seed))
