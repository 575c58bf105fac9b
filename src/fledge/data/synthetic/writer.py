"""Synthetic scenes as a DOTA-format dataset on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from fledge.data.synthetic.objects import CLASSES
from fledge.data.synthetic.scene import Scene, render_scene
from fledge.errors import ResourceError

GSD = 0.3


def write_dataset(
    root: str | Path,
    split: str,
    count: int,
    size: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write ``count`` square tiles of ``size`` pixels as PNG images and DOTA labels, and return ``root/split``.

    Tile i is rendered from (seed, split, i), so that splits are disjoint. An image and its label are each written under
    a temporary name and then renamed, the label last: tiles whose label exists are complete and left as they are.

    Args:
        progress: called with the number of tiles that are complete after each tile.

    Raises:
        UsageError: a negative seed or a size below 64 pixels.
        ResourceError: the folder cannot be written.
    """
    folder = Path(root) / split
    for i in range(count):
        stem = f"{split}_{i:05d}"
        image, label = folder / "images" / f"{stem}.png", folder / "labelTxt" / f"{stem}.txt"
        if not (image.exists() and label.exists()):
            scene = render_scene(tile_seed(seed, split, i), size, size)
            _replace(image, _png(scene))
            _replace(label, dota_lines(scene).encode())
        if progress is not None:
            progress(i + 1)
    return folder


def tile_seed(seed: int, split: str, index: int) -> int:
    """A 64-bit seed that belongs to one tile of one split."""
    words = np.random.SeedSequence([seed, crc32(split.encode()), index]).generate_state(2, np.uint32)
    return int(words[0]) << 32 | int(words[1])


def dota_lines(scene: Scene) -> str:
    """A DOTA label file: two header lines, then ``x1 y1 … x4 y4 class difficult`` for each object."""
    lines = ["imagesource:fledge-synthetic", f"gsd:{GSD}"]
    for quad, label, hard in zip(scene.quads, scene.labels.tolist(), scene.difficult.tolist(), strict=True):
        lines.append(" ".join(f"{v:.2f}" for v in quad.ravel().tolist()) + f" {CLASSES[label]} {int(hard)}")
    return "\n".join(lines) + "\n"


def _png(scene: Scene) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ResourceError("cannot encode a PNG: OpenCV refused a rendered tile: check the OpenCV installation")
    return data.tobytes()


def _replace(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that ``path`` never holds half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ResourceError(
            f"cannot write: {path}: {error.strerror or error}: free space or choose another folder"
        ) from error
