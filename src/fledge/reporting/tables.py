"""A result as plain values, Markdown, a row of a LaTeX table, and curves."""

from __future__ import annotations

import csv
import io
import math
from pathlib import PurePath
from typing import Any

import numpy as np

from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.summary import evaluation_record, means, parts_record
from fledge.evaluation.trust import trust_line, trust_record
from fledge.reporting.result import Result

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\~{}",
    "^": r"\^{}",
}
_LATEX["\\"] = r"\textbackslash{}"


def result_record(result: Result) -> dict[str, Any]:
    """Plain values: those of one protocol, or by the name of each under ``protocols``."""
    about = {**result.about, "trust": trust_record(result.checks)}
    if result.comparison:
        about["comparison"] = result.comparison.record()
    records = [
        {**evaluation_record(metrics, None, about), "parts": parts_record(result.case, metrics.protocol)}
        for metrics in result.metrics
    ]
    if len(records) == 1:
        return records[0]
    return {"protocols": {m.protocol.name: record for m, record in zip(result.metrics, records, strict=True)}}


def parts_rows(result: Result) -> list[tuple[str, int, list[float | None]]]:
    """The parts by the first protocol, for tables: kind and name, objects, figures (0…1)."""
    return [
        (f"{kind}: {name}", part["objects"], [part[figure] for figure in means(result.metrics[0])])
        for kind, named in parts_record(result.case, result.metrics[0].protocol).items()
        for name, part in named.items()
    ]


def rules(result: Result) -> list[str]:
    """Lines that say how the figures came about; they stand below every table."""
    lines = []
    for metrics in result.metrics:
        words = evaluation_record(metrics)["protocol"]
        most = f", at most {words['max_detections']} an image and class" if words["max_detections"] else ""
        lines.append(
            f"protocol: {words['name']} ({words['title']}); AP: {words['interpolation']}; {words['iou']}, to be "
            f"{words['threshold']}; matched: {words['matching']}{most}; difficult objects {words['difficult']}"
        )
    read = result.about.get("detections")
    if read:
        lines.append(f"detections: {read['count']} in {result.name}, {read['form']}; suppression as in the files")
    if "nms" in result.about:
        nms = result.about["nms"]
        limits = f"NMS at IoU {nms['iou']:g}, at most {nms['max_detections']} a window before it"
        lines.append(f"detections: {result.name}, scores from {nms['score_threshold']:g}, {limits}")
    merge = result.about.get("merge")
    if merge:
        lines.append(
            f"merged from {merge['patches']} patches: scores from {merge['score']:g}, NMS at IoU "
            f"{merge['patch_iou']:g} in patches and {merge['image_iou']:g} in whole images; {merge['before']} boxes "
            f"became {merge['after']}"
        )
    lines += [f"note: {note}" for note in result.about.get("notes", ())]
    split = f", split {result.dataset.split}" if result.dataset.split else ""
    lines.append(
        f"labels: {len(result.dataset)} images of {result.dataset.root}{split}; "
        f"sha256 {result.about['labels_sha256'][:16]}"
    )
    return lines


def columns(result: Result) -> list[tuple[str, np.ndarray[Any, np.dtype[np.float64]], float]]:
    """The columns of the table: heading, values (K,) and mean in 0…1; protocols beside each other name theirs."""
    several = len(result.metrics) > 1
    found = []
    for metrics in result.metrics:
        means = metrics.summary()
        for name, values in _figures(metrics).items():
            heading = f"{name} {metrics.protocol.name}" if several else name
            found.append((heading, values, means.get(name, _mean(values))))
    return found


def _figures(metrics: Metrics) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return metrics.figures() or {"AP": metrics.ap.mean(axis=1)}


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def markdown(result: Result) -> str:
    """A table of the classes and their mean, with the rules and the trust line below."""
    heads = columns(result)
    lines = [
        "| class | objects | " + " | ".join(head for head, _, _ in heads) + " |",
        "|---|---:|" + "---:|" * len(heads),
    ]
    for k, (name, count) in enumerate(zip(result.case.classes, result.metrics[0].objects.tolist(), strict=True)):
        lines.append(f"| {name} | {count} | " + " | ".join(percent(values[k]) for _, values, _ in heads) + " |")
    lines.append("| **mean** | | " + " | ".join(f"**{percent(mean)}**" for _, _, mean in heads) + " |")
    figures = list(means(result.metrics[0]))
    lines += ["", f"| part | objects | {' | '.join(figures)} |", "|---|---:|" + "---:|" * len(figures)]
    for name, count, values in parts_rows(result):
        shown = " | ".join(percent(math.nan if value is None else value) for value in values)
        lines.append(f"| {name} | {count} | {shown} |")
    below = [*rules(result), trust_line(result.checks)]
    if result.comparison:
        below.append(comparison_line(result))
    return "\n".join([*lines, "", *(f"- {line}" for line in below), ""])


def latex_row(result: Result) -> str:
    """One row a figure: the name, the classes in order, the mean; what it is of stands above as comments."""
    lines = [f"% {line}" for line in [*rules(result), trust_line(result.checks)]]
    lines.append("% " + " & ".join(["method", *result.case.classes, "mean"]) + r" \\")
    for heading, values, mean in columns(result):
        cells = [_latex(f"{result.name} ({heading})"), *(percent(value) for value in [*values, mean])]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines) + "\n"


def curves_csv(result: Result) -> str:
    """Precision and recall after each right detection, by protocol, class and threshold (0.5 and 0.75)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "class", "threshold", "score", "recall", "precision"])
    for metrics in result.metrics:
        shown = [t for t in (0.5, 0.75) if t in metrics.thresholds] or list(metrics.thresholds[:1])
        for name, count in zip(metrics.classes, metrics.objects.tolist(), strict=True):
            for threshold in shown if count else ():
                points = metrics.curve(name, threshold)
                for i in np.flatnonzero(np.diff(points.recall, prepend=0.0) > 0):
                    numbers = (points.scores[i], points.recall[i], points.precision[i])
                    writer.writerow([metrics.protocol.name, name, threshold, *(f"{v:.6g}" for v in numbers)])
    return text.getvalue()


def comparison_line(result: Result) -> str:
    """The comparison in words; "" without one."""
    found = result.comparison
    if found is None:
        return ""
    other = PurePath(result.about["compared_with"]["path"]).name
    return (
        f"{found.figure} {percent(found.first)} of {result.name}, {percent(found.second)} of {other}: difference "
        f"{signed(found.difference)}, 95 % interval {signed(found.low)} to {signed(found.high)}, p {found.p:.3g} "
        f"(paired bootstrap over {found.images} images, {found.draws} draws, seed {found.seed})"
    )


def percent(value: float) -> str:
    """A share as a percentage with two digits; an en dash for what is undefined."""
    return f"{100 * value:.2f}".replace("-", "−") if math.isfinite(value) else "–"


def signed(value: float) -> str:
    """The same with its sign."""
    return f"{100 * value:+.2f}".replace("-", "−") if math.isfinite(value) else "–"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
