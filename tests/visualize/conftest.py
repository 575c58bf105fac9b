"""A page with every block on it, from invented data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fledge.visualize.charts import BarSeries, Series, bar_chart, line_chart, paired_chart
from fledge.visualize.draw import draw_boxes
from fledge.visualize.images import Image
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.table import Column, Spread, Value

CLASSES = ("aircraft", "ship", "vehicle", "storage tank", "court")
LONG = "a class with a remarkably long and winding name that goes on"


def scene(seed: int, size: int = 128) -> tuple[Image, torch.Tensor, torch.Tensor]:
    """Noise on a gradient with boxes: image, boxes (8, 5), labels (8,)."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(70, 130, size)[:, None, None] + np.array([0, 12, -20])
    image = (ramp + rng.normal(0, 8, (size, size, 3))).clip(0, 255).astype(np.uint8)
    side = rng.uniform(size * 0.1, size * 0.24, 8)
    columns = [*rng.uniform(0, size, (2, 8)), side, side * rng.uniform(0.3, 0.9, 8), rng.uniform(-1.5, 1.5, 8)]
    return image, torch.tensor(np.stack(columns, axis=1)), torch.tensor(rng.integers(0, 5, 8))


def curve(limit: float, pace: float, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    return [limit * (1 - math.exp(-100 * i / pace)) + float(rng.normal(0, 0.8)) for i in range(1, 21)]


@pytest.fixture
def sample_page() -> Page:
    page = Page("A small detector, raised by a big one", "Quickstart: what distillation did on one synthetic data set")
    page.stats(
        [
            Stat("Teacher, AP50", "78.4", "20.1 M parameters", "teacher"),
            Stat("Student alone, AP50", "61.0", "0.9 M parameters", "student"),
            Stat("Distilled student, AP50", "64.7", "same network, **+3.7**", "distilled"),
            Stat("Time", "5 min 12 s", "on 2 CPU cores"),
        ]
    )
    page.note(
        "**One seed is no evidence.** The difference between two seeds can be larger. Run `fledge quickstart --full`."
    )
    page.heading("Results")
    page.paragraph(
        "All three saw the same images. Learning rates were fixed beforehand on **another** seed with `fledge tune`."
    )
    columns = [Column("Detector"), Column("Backbone"), *(Column(n, best="high") for n in ("AP50", "AP75", "AP50:95"))]
    columns += [Column("Parameters, M", ".2f"), Column("GFLOP", ".2f"), Column("ms per image", best="low")]
    rows: list[list[Value]] = [
        ["Teacher", "ResNet-18", 78.4, 45.2, 43.9, 20.08, 12.41, 88.1],
        ["Student alone", "ResNet-18 ¼", 61.0, float("nan"), 30.2, 0.91, 0.87, 11.2],
        ["Student distilled (KD-RNet)", "ResNet-18 ¼", Spread(64.7, 0.4), 31.6, 32.8, 0.91, 0.87, 11.2],
    ]
    page.table(
        columns,
        rows,
        tones=("teacher", "student", "distilled"),
        compare=(1, 2),
        caption="Held-out split, 60 images. The better of the two students is marked.",
    )
    steps = list(range(100, 2100, 100))
    learned = [
        Series("Teacher", steps, curve(78, 500, 0), "teacher"),
        Series("Student alone", steps, curve(61, 620, 1), "student"),
        Series("Student distilled", steps, curve(65, 480, 2), "distilled"),
    ]
    many = list(range(2000))
    rng = np.random.default_rng(3)
    losses = [
        Series("focal", many, [float(2 * math.exp(-i / 500) + 0.1 + abs(rng.normal(0, 0.1))) for i in many], "student"),
        Series("KLD", many, [float(0.9 * math.exp(-i / 700) + 0.2 + abs(rng.normal(0, 0.03))) for i in many], "extra1"),
        Series("distillation", many, [float(0.05 * math.exp(-i / 300) + 0.004) for i in many], "distilled"),
    ]
    page.heading("Learning", 3)
    page.figures(
        [
            (line_chart(learned, "step", "AP50, %", "AP50 on the held-out split"), "Evaluated every 100 steps."),
            (
                line_chart(losses, "step", "loss (log)", "Loss terms of the distilled student", log_y=True),
                "Raw values.",
            ),
        ]
    )
    names = [*CLASSES, LONG]
    bars = [
        BarSeries("Teacher", [92.0, 81.5, 74.2, 88.0, 70.1, 12.0], "teacher"),
        BarSeries("Student alone", [80.0, 62.5, 51.2, 79.0, math.nan, 2.0], "student", [1.0, 2.0, 1.5, 0.8, 3.0, 1.0]),
        BarSeries(
            "Student distilled", [84.0, 64.5, 58.2, 78.0, 52.3, 0.0], "distilled", [1.2, 1.0, 1.4, 1.1, 2.0, 0.2]
        ),
    ]
    seeds = ["seed 0", "seed 1", "seed 2"]
    pairs = [
        BarSeries("Student alone", [61.0, 59.2, 60.4], "student"),
        BarSeries("Student distilled", [64.7, 61.0, 60.1], "distilled"),
    ]
    page.heading("Per class", 3)
    page.figures(
        [
            (bar_chart(names, bars, "AP50, %", "AP50 by class"), "Bars show the mean, lines the spread."),
            (
                paired_chart(seeds, pairs, "AP50, %", "Same seed, with and without a teacher"),
                "Lines join the same seed.",
            ),
        ]
    )
    page.heading("Pictures")
    page.class_key([*CLASSES, LONG])
    columns_ = ["Ground truth", "Teacher", "Student alone", "Distilled student"]
    gallery = []
    for seed in range(3):
        image, boxes, labels = scene(seed)
        shown = [draw_boxes(image, boxes[: 8 - i], labels[: 8 - i], CLASSES, scale=3) for i in range(4)]
        gallery.append(GalleryRow(shown, f"test_{seed:04d}, boxes scored 0.3 and more"))
    page.gallery(columns_, gallery)
    page.heading("A larger scene", 3)
    image, boxes, labels = scene(9, 700)
    scores = torch.linspace(0.95, 0.4, 8)
    drawn = draw_boxes(image, boxes, labels, CLASSES, scores=scores, dashed=scores < 0.6, captions=True, scale=1.5)
    page.picture(drawn, "Sixteen overlapping windows, merged.")
    page.heading("Run it yourself")
    page.code("fledge quickstart --seed 0\nfledge detect runs/quickstart/student scene.png --out detections.gpkg")
    with page.details("How this was measured"):
        page.paragraph("AP as in DOTA, 11 thresholds.")
        page.note("The teacher was trained on the same images.", "warning")
    page.footer({"Command": "`fledge quickstart --seed 0`", "Seed": "0", "Versions": "fledge 0.1.0, torch 2.15.0"})
    return page
