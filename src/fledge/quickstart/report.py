"""The quickstart's report: one self-contained page."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fledge
from fledge.api import Evaluation
from fledge.engine.metric_log import read_metrics
from fledge.quickstart.plan import Plan
from fledge.quickstart.scene import SCORE, SceneResult, held_out_picture, spread
from fledge.visualize.charts import BarSeries, Series, bar_chart, line_chart, paired_chart
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.palette import Tone
from fledge.visualize.table import Column, Spread, Value

NAMES: dict[str, str] = {"teacher": "Teacher", "student": "Student alone", "distilled": "Student distilled (KD-RNet)"}
TONES: dict[str, Tone] = {"teacher": "teacher", "student": "student", "distilled": "distilled"}
PICTURES = 5


def write_report(
    plan: Plan, evaluations: dict[str, list[Evaluation]], scene: SceneResult, record: dict[str, Any]
) -> Path:
    """Compose and write ``report.html``."""
    page = Page("A small detector, raised by a big one", _subtitle(plan, evaluations))
    _headline(page, plan, evaluations, record)
    _results(page, plan, evaluations, record)
    _gap(page, plan, record)
    _learning(page, plan)
    _classes(page, evaluations)
    _pictures(page, evaluations)
    page.heading("A larger scene")
    page.picture(
        scene.picture,
        f"The distilled student on {scene.origin}: {scene.windows} overlapping windows, merged; "
        f"{len(scene.detections)} objects with a score of at least {SCORE}.",
    )
    _next_steps(page, plan)
    page.footer(_facts(plan, evaluations, record))
    return page.write(plan.out / "report.html")


def _subtitle(plan: Plan, evaluations: dict[str, list[Evaluation]]) -> str:
    dataset = evaluations["student"][0].dataset
    source = "rendered aerial scenes" if plan.synthetic else plan.data.name
    return f"Oriented detection on {source}: {len(dataset)} held-out images, {len(dataset.classes)} classes"


def _headline(page: Page, plan: Plan, evaluations: dict[str, list[Evaluation]], record: dict[str, Any]) -> None:
    stats = []
    for role, name in NAMES.items():
        cost = evaluations[role][0].cost
        stats.append(
            Stat(
                f"{name.split(' (')[0]}, AP50",
                f"{_mean(record, role, 'AP50'):.1f}",
                f"{cost.parameters / 1e6:.2f} M parameters, {cost.flops / 1e9:.2f} GFLOPs",
                TONES[role],
            )
        )
    minutes, seconds = divmod(round(record["seconds"]), 60)
    stats.append(Stat("Time", f"{minutes} min {seconds} s", f"on {record['cores']} CPU cores"))
    page.stats(stats)
    difference = record["distilled_minus_alone"]["AP50"]
    if len(plan.seeds) == 1:
        page.note(
            f"Here the distilled student is {_signed(100 * difference['mean'])} AP50 from the same student alone. "
            "**One seed is no evidence**: another seed can turn the sign. `--full` repeats both with several seeds.",
            "warning",
        )
    else:
        page.note(
            f"Distilled minus alone: {_signed(100 * difference['mean'])} ± {100 * difference['sd']:.1f} AP50 (mean and "
            f"standard deviation of {len(plan.seeds)} paired seeds), positive in {difference['wins']} of "
            f"{len(plan.seeds)}. The teacher is one run."
        )


def _results(page: Page, plan: Plan, evaluations: dict[str, list[Evaluation]], record: dict[str, Any]) -> None:
    page.heading("Results")
    page.paragraph(
        f"Both students saw the same {record['training_images']} training images for {plan.student.epochs} epochs, "
        "from the same initial weights, in the same order and with the same augmentation. The teacher saw them for "
        f"{plan.teacher.epochs} epochs."
    )
    if plan.synthetic:
        page.paragraph(
            "The learning rates were fixed beforehand by tuning the student alone, on scenes of another seed "
            "(`docs/results/quickstart_tuning.md`); the teacher and the distilled student use what that gave. The "
            "weights of the two distillation terms were not tuned on any result."
        )
    else:
        page.paragraph(
            "The learning rates are those of the rendered scenes; nothing was tuned on these data. The weights of the "
            "two distillation terms were not tuned either."
        )
    columns = [
        Column("Detector"),
        Column("Backbone"),
        Column("AP50", best="high"),
        Column("AP75", best="high"),
        Column("AP50:95", best="high"),
        Column("M params", ".2f"),
        Column("GFLOPs", ".2f"),
        Column("ms net"),
        Column("ms decode"),
    ]
    rows: list[list[Value]] = []
    for role, name in NAMES.items():
        cost = evaluations[role][0].cost
        backbone = (plan.teacher if role == "teacher" else plan.student).backbone
        scores: list[Value] = [_spread(record, role, metric) for metric in ("AP50", "AP75", "AP50:95")]
        times = [
            statistics.median(e.cost.milliseconds for e in evaluations[role]),
            statistics.median(t for e in evaluations[role] if (t := e.cost.decode_milliseconds) is not None),
        ]
        rows.append([name, backbone, *scores, cost.parameters / 1e6, cost.flops / 1e9, *times])
    cost = evaluations["student"][0].cost
    page.table(
        columns,
        rows,
        caption=f"Held-out images. AP in %, area under the curve, exact rotated IoU. The better student is marked. "
        f"Time for a held-out {cost.size[1]}×{cost.size[0]} image, median, one thread; decoding "
        "depends on how many boxes score above 0.05."
        + (" ± is the standard deviation over seeds." if len(plan.seeds) > 1 else ""),
        tones=[TONES[role] for role in NAMES],
        compare=(1, 2),
    )
    if len(plan.seeds) > 1:
        series = [
            BarSeries(NAMES[role].split(" (")[0], [100 * e.metrics.mean(0.5) for e in evaluations[role]], TONES[role])
            for role in ("student", "distilled")
        ]
        page.figure(paired_chart([str(s) for s in plan.seeds], series, "AP50, %", "Same seed, alone and distilled"))


def _gap(page: Page, plan: Plan, record: dict[str, Any]) -> None:
    """The paper's Table III: what distillation does to the difference between seen and held-out images."""
    page.heading("Training and held-out images")
    columns = [Column("Detector"), Column("AP50 training"), Column("AP50 held out"), Column("Gap")]
    rows: list[list[Value]] = []
    for role, name in NAMES.items():
        seen = record["on_training_images"][role]
        figures = ([100 * (r["AP50"] or 0.0) for r in seen], _values(record, role, "AP50"))
        gaps = [a - b for a, b in zip(*figures, strict=True)]
        rows.append([name, *(_mean_and_spread(values) for values in (*figures, gaps))])
    images, of = record["on_training_images"]["student"][0]["images"], record["training_images"]
    which = f"all {of} training images" if images == of else f"{images} of the {of} training images, evenly spread"
    page.table(
        columns,
        rows,
        caption=f"AP50 in %, on {which} (as they are, without augmentation) and on the held-out ones; means over "
        "the classes that have objects there. A wider gap means more learnt by heart."
        + (" ± is the standard deviation over seeds." if len(plan.seeds) > 1 else ""),
        tones=[TONES[role] for role in NAMES],
    )


