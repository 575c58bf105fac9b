"""Megapixels per second of a scene, end to end, and what is not the model: fledge against a plain loop and SAHI.

    python benchmarks/scene.py --side 6000 --out runs/scene-speed

One rendered town, repeated into a tiled GeoTIFF, and one detector with random weights (speed does not depend on them).
Rows: fledge with read-ahead; a plain loop, as one writes it first (read a window, run it, one at a time, all boxes into
one NMS at the end); SAHI's slicing over the same model if it is installed. The share that is not the model is one less
the time inside the model's ``run`` over the wall time. One thread; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window as RasterWindow

from fledge.build import build_detector
from fledge.data.synthetic import render_showpiece
from fledge.geometry.nms import rotated_nms
from fledge.inference.model import TorchModel, stack
from fledge.inference.scene import detect_scene
from fledge.inference.settings import SceneSettings
from fledge.inference.windows import WindowGrid
from fledge.recipe import make_recipe
from fledge.types import Detections

CLASSES = ("ship", "plane", "vehicle")
LEAST = 0.005  # below the scores of random weights: 200 boxes a window, more than most scenes have


class Timed(TorchModel):
    """A model that knows how long it ran."""

    spent = 0.0

    def run(self, images: Any, sizes: Any) -> list[Detections]:
        """See ``WindowModel``."""
        start = time.perf_counter()
        found = super().run(images, sizes)
        self.spent += time.perf_counter() - start
        return found


def make_model(size: int, overlap: int) -> Timed:
    """A student-sized detector."""
    torch.manual_seed(0)
    recipe = make_recipe(
        {"backbone": "resnet18_half", "neck_channels": 64, "head_convs": 2, "image_size": size, "overlap": overlap,
         "score_threshold": LEAST, "max_detections": 200},
        "benchmark",
    )  # fmt: skip
    detector = build_detector(recipe, CLASSES)
    return Timed(detector, size, overlap, False, 1.0, 0.1, torch.device("cpu"))


def write_scene(path: Path, side: int) -> None:
    """A town of 2048 pixels, repeated to ``side``; deflate, tiles of 512."""
    town = np.moveaxis(render_showpiece(7, 2048, 2048).image, 2, 0)
    form = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.3, 0, 5e5, 0, -0.3, 5.2e6)}
    with rasterio.open(path, "w", **form, **place, tiled=True, blockxsize=512, blockysize=512) as file:
        for y in range(0, side, 2048):
            for x in range(0, side, 2048):
                height, width = min(2048, side - y), min(2048, side - x)
                file.write(town[:, :height, :width], window=RasterWindow(x, y, width, height))


def with_fledge(model: Timed, path: Path, out: Path, batch_size: int = 1) -> int:
    """``fledge detect`` as it is."""
    settings = SceneSettings(score=LEAST, batch_size=batch_size, overwrite=True)
    return detect_scene(model, path, out / "fledge.gpkg", settings).objects


def with_batches(model: Timed, path: Path, out: Path) -> int:
    """The same, four windows at once."""
    return with_fledge(model, path, out, 4)


def with_loop(model: Timed, path: Path, out: Path) -> int:
    """The loop one writes first."""
    boxes, scores, labels = [], [], []
    with rasterio.open(path) as file:
        for w in WindowGrid(file.height, file.width, model.image_size, model.overlap):
            pixels = file.read(window=RasterWindow(w.x, w.y, w.width, w.height)).transpose(1, 2, 0)
            (found,) = model.run(*stack([np.ascontiguousarray(pixels)], 3))
            found = found.above(LEAST)
            boxes.append(found.boxes + torch.tensor([w.x, w.y, 0, 0, 0]))
            scores.append(found.scores)
            labels.append(found.labels)
    keep = rotated_nms(torch.cat(boxes), torch.cat(scores), 0.1, torch.cat(labels))
    (out / "loop.json").write_text(json.dumps(torch.cat(boxes)[keep].tolist()))
    return len(keep)


def with_sahi(model: Timed, path: Path, out: Path) -> int:
    """SAHI's slices, each through the same model, with its own way to cut and to hold pixels."""
    from sahi.slicing import slice_image

    share = model.overlap / model.image_size
    cut = slice_image(str(path), slice_height=model.image_size, slice_width=model.image_size,
                      overlap_height_ratio=share, overlap_width_ratio=share)  # fmt: skip
    boxes, scores, labels = [], [], []
    for pixels, (x, y) in zip(cut.images, cut.starting_pixels, strict=True):
        (found,) = model.run(*stack([np.ascontiguousarray(pixels)], 3))
        found = found.above(LEAST)
        boxes.append(found.boxes + torch.tensor([x, y, 0, 0, 0]))
        scores.append(found.scores)
        labels.append(found.labels)
    keep = rotated_nms(torch.cat(boxes), torch.cat(scores), 0.1, torch.cat(labels))
    (out / "sahi.json").write_text(json.dumps(torch.cat(boxes)[keep].tolist()))
    return len(keep)


def measure(name: str, way: Callable[[Timed, Path, Path], int], model: Timed, path: Path, out: Path) -> dict[str, Any]:
    """One row."""
    model.spent, start = 0.0, time.perf_counter()
    processor = time.process_time()
    objects = way(model, path, out)
    wall = time.perf_counter() - start
    with rasterio.open(path) as file:
        pixels = file.height * file.width / 1e6
    return {
        "way": name,
        "objects": objects,
        "seconds": round(wall, 2),
        "megapixels per second": round(pixels / wall, 2),
        "not the model": f"{100 * (1 - model.spent / wall):.1f} %",
        "processor seconds": round(time.process_time() - processor, 2),
    }


def main() -> None:
    """Print one row a way, and write ``scene.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=6000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/scene-speed"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "scene.tif"
    if not path.exists():
        write_scene(path, options.side)
    model = make_model(options.size, options.overlap)
    ways = {"plain loop": with_loop, "fledge": with_fledge, "fledge, batches of 4": with_batches}
    if importlib.util.find_spec("sahi"):
        ways["SAHI's slices"] = with_sahi
    with tempfile.TemporaryDirectory(dir=options.out) as place:
        rows = [measure(name, way, model, path, Path(place)) for name, way in ways.items()]
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    (options.out / "scene.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
