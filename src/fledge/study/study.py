"""A study from its file to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fledge import api
from fledge.engine.metric_log import read_metrics
from fledge.engine.progress import say
from fledge.errors import DataError
from fledge.files import write_json
from fledge.study.jobs import FORMAT, Job, figures_record, read_record
from fledge.study.plan import Plan, all_jobs
from fledge.study.results import (
    Arm,
    Difference,
    Tuned,
    arm_of,
    choose,
    differences,
    entry,
    foreseen,
    measured,
    verdict,
)
from fledge.study.runner import Runner
from fledge.study.spec import Declared, Settings, load_study, located

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        declared: the study.
        arms: the reported runs by arm.
        tuned: what tuning chose, by arm; arms without a grid are absent.
        teacher: the teacher's scores by measure on the tuning split and on the reported one; None without a teacher.
        differences: the comparisons.
        verdicts: a sentence for each declared comparison of the primary measure.
        notes: what was known before, what failed, edges of grids, what is not claimed.
        objects: objects by class in the reported split.
        records: of all runs, reported and tuning ones.
        curves: steps and loss of one reported run by arm, where its log is here.
    """

    declared: Declared
    arms: dict[str, Arm]
    tuned: dict[str, Tuned]
    teacher: dict[str, dict[str, float]] | None
    differences: list[Difference]
    verdicts: list[str]
    notes: list[str]
    objects: dict[str, int]
    records: list[dict[str, Any]]
    curves: dict[str, Curve]


def study(
    path: str | Path,
    out: str | Path,
    workers: int | None = None,
    device: str = "",
    ray: str | None = None,
    data: str | Path | None = None,
    teacher_weights: str | Path | None = None,
) -> Findings:
    """Run what is left of a study, compare, and write ``report.html``, ``study.json``, ``runs.csv`` and ``report.md``.

    Every finished run is kept under ``out/records`` by the hash of its recipe and data: an interrupted study goes on,
    and one with more seeds or arms only runs what is new.

    Args:
        path: the study's TOML file.
        out: folder for everything.
        workers: processes at once; None takes as many as there are cores.
        device: replaces the recipes' one.
        ray: address of a Ray cluster, "auto" or "local"; None runs processes here.
        data: dataset folder instead of the recipes' one.
        teacher_weights: starting weights of the teacher's backbone.

    Raises:
        UsageError: the study is wrong.
        Interrupted: the user stopped.
    """
    from fledge.study.report import write_all

    declared = load_study(path, data, teacher_weights)
    plan, runner = Plan(declared, device), Runner(Path(out), workers, ray)
    notes = foreseen(declared.study)
    for note in notes:
        say(f"note: {note}")
    teacher = _teacher(plan, runner)
    tuned = _tuned(plan, runner, teacher[0] if teacher else None)
    chosen: dict[str, Settings] = {name: t.point for name, t in tuned.items()}
    reports = plan.reports(teacher[0] if teacher else None, chosen)
    runner.run("reported runs", all_jobs(reports))
    findings = _findings(declared, runner, reports, tuned, teacher, notes)
    write_all(findings, Path(out))
    return findings


def _teacher(plan: Plan, runner: Runner) -> tuple[Job, Tuned] | None:
    """The teacher's job and how it was chosen; None where the study trains none."""
    jobs = plan.teachers()
    if not jobs:
        return None
    records = [runner.teacher(job) for job in jobs] if len(jobs) == 1 else runner.run("teacher", jobs)
    tuned = choose(records, plan.study)
    best = next(job for job in jobs if job.point == tuned.point)
    if "failed" in runner.teacher(best):
        raise DataError(f"no teacher: {runner.record(best)['failed']}: see the log in {runner.run_folder(best).parent}")
    return best, tuned


def _tuned(plan: Plan, runner: Runner, teacher: Job | None) -> dict[str, Tuned]:
    """By arm, the point with the best mean on the tuning split."""
    tuned: dict[str, Tuned] = {}
    first = plan.tuning(teacher)
    runner.run("tuning", all_jobs(first))
    tuned |= {name: choose(runner.run(name, jobs), plan.study) for name, jobs in first.items()}
    second = plan.controls_tuning(teacher, {name: t.point for name, t in tuned.items()})
    runner.run("tuning of controls", all_jobs(second))
    return tuned | {name: choose(runner.run(name, jobs), plan.study) for name, jobs in second.items()}


