"""A detector of buildings trained on the western two thirds of one mosaic, shown on the eastern third of it.

    python benchmarks/roofs.py --scene mosaic.tif --labels mosaic.dota.txt --out runs/roofs

A demonstration of the way from labels to boxes on a map, not evidence: one scene, one seed, and the same roofs, sun and
camera on both sides of the cut. The scene is a georeferenced RGB GeoTIFF, the labels are DOTA lines in its pixels. The
whole scene is then searched as ``fledge detect`` does it; only boxes centred in the eastern third count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyogrio
import shapely
import torch
from numpy.typing import NDArray

from fledge import api
from fledge.data.labels import minimum_boxes
from fledge.data.raster import read_image
from fledge.data.scene_file import SceneFile
from fledge.data.tile_folder import tile_dataset
from fledge.data.tiling import Cut
from fledge.data.transforms import resize
from fledge.evaluation.average_precision import evaluate
from fledge.files import write_bytes, write_json
from fledge.inference.settings import SceneSettings
from fledge.recipe import make_recipe
from fledge.scenes import detect_scenes
from fledge.types import Detections, Frame, Targets
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import encode

SCALE = 0.375  # 20 cm a pixel
SHOWN = 0.4  # scores of the boxes in the picture
RECIPE: dict[str, Any] = {
    "image_size": 256, "overlap": 128, "hflip": True, "vflip": True, "right_angles": True, "rotate_degrees": 45.0,
    "scale_low": 0.8, "scale_high": 1.25, "photometric": 0.4, "backbone": "resnet18_quarter", "neck_channels": 32,
    "head_convs": 2, "head_norm": True, "anchor_scale": 3.0, "optimizer": "adamw", "lr": 0.002, "weight_decay": 0.01,
    "batch_size": 4, "schedule": "cosine", "warmup_steps": 50, "clip_norm": 10.0, "ema_decay": 0.98, "workers": 0,
    "device": "cpu", "score_threshold": 0.05,
}  # fmt: skip


def read_labels(path: Path) -> NDArray[np.float64]:
    """The corners (N, 4, 2) of DOTA lines."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return np.array([[float(v) for v in row[:8]] for row in rows if len(row) >= 9]).reshape(-1, 4, 2)


def write_west(scene: Path, quads: NDArray[np.float64], cut: int, root: Path) -> None:
    """The part left of column ``cut`` at the training scale, as the DOTA split ``train``; and its tiles."""
    image = resize(read_image(scene)[:, :cut], None, cv2.INTER_AREA, SCALE, SCALE)
    place = root / "west" / "train"
    for name in ("images", "labelTxt"):
        (place / name).mkdir(parents=True, exist_ok=True)
    write_bytes(place / "images" / "west.png", encode(image, "png"))
    inside = quads[quads.mean(axis=1)[:, 0] < cut] * SCALE
    lines = [" ".join(f"{v:.2f}" for v in quad.reshape(-1)) + " building 0\n" for quad in inside]
    (place / "labelTxt" / "west.txt").write_text("".join(lines))
    if not (root / "tiles").exists():
        tile_dataset(root / "west", root / "tiles", Cut(384, 256))


def back_to_pixels(file: Path, scene: SceneFile) -> Detections:
    """The boxes of a GeoPackage, read as any GIS would, in pixels of the scene."""
    meta, _, shapes, values = pyogrio.raw.read(file)
    table = dict(zip(meta["fields"], values, strict=True))
    a, b, c, d, e, f = scene.frame.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    points = shapely.get_coordinates(shapely.from_wkb(shapes)).reshape(-1, 5, 2)[:, :4] - [c, f]
    quads = points @ np.linalg.inv(np.array([[a, b], [d, e]])).T
    boxes = torch.from_numpy(minimum_boxes(quads))
    return Detections(boxes, torch.tensor(table["score"]).float(), torch.zeros(len(boxes)).long(), ("building",))


def east_of(boxes: torch.Tensor, cut: int) -> torch.Tensor:
    """Which boxes are centred at column ``cut`` or beyond."""
    return boxes[:, 0] >= cut


def draw(scene: SceneFile, found: Detections, truth: torch.Tensor, cut: int, path: Path) -> None:
    """The whole scene, with labels dashed and boxes of the eastern part solid, in at most 150 kB."""
    picture = scene.overview(1152)
    shrink = picture.shape[1] / scene.width
    shown = found.above(SHOWN)
    shown = shown.select(east_of(shown.boxes, cut))
    boxes = torch.cat([truth, shown.boxes])
    boxes = torch.cat([boxes[:, :4] * shrink, boxes[:, 4:]], dim=1)
    labels = torch.cat([torch.ones(len(truth)), torch.zeros(len(shown))]).long()
    picture = draw_boxes(picture, boxes, labels, ("found", "labelled"), dashed=labels == 1)
    picture[:, round(cut * shrink) - 1 : round(cut * shrink) + 1] = 255
    data = next(d for q in range(85, 20, -5) if len(d := encode(picture, "jpeg", q)) <= 150_000)
    write_bytes(path, data)


def run(scene: Path, labels: Path, out: Path, epochs: int) -> dict[str, Any]:
    """Train, search the scene, compare; the figures, which are also in ``out/roofs.json``."""
    quads, file = read_labels(labels), SceneFile(scene)
    cut = file.width * 2 // 3
    write_west(scene, quads, cut, out)
    recipe = make_recipe({**RECIPE, "data": str(out / "tiles"), "epochs": epochs, "save_every": epochs}, "roofs")
    trained = api.train(recipe, out / "run", title="roofs")
    settings = SceneSettings("gpkg", score=0.05, scale=SCALE, overwrite=True)
    detect_scenes(trained, [scene], out / "roofs.gpkg", settings, device="cpu")
    found = back_to_pixels(out / "roofs.gpkg", file)
    truth = torch.from_numpy(minimum_boxes(quads))
    east, own = found.select(east_of(found.boxes, cut)), truth[east_of(truth, cut)]
    count = len(own)
    targets = Targets(own, torch.zeros(count).long(), torch.zeros(count).bool(), torch.zeros(count).bool())
    metrics = evaluate([Detections(east.boxes, east.scores, east.labels, east.classes, Frame("east"))], [targets],
                       ("building",), (0.5, 0.75))  # fmt: skip
    draw(file, found, truth, cut, out / "roofs.jpg")
    figures = {
        "AP50 east": round(metrics.mean(0.5), 4),
        "AP75 east": round(metrics.mean(0.75), 4),
        "labels east": count,
        "labels west": len(truth) - count,
        "boxes east": len(east.above(SHOWN)),
        "epochs": epochs,
    }
    write_json(out / "roofs.json", figures)
    return figures


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/roofs"))
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    print(json.dumps(run(options.scene, options.labels, options.out, options.epochs), indent=1))


if __name__ == "__main__":
    main()
