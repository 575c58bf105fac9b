"""What a study leaves: ``report.html``, ``report.md``, ``study.json`` and ``runs.csv``."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fledge
from fledge.files import write_bytes, write_json
from fledge.study.results import Arm, Difference
from fledge.study.statistics import Summary
from fledge.study.study import Findings
from fledge.visualize.charts import BarSeries, Series, line_chart, paired_chart
from fledge.visualize.forest import Effect, forest_chart
from fledge.visualize.page import Page, Stat
from fledge.visualize.palette import TONES, Tone
from fledge.visualize.table import Column, Spread, Value


def write_all(found: Findings, out: Path) -> None:
    """Write every form of the report into ``out``.

    Raises:
        ResourceError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", study_record(found))
    write_bytes(out / "runs.csv", runs_csv(found).encode())
    write_bytes(out / "report.md", markdown(found).encode())
    page(found).write(out / "report.html")


def study_record(found: Findings) -> dict[str, Any]:
    """All of it as plain values; None for what is not a number."""
    study = found.declared.study
    record: dict[str, Any] = _plain(
        {
            "title": study.title,
            "sha256": found.declared.sha256,
            "declared": study.model_dump(mode="json"),
            "verdicts": found.verdicts,
            "notes": found.notes,
            "objects": found.objects,
            "teachers": found.teachers,
            "tuned": {name: dataclasses.asdict(t) for name, t in found.tuned.items()},
            "arms": {
                name: {m: {"seeds": arm.scores[m], **dataclasses.asdict(arm.summary(m))} for m in arm.scores}
                for name, arm in found.arms.items()
            },
            "differences": [dataclasses.asdict(d) for d in found.differences],
            "versions": _versions(),
        }
    )
    return record


def runs_csv(found: Findings) -> str:
    """One row a reported run: arm, seed, measures in points, seconds of training, failure, key of its record."""
    text = io.StringIO(newline="")
    measures = _measures(found)
    writer = csv.writer(text)
    writer.writerow(["arm", "seed", *measures, "seconds", "failed", "key"])
    for record in found.records:
        scores = [found.arms[record["arm"]].scores[m][record["seed"]] for m in measures]
        shown = ["" if math.isnan(v) else f"{v:.4f}" for v in scores]
        seconds = record.get("seconds", {}).get("train", "")
        writer.writerow([record["arm"], record["seed"], *shown, seconds, record.get("failed", ""), record["key"]])
    return text.getvalue()


def markdown(found: Findings) -> str:
    """The report as a page of text, for results pages."""
    study, measures = found.declared.study, _measures(found)
    lines = [f"# {study.title}", ""]
    lines += [f"- {sentence}" for sentence in found.verdicts] + [f"- {note}" for note in found.notes] + [""]
    lines += [f"| arm | {' | '.join(measures)} | seeds | minutes a run |", "|---" * (len(measures) + 3) + "|"]
    for name, scores in found.teachers.items():
        cells = " | ".join(_number(scores["reported"][m]) for m in measures)
        lines.append(f"| {name} | {cells} | 1 | |")
    for name, arm in found.arms.items():
        cells = " | ".join(_spread(arm.summary(m)) for m in measures)
        lines.append(f"| {name} | {cells} | {arm.summary(study.primary).n} | {_minutes(arm)} |")
    lines += ["", "| minus | | mean [95 %] | bootstrap | above | p | Holm | power | seeds needed |", "|---" * 9 + "|"]
    lines += [f"| {' | '.join(_row(d))} |" for d in found.differences]
    lines += ["", f"Mean ± sd over seeds, points. Study {found.declared.sha256[:16]}; {_environment()}."]
    return "\n".join(lines) + "\n"


def page(found: Findings) -> Page:
    """The report as one self-contained page."""
    study = found.declared.study
    seeds = ", ".join(map(str, study.seeds))
    result = Page(study.title, f"{len(found.arms)} arms, seeds {seeds}; {study.primary} is compared")
    for sentence in found.verdicts:
        result.note(sentence)
    for note in found.notes:
        result.note(note, "warning")
    _headline(result, found)
    _arms(result, found)
    _differences(result, found)
    _tuning(result, found)
    if found.curves:
        tones = _tones(found)
        curves = [Series(name, x, y, tones[name]) for name, (x, y) in found.curves.items()]
        result.heading("Learning curves")
        result.figure(
            line_chart(curves, "step", "loss", "Loss", log_y=True), "One run an arm; the loss has all its terms."
        )
    _every_run(result, found)
    result.footer(
        {
            "study": f"`{found.declared.sha256}` (its file, recipes and lists)",
            "declared": "; ".join(f"{a} − {b}" for a, b in study.comparisons),
            "environment": _environment(),
        }
    )
    return result


def _headline(result: Page, found: Findings) -> None:
    primary, tones = found.declared.study.primary, _tones(found)
    stats = []
    for name, scores in found.teachers.items():
        stats.append(Stat(f"{name}, {primary}", _number(scores["reported"][primary]), "one run", "teacher"))
    for name, arm in found.arms.items():
        summary = arm.summary(primary)
        stats.append(
            Stat(
                f"{name}, {primary}",
                _number(summary.mean),
                f"± {_number(summary.sd)} over {summary.n} seeds",
                tones[name],
            )
        )
    result.stats(stats)