def _learning(page: Page, plan: Plan) -> None:
    page.heading("Learning")
    seed = plan.seeds[0]
    curves = _curves(plan.run("distilled", seed))
    task = [task_loss(plan.run(role, seed), role) for role in NAMES]
    terms: Sequence[tuple[str, str, Tone]] = (
        ("cls", "focal", "student"),
        ("box", "KLD", "teacher"),
        ("kd_cls", "KD classes", "distilled"),
        ("kd_box", "KD boxes", "extra1"),
    )
    parts = [Series(label, *curves[name], tone) for name, label, tone in terms]
    page.figures(
        [
            (
                line_chart(task, "step", "loss", "Task loss (focal + KLD)"),
                "Training batches; the distillation terms left out.",
            ),
            (
                line_chart(parts, "step", "loss (log)", "Terms of the distilled student", log_y=True),
                "Weighted, as they enter the sum.",
            ),
        ]
    )


def task_loss(run: Path, role: str) -> Series:
    """The logged focal plus box loss of a run, as a curve in its role's colour."""
    curves = _curves(run)
    return Series(
        NAMES[role].split(" (")[0], curves["cls"][0], np.add(curves["cls"][1], curves["box"][1]).tolist(), TONES[role]
    )


def _curves(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for step, name, value in read_metrics(run / "metrics.csv"):
        xs, ys = curves.setdefault(name, ([], []))
        xs.append(step)
        ys.append(value)
    return curves


def _classes(page: Page, evaluations: dict[str, list[Evaluation]]) -> None:
    page.heading("Per class")
    classes = evaluations["student"][0].metrics.classes
    series = []
    for role, name in NAMES.items():
        values = np.array([[100 * e.metrics.per_class(0.5)[c] for c in classes] for e in evaluations[role]])
        errors = values.std(axis=0, ddof=1).tolist() if len(values) > 1 else None
        series.append(BarSeries(name.split(" (")[0], values.mean(axis=0).tolist(), TONES[role], errors))
    objects = evaluations["student"][0].metrics.objects.tolist()
    counts = ", ".join(f"{name} {count}" for name, count in zip(classes, objects, strict=True))
    page.figure(bar_chart(list(classes), series, "AP50, %", "AP50 by class"), f"Held-out objects: {counts}.")


def _pictures(page: Page, evaluations: dict[str, list[Evaluation]]) -> None:
    page.heading("Side by side")
    page.paragraph(
        f"Held-out images spread evenly over the split, none chosen by its result. Boxes with a score of at least "
        f"{SCORE}; dashed labels are difficult or ignored. Click to enlarge, arrow keys compare."
    )
    firsts = [evaluations[role][0] for role in NAMES]
    page.class_key(firsts[0].metrics.classes)
    dataset = firsts[0].dataset
    rows = []
    for i in spread(dataset, PICTURES):
        truth, found = held_out_picture(dataset, i, [e.detections[i] for e in firsts])
        rows.append(GalleryRow([truth, *found], dataset.ids[i]))
    page.gallery(["Ground truth", "Teacher", "Student alone", "Student distilled"], rows)


def _next_steps(page: Page, plan: Plan) -> None:
    page.heading("Use it")
    distilled = plan.run("distilled", plan.seeds[0])
    page.code(
        f"fledge detect {distilled} {plan.out}/scene/scene.png --out detections\n"
        f"fledge evaluate {distilled}\n"
        f"fledge quickstart --data YOUR_DATA --out runs/yours"
    )
    page.code(f'import fledge\ndetections = fledge.load("{distilled}").detect("{plan.out}/scene/scene.png")')
    with page.details("How this was measured"):
        page.paragraph(
            "A detection is right if its exact rotated IoU with the object it overlaps most exceeds the threshold and "
            "no better-scored detection took that object; difficult objects count neither way (the DOTA devkit's rule)."
        )
        page.paragraph(
            "AP is the area under the precision envelope (VOC 2012). AP50:95 is the mean over IoU 0.50, 0.55 … 0.95. "
            "The last checkpoint is evaluated, never the best one. FLOPs count a multiply-add as two, without decoding."
        )
        page.paragraph(
            "The KLD box loss cannot see the angle of a square: storage tanks and the like come out turned at random, "
            "which costs them AP75 but not AP50."
        )
        page.paragraph("Every setting is in `recipe.toml` in each run folder; the figures are in `results.json`.")


def _facts(plan: Plan, evaluations: dict[str, list[Evaluation]], record: dict[str, Any]) -> dict[str, str]:
    return {
        "Command": plan.command,
        "Seeds": ", ".join(map(str, plan.seeds)),
        "Data": f"{evaluations['student'][0].dataset.format} format, {plan.data}"
        + "".join(f"; {note}" for note in plan.notes),
        "Versions": f"fledge {fledge.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "Machine": f"{platform.machine()}, {record['cores']} cores",
    }


def _values(record: dict[str, Any], role: str, metric: str) -> list[float]:
    return [100 * (r[metric] or 0.0) for r in record["evaluations"][role]]


def _mean(record: dict[str, Any], role: str, metric: str) -> float:
    return statistics.mean(_values(record, role, metric))


def _spread(record: dict[str, Any], role: str, metric: str) -> Value:
    return _mean_and_spread(_values(record, role, metric))


def _mean_and_spread(values: Sequence[float]) -> Value:
    return Spread(statistics.mean(values), statistics.stdev(values)) if len(values) > 1 else values[0]


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
