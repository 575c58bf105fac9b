"""The page of an evaluation: figures, what the errors are and cost, curves, confusion, and the worst images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import fledge
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.failures import BACKGROUND_IOU, MISSED, REASONS, Failures, best_f1, confusion, find_failures
from fledge.evaluation.matching import match
from fledge.evaluation.summary import means
from fledge.evaluation.trust import trust_line
from fledge.reporting.pictures import KINDS, worst_images
from fledge.reporting.result import Result
from fledge.reporting.tables import columns, comparison_line, parts_rows, percent, rules
from fledge.visualize.charts import BarSeries, Series, bar_chart, line_chart
from fledge.visualize.markup import Markup
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.palette import TONES
from fledge.visualize.table import Column, Value

WORST = 12
_MEANING = {
    "duplicate": "the object was taken by a better detection",
    "classification": "it lies on an object of another class",
    "angle": "turned to the object's angle it would match",
    "localisation": "it touches an object of its class, but not enough",
    "both": "it touches an object of another class, and not enough",
    "background": "there is nothing",
    MISSED: "no detection found it, nor nearly",
}


def report_page(result: Result, command: str) -> Page:
    """The page by the first of the protocols; pictures are read from the dataset."""
    metrics = result.metrics[0]
    failures = find_failures(result.case, metrics.protocol)
    outcome = match(result.case, metrics.protocol).outcome[0]
    score, f1 = best_f1(result.case, outcome, int(failures.counts.sum()))
    split = f", {result.dataset.split}" if result.dataset.split else ""
    page = Page(f"Evaluation of {result.name}", f"{result.dataset.root.name}{split}: {len(result.dataset)} images")
    _headline(page, result, score, f1)
    _figures(page, result)
    _errors(page, failures, metrics)
    _curves(page, metrics)
    _confusion(page, result, failures, outcome, score)
    _worst(page, result, failures, outcome, score)
    page.footer({"Command": command, "Version": f"fledge {fledge.__version__}"})
    return page


def _headline(page: Page, result: Result, score: float, f1: float) -> None:
    stats = [Stat(heading, percent(mean), "mean over the classes") for heading, _, mean in columns(result)]
    objects = int(result.metrics[0].objects.sum())
    stats.append(Stat("Objects", str(objects), f"{len(result.case.found)} detections"))
    stats.append(Stat("Best F1", percent(f1), f"with scores from {score:.3g}"))
    page.stats(stats)
    warned = any(check.state == "warning" for check in result.checks)
    if result.checks:
        page.note(trust_line(result.checks).replace("trust", "**Trust**", 1), "warning" if warned else "note")
    if result.comparison:
        page.note(comparison_line(result))


def _figures(page: Page, result: Result) -> None:
    page.heading("Average precision")
    heads = columns(result)
    rows: list[list[Value]] = [
        [name, float(count), *(100 * float(values[k]) for _, values, _ in heads)]
        for k, (name, count) in enumerate(zip(result.case.classes, result.metrics[0].objects.tolist(), strict=True))
    ]
    rows.append(["**mean**", None, *(100 * mean for _, _, mean in heads)])
    rows[-1][1] = float(result.metrics[0].objects.sum())
    page.table([Column("Class"), Column("Objects", ".0f"), *(Column(head, ".2f") for head, _, _ in heads)], rows)
    with page.details("By size and by aspect ratio"):
        page.table(
            [Column("Part"), Column("Objects", ".0f"), *(Column(name, ".2f") for name in means(result.metrics[0]))],
            [[name, float(n), *(None if v is None else 100 * v for v in row)] for name, n, row in parts_rows(result)],
            caption="Areas as COCO's: small to 32², large from 96². An aspect is the long over the short side.",
        )
    with page.details("How these figures came about"):
        for line in rules(result):
            page.paragraph(line)


def _errors(page: Page, failures: Failures, metrics: Metrics) -> None:
    page.heading("Errors")
    page.paragraph(
        f"Every wrong detection has one reason, at IoU {failures.threshold:g}; touching means an IoU of "
        f"{BACKGROUND_IOU:g} or more. AP gained: if all errors of that kind were put right and nothing else. The gains "
        "do not add up, since one error hides another."
    )
    kinds = [*REASONS, MISSED]
    gains = [100 * failures.gain[kind] for kind in kinds]
    page.figure(bar_chart(kinds, [BarSeries("AP gained", gains, "distilled")], "AP, points", "What each error costs"))
    rows: list[list[Value]] = [
        [kind, _MEANING[kind], float(failures.total(kind)), gain] for kind, gain in zip(kinds, gains, strict=True)
    ]
    found = int((failures.counts & failures.found).sum())
    page.table(
        [Column("Error"), Column("Meaning"), Column("Number", ".0f"), Column("AP gained", ".2f")],
        rows,
        caption=f"{found} of {int(metrics.objects.sum())} objects were found, at any score.",
    )


def _curves(page: Page, metrics: Metrics) -> None:
    page.heading("Precision and recall")
    known = [name for name, count in zip(metrics.classes, metrics.objects.tolist(), strict=True) if count]
    groups = [known[k : k + len(TONES)] for k in range(0, len(known), len(TONES))]
    if len(groups) == 1:
        page.figure(_chart(metrics, groups[0]))
    else:
        page.figures([(_chart(metrics, group), "") for group in groups])


def _chart(metrics: Metrics, names: Sequence[str]) -> Markup:
    threshold = metrics.thresholds[0]
    series = []
    for name, tone in zip(names, TONES, strict=False):
        points = metrics.curve(name, threshold)
        envelope = np.maximum.accumulate(points.precision[::-1])[::-1]
        x, y = [0.0, *(100 * points.recall)], [*(100 * envelope[:1]), *(100 * envelope)]
        series.append(Series(name, x[: len(y)], y, tone))
    return line_chart(series, "recall, %", "precision, %", f"At IoU {threshold:g}, upper envelope")


def _confusion(page: Page, result: Result, failures: Failures, outcome: NDArray[np.int8], score: float) -> None:
    page.heading("Confusion")
    table = confusion(result.case, failures, outcome, score)
    names = result.case.classes
    heads = [Column("Object"), *(Column(name, ".0f") for name in names), Column("not found", ".0f")]
    rows: list[list[Value]] = [
        [name, *(float(v) if v else "·" for v in table[k].tolist())]
        for k, name in enumerate([*names, "wrong otherwise"])
    ]
    rows[-1][-1] = ""
    page.table(heads, rows, caption=f"Rows: what is there; columns: what it was called, at scores from {score:.3g}.")


def _worst(page: Page, result: Result, failures: Failures, outcome: NDArray[np.int8], score: float) -> None:
    page.heading("The images with the most errors")
    found = worst_images(result.dataset, result.case, failures, outcome, score, WORST)
    if not found:
        page.paragraph("There is none: every object was found, and nothing else.")
        return
    page.paragraph(
        f"Detections with a score from {score:.3g}; of large images the part with the most errors. Dashed: not found. "
        "Click to enlarge, arrow keys compare."
    )
    page.class_key(KINDS)
    rows = []
    for worst in found:
        name = result.case.images[worst.image]
        errors = f"`{name}`: {worst.errors} error{'' if worst.errors == 1 else 's'}"
        caption = errors + (" in all; a part of the image" if worst.part else "")
        if worst.pictures is None:
            page.paragraph(f"{errors}; the image cannot be read.")
        else:
            rows.append(GalleryRow(worst.pictures, caption))
    page.gallery(["Labels", "Detections"], rows)