def _arms(result: Page, found: Findings) -> None:
    """A table of arms, and the dots of every seed."""
    study, tones = found.declared.study, _tones(found)
    measures = _measures(found)
    columns = [
        Column("arm"),
        *(Column(m, ".1f", "high") for m in measures),
        Column("seeds", "d"),
        Column("minutes a run"),
    ]
    rows: list[list[Value]] = []
    for name, arm in found.arms.items():
        summaries = [arm.summary(m) for m in measures]
        spreads = [Spread(s.mean, s.sd) for s in summaries]
        minutes = float(np.mean(arm.seconds)) / 60 if arm.seconds else None
        rows.append([name, *spreads, summaries[0].n, minutes])
    result.heading("Arms")
    result.table(columns, rows, caption="Mean and standard deviation over seeds, points.", tones=list(tones.values()))
    seeds = sorted({seed for arm in found.arms.values() for seed in arm.scores[study.primary]})
    dots = [
        BarSeries(name, [arm.scores[study.primary].get(seed, math.nan) for seed in seeds], tones[name])
        for name, arm in found.arms.items()
    ]
    chart = paired_chart([f"seed {s}" for s in seeds], dots, study.primary, f"{study.primary} by seed")
    result.figure(chart, "A dot a seed; lines join the runs of one seed.")


def _differences(result: Page, found: Findings) -> None:
    tones = _tones(found)
    primary = found.declared.study.primary
    effects = [
        Effect(f"{d.arm} − {d.reference}", d.result.mean, *d.result.t_interval, tones[d.arm])
        for d in found.differences
        if d.result and d.measure == primary
    ]
    result.heading("Differences")
    if effects:
        result.figure(
            forest_chart(effects, f"{primary}, points", "Differences"), "Mean paired difference, 95 % t-interval."
        )
    names = ("minus", "", "mean [95 %]", "bootstrap", "above", "p", "Holm", "power", "seeds needed")
    result.table(
        [Column(name) for name in names],
        [_row(d) for d in found.differences],
        caption="p: exact two-sided sign-flip test. Holm: over the declared comparisons. Power: of a t-test to find a "
        "difference of this size and spread with as many seeds; seeds needed for 80 %. Rows that were not declared "
        "describe, they test nothing.",
    )


def _row(difference: Difference) -> list[str]:
    d, r = difference, difference.result
    name = f"{d.arm} − {d.reference}"
    kind = f"{d.measure}{'' if d.declared else ', not declared'}"
    if r is None:
        return [name, kind, *["n/a"] * 7]
    low, high = r.t_interval
    boot = r.bootstrap_interval
    return [
        name,
        kind,
        f"{r.mean:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"[{boot[0]:+.1f}, {boot[1]:+.1f}]",
        f"{r.wins}/{r.n}",
        f"{r.p:.3g}",
        f"{d.adjusted:.3g}" if math.isfinite(d.adjusted) else "",
        f"{r.power:.2f}",
        "over 10,000" if r.seeds_needed is None else str(r.seeds_needed),
    ]


def _tuning(result: Page, found: Findings) -> None:
    if not found.tuned:
        return
    primary = found.declared.study.primary
    result.heading("Tuning")
    rows: list[list[Value]] = []
    for name, tuned in found.tuned.items():
        for point, scores in tuned.tried:
            settings = ", ".join(f"{k} {v:g}" for k, v in point.items())
            chosen = ("chosen, at the edge" if tuned.edges else "chosen") if point == tuned.point else ""
            rows.append([name, settings, float(np.mean(scores)), ", ".join(_number(s) for s in scores), chosen])
    with result.details("Every point that was tried"):
        result.table(
            [Column("arm"), Column("settings"), Column(f"mean {primary}"), Column("by seed"), Column("")],
            rows,
            caption="On the tuning split, with the tuning seeds; none of them is reported.",
        )


def _every_run(result: Page, found: Findings) -> None:
    measures = _measures(found)
    columns = [Column("arm"), Column("seed", "d"), *(Column(m) for m in measures), Column("minutes"), Column("record")]
    rows: list[list[Value]] = []
    for record in found.records:
        scores = [found.arms[record["arm"]].scores[m][record["seed"]] for m in measures]
        seconds = record.get("seconds", {}).get("train")
        state = f"failed: {record['failed']}" if "failed" in record else record["key"]
        rows.append([record["arm"], record["seed"], *scores, seconds / 60 if seconds else None, state])
    result.heading("Every run")
    with result.details(f"{len(rows)} reported runs"):
        result.table(columns, rows)


def _measures(found: Findings) -> tuple[str, ...]:
    return (found.declared.study.primary, *found.declared.study.secondary)


def _tones(found: Findings) -> dict[str, Tone]:
    """A colour role for each arm; the teacher has its own."""
    own = [tone for tone in TONES if tone != "teacher"]
    return {name: own[k % len(own)] for k, name in enumerate(found.arms)}


def _spread(summary: Summary) -> str:
    return f"{_number(summary.mean)} ± {_number(summary.sd)}"


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "n/a"


def _minutes(arm: Arm) -> str:
    return f"{np.mean(arm.seconds) / 60:.1f}" if arm.seconds else ""


def _versions() -> dict[str, str]:
    return {"fledge": fledge.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _environment() -> str:
    return ", ".join(f"{k} {v}" for k, v in _versions().items())


def _plain(value: Any) -> Any:
    """Numbers that are not finite become None, tuples lists, keys text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
