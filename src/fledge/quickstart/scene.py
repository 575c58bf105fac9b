"""The distilled student at work on one larger scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fledge import api
from fledge.data.labels import DetectionDataset
from fledge.data.synthetic import render_showpiece
from fledge.files import write_bytes
from fledge.inference.windows import windows
from fledge.inference.writers import write_detections
from fledge.quickstart.plan import Plan
from fledge.types import Detections
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import encode, to_rgb

SCORE = 0.3
FORMATS = ("gpkg", "csv", "coco", "dota")
# A seed far from those of the training tiles.
SHOWPIECE = 1_000_003


@dataclass(frozen=True)
class SceneResult:
    """A scene and what was found in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        picture: the same with the detections drawn.
        detections: in pixels of the image, scores of at least 0.3.
        windows: how many overlapping windows it took.
        origin: where the scene comes from, one phrase.
    """

    image: NDArray[np.uint8]
    picture: NDArray[np.uint8]
    detections: Detections
    windows: int
    origin: str


def run_scene(plan: Plan, held_out: DetectionDataset) -> SceneResult:
    """Detect in a scene larger than the network's input and write image, picture and detections to ``scene/``."""
    image, origin = _scene(plan, held_out)
    predictor = api.load(plan.run("distilled", plan.seeds[0]), plan.student.device)
    folder = plan.out / "scene"
    shown = to_rgb(image)
    write_bytes(folder / "scene.png", encode(shown, "png"))
    found = predictor.detect(image, SCORE, scale=predictor.model.pixel_scale)
    found = replace(found, frame=replace(found.frame, image_id="scene"))
    for form in FORMATS:
        write_detections([found], folder, form)
    picture = draw_boxes(shown, found.boxes, found.labels, found.classes)
    write_bytes(folder / "scene.detections.jpg", encode(picture, "jpeg", 90))
    height, width = (round(side * predictor.model.pixel_scale) for side in image.shape[:2])
    count = len(windows(height, width, predictor.model.image_size, predictor.model.overlap))
    return SceneResult(shown, picture, found, count, origin)


def _scene(plan: Plan, held_out: DetectionDataset) -> tuple[NDArray[np.uint8], str]:
    """A rendered town; for own data the largest held-out image, or four side by side if that is one window.

    (H, W, C) as the network sees it.
    """
    if plan.synthetic:
        side = plan.student.image_size
        return render_showpiece(SHOWPIECE + plan.seeds[0], 4 * side, 16 * side // 3).image, "a rendered town"
    sizes = held_out.sizes.astype(np.int64)
    largest = int(sizes.prod(axis=1).argmax())
    if plan.student.view == "crop" and sizes[largest].max() > plan.student.image_size:
        return held_out.read(largest), f"the largest held-out image, {held_out.ids[largest]}"
    busiest = np.argsort(-np.diff(held_out.offsets), kind="stable")
    spread = [int(busiest[i]) for i in np.linspace(0, len(busiest) // 4, 4).astype(int)]
    tiles = [held_out.read(i) for i in spread]
    height, width = min(t.shape[0] for t in tiles), min(t.shape[1] for t in tiles)
    cut = [t[:height, :width] for t in tiles]
    return np.vstack([np.hstack(cut[:2]), np.hstack(cut[2:])]), "four held-out images side by side"


def spread(dataset: DetectionDataset, count: int) -> list[int]:
    """At most ``count`` images with two objects or more (any, if there are none), spread evenly over a split."""
    busy = np.flatnonzero(np.diff(dataset.offsets) >= 2)
    if not len(busy):
        busy = np.arange(len(dataset))
    return list(dict.fromkeys(busy[np.linspace(0, len(busy) - 1, count).astype(int)].tolist()))


def held_out_picture(
    dataset: DetectionDataset, i: int, found: Sequence[Detections]
) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Image i with its labels, and once with the boxes of each detector."""
    image, truth = to_rgb(dataset.read(i)), dataset.targets(i)
    scale = max(1.0, 384 / max(image.shape[:2]))
    dashed = truth.difficult | truth.ignore
    labelled = draw_boxes(image, truth.boxes, truth.labels, dataset.classes, dashed=dashed, scale=scale)
    seen = [d.above(SCORE) for d in found]
    return labelled, [draw_boxes(image, d.boxes, d.labels, d.classes, scale=scale) for d in seen]
