"""The pictures of docs/results/kd_rnet.md, from a finished quickstart.

    python benchmarks/kd_rnet_results.py runs/hit_uav docs/images/hit_uav --images 3

Writes ``loss.svg``, ``classes.svg`` and ``pictures.jpg`` (labels, teacher, student alone, student distilled; images
spread evenly over the held-out split) and prints the table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from fledge import api
from fledge.data.datasets import open_dataset
from fledge.files import write_bytes
from fledge.quickstart.report import NAMES, TONES, task_loss
from fledge.quickstart.scene import held_out_picture, spread
from fledge.recipe import load_recipe
from fledge.visualize.charts import BarSeries, bar_chart, line_chart
from fledge.visualize.draw import resize
from fledge.visualize.images import Image, encode
from fledge.visualize.style import standalone

GAP = 6


def main() -> None:
    """Detect in a few held-out images and write the pictures; the figures are those of ``results.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a quickstart")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--images", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads((options.run / "results.json").read_text())["evaluations"]
    predictors = [api.load(options.run / role) for role in NAMES]
    recipe = load_recipe(options.run / "student" / "recipe.toml")
    dataset = open_dataset(Path(recipe.data), recipe.eval_split, predictors[0].classes)

    curves = line_chart([task_loss(options.run / role, role) for role in NAMES], "step", "loss", "Task loss")
    write_bytes(options.out / "loss.svg", standalone(curves).encode())
    classes = dataset.classes
    values = {role: [_percent(record[role][0]["classes"][c]["AP50"]) for c in classes] for role in NAMES}
    bars = [BarSeries(NAMES[role].split(" (")[0], values[role], TONES[role]) for role in NAMES]
    write_bytes(options.out / "classes.svg", standalone(bar_chart(list(classes), bars, "AP50, %", "AP50")).encode())
    rows = []
    for i in spread(dataset, options.images):
        truth, found = held_out_picture(dataset, i, [p.detect(dataset.paths[i]) for p in predictors])
        rows.append(_row([truth, *found]))
    write_bytes(options.out / "pictures.jpg", encode(_shrink(_column(rows)), "jpeg", 82))
    for role, name in NAMES.items():
        r = record[role][0]
        cost = r["cost"]
        print(
            f"| {name} | {100 * r['AP50']:.1f} | {100 * r['AP75']:.1f} | {100 * r['AP50:95']:.1f} | "
            f"{cost['parameters'] / 1e6:.2f} | {cost['flops'] / 1e9:.2f} | {cost['milliseconds']:.0f} + "
            f"{cost['decode_milliseconds']:.0f} |"
        )
        print("  ", {c: round(v, 1) for c, v in zip(classes, values[role], strict=True)})


def _shrink(picture: Image) -> Image:
    """A rendering for a page: at most 1,400 pixels wide."""
    return resize(picture, min(1.0, 1400 / picture.shape[1]))


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def _row(pictures: list[Image]) -> Image:
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([part for p in pictures for part in (p, gap)][:-1])


def _column(rows: list[Image]) -> Image:
    width = min(row.shape[1] for row in rows)
    gap = np.full((GAP, width, 3), 255, np.uint8)
    return np.vstack([part for row in rows for part in (row[:, :width], gap)][:-1])


if __name__ == "__main__":
    main()