def _findings(
    declared: Declared,
    runner: Runner,
    reports: Mapping[str, Sequence[Job]],
    tuned: Mapping[str, Tuned],
    teacher: tuple[Job, Tuned] | None,
    notes: Sequence[str],
) -> Findings:
    spec = declared.study
    records = {name: [runner.record(job) for job in jobs] for name, jobs in reports.items()}
    measures = (spec.primary, *spec.secondary)
    arms = {name: arm_of(rows, measures, spec.min_objects) for name, rows in records.items()}
    found = differences(arms, spec)
    barred = entry(teacher[1].score if teacher else None, tuned, spec)
    sentences = [verdict(d, barred) for d in found if d.declared and d.measure == spec.primary]
    everything = [r for rows in records.values() for r in rows]
    whole = next((r for r in everything if "failed" not in r), None)
    objects = dict(zip(whole["classes"], whole["objects"], strict=True)) if whole else {}
    more = [f"failed: {f}" for arm in arms.values() for f in arm.failures]
    more += [
        f"{name}: the best {key} is at the edge of what was tried: a better one may lie beyond"
        for name, t in tuned.items()
        for key in t.edges
    ]
    more += [f"{name}: not tuned" for name, arm in spec.arms.items() if not arm.of and len(_tried(tuned, name)) < 2]
    more += _starts(runner, reports)
    few = [f"{name} ({n})" for name, n in objects.items() if n < spec.min_objects]
    more += [f"not part of the means, fewer than {spec.min_objects} objects: {', '.join(few)}"] if few else []
    return Findings(
        declared,
        arms,
        dict(tuned),
        _teacher_scores(declared, runner, teacher[0]) if teacher else None,
        found,
        sentences,
        [*notes, *more, *([barred] if barred else [])],
        objects,
        everything,
        {name: curve for name, jobs in reports.items() if (curve := learning_curve(runner.run_folder(jobs[0])))},
    )


def _starts(runner: Runner, reports: Mapping[str, Sequence[Job]]) -> list[str]:
    """What pre-training cost, and that each was run once."""
    starts = {runner.key(job.start): job.start for jobs in reports.values() for job in jobs if job.start}
    notes = []
    for job in starts.values():
        boxes = " on shuffled boxes" if job.recipe.label_control else ""
        minutes = runner.record(job)["seconds"]["train"] / 60
        about = f"{job.recipe.epochs} epochs, seed {job.recipe.seed}, {minutes:.1f} minutes"
        notes.append(f"pre-training{boxes}, {about}: one run, from which all seeds start")
    return notes


def _tried(tuned: Mapping[str, Tuned], name: str) -> Sequence[Any]:
    return tuned[name].tried if name in tuned else ()


def _teacher_scores(declared: Declared, runner: Runner, job: Job) -> dict[str, dict[str, float]]:
    """The teacher's measures on the tuning split, and on the split that the arms are reported on."""
    spec, base = declared.study, located(declared.base, declared.folder)
    kept = runner.records / f"{runner.key(job)}-reported.json"
    if not kept.exists():
        data = base.eval_data or base.data
        found = api.evaluate(
            runner.run_folder(job), data, base.eval_split, device=job.recipe.device, names=base.eval_list
        )
        write_json(kept, {"format": FORMAT, **figures_record(found.metrics)})
    records = {"tuning": runner.record(job), "reported": read_record(kept)}
    measures = (spec.primary, *spec.secondary)
    return {where: {m: measured(record, m, spec.min_objects) for m in measures} for where, record in records.items()}


def learning_curve(run: Path) -> Curve | None:
    """Steps and loss of a run, if its log is here."""
    if not (run / "metrics.csv").exists():
        return None
    rows = [(float(step), value) for step, name, value in read_metrics(run / "metrics.csv") if name == "loss"]
    return [s for s, _ in rows], [v for _, v in rows]
