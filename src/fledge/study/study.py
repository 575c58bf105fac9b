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
from fledge.study.cells import cells_of, titled
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
from fledge.study.spec import Declared, load_study, located

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        declared: the study.
        arms: the reported runs by arm; in a study across cells, an arm's name goes on with its cell's.
        tuned: what tuning chose, by arm; arms without a grid are absent.
        teachers: of each its scores by measure on the ``tuning`` split and on the ``reported`` one.
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
    teachers: dict[str, dict[str, dict[str, float]]]
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
    plans = {name: Plan(one, device) for name, one in cells_of(declared).items()}
    runner = Runner(Path(out), workers, ray)
    notes = foreseen(declared.study, len(plans))
    for note in notes:
        say(f"note: {note}")
    cells = {name: _prepared(plan, runner) for name, plan in plans.items()}
    runner.run("reported runs", all_jobs(*(cell.reports for cell in cells.values())))
    findings = _findings(declared, runner, cells, notes)
    write_all(findings, Path(out))
    return findings


@dataclass(frozen=True)
class _Cell:
    """What is known of a cell before its reported runs: the teacher, and the tuned jobs."""

    teacher: tuple[Job, Tuned] | None
    tuned: dict[str, Tuned]
    reports: dict[str, list[Job]]


def _prepared(plan: Plan, runner: Runner) -> _Cell:
    teacher = _teacher(plan, runner)
    job = teacher[0] if teacher else None
    tuned = _tuned(plan, runner, job)
    return _Cell(teacher, tuned, plan.reports(job, {name: t.point for name, t in tuned.items()}))


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


def _findings(declared: Declared, runner: Runner, cells: Mapping[str, _Cell], notes: Sequence[str]) -> Findings:
    spec = declared.study
    reports = {titled(name, at): jobs for at, cell in cells.items() for name, jobs in cell.reports.items()}
    tuned = {titled(name, at): t for at, cell in cells.items() for name, t in cell.tuned.items()}
    records = {name: [{**runner.record(job), "arm": name} for job in jobs] for name, jobs in reports.items()}
    measures = (spec.primary, *spec.secondary)
    arms = {name: arm_of(rows, measures, spec.min_objects) for name, rows in records.items()}
    found = differences(arms, spec, list(cells))
    bars = {at: entry(cell.teacher[1].score if cell.teacher else None, cell.tuned, spec) for at, cell in cells.items()}
    barred = {titled(name, at): bars[at] for at, cell in cells.items() for name in cell.reports}
    sentences = [verdict(d, barred[d.arm]) for d in found if d.declared and d.measure == spec.primary]
    everything = [r for rows in records.values() for r in rows]
    whole = next((r for r in everything if "failed" not in r), None)
    objects = dict(zip(whole["classes"], whole["objects"], strict=True)) if whole else {}
    more = [f"failed: {f}" for arm in arms.values() for f in arm.failures]
    more += [
        f"{name}: the best {key} is at the edge of what was tried: a better one may lie beyond"
        for name, t in tuned.items()
        for key in t.edges
    ]
    more += [
        f"{titled(name, at)}: not tuned"
        for at, cell in cells.items()
        for name, arm in spec.arms.items()
        if not arm.of and (name not in cell.tuned or len(cell.tuned[name].tried) < 2)
    ]
    more += _starts(runner, reports)
    few = [f"{name} ({n})" for name, n in objects.items() if n < spec.min_objects]
    more += [f"not part of the means, fewer than {spec.min_objects} objects: {', '.join(few)}"] if few else []
    more += [f"{at}: {bar}" if at else bar for at, bar in bars.items() if bar]
    return Findings(
        declared,
        arms,
        tuned,
        _teacher_scores(declared, runner, cells),
        found,
        sentences,
        [*notes, *more],
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


def _teacher_scores(
    declared: Declared, runner: Runner, cells: Mapping[str, _Cell]
) -> dict[str, dict[str, dict[str, float]]]:
    """Each teacher's measures on the tuning split, and on the split that the arms are reported on."""
    spec, base = declared.study, located(declared.base, declared.folder)
    users: dict[str, list[str]] = {}
    jobs: dict[str, Job] = {}
    for at, cell in cells.items():
        if cell.teacher:
            key = runner.key(cell.teacher[0])
            users.setdefault(key, []).append(at)
            jobs[key] = cell.teacher[0]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for key, job in jobs.items():
        kept = runner.records / f"{key}-reported.json"
        if not kept.exists():
            data = base.eval_data or base.data
            result = api.evaluate(
                runner.run_folder(job), data, base.eval_split, device=job.recipe.device, names=base.eval_list
            )
            write_json(kept, {"format": FORMAT, **figures_record(result.metrics)})
        records = {"tuning": runner.record(job), "reported": read_record(kept)}
        title = "teacher" if len(jobs) == 1 else titled("teacher", "; ".join(users[key]))
        found[title] = {
            where: {m: measured(record, m, spec.min_objects) for m in (spec.primary, *spec.secondary)}
            for where, record in records.items()
        }
    return found


def learning_curve(run: Path) -> Curve | None:
    """Steps and loss of a run, if its log is here."""
    if not (run / "metrics.csv").exists():
        return None
    rows = [(float(step), value) for step, name, value in read_metrics(run / "metrics.csv") if name == "loss"]
    return [s for s, _ in rows], [v for _, v in rows]
