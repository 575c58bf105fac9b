"""Runs that exist already, compared as a study compares its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fledge import api
from fledge.errors import UsageError
from fledge.recipe import DistillRecipe, Recipe, load_recipe
from fledge.study.jobs import figures_record
from fledge.study.results import arm_of, differences, verdict
from fledge.study.spec import Arm, Declared, Measure, Study
from fledge.study.study import Findings, learning_curve

AFTERWARDS = "compared after the runs were made: nothing here was declared before, so a chance finding is likelier"


def compare_runs(
    runs: Sequence[tuple[str, Path]],
    out: str | Path,
    data: str | Path | None = None,
    split: str | None = None,
    primary: Measure = "AP50",
    device: str = "auto",
) -> Findings:
    """Evaluate finished runs, pair them by seed, and write the reports of a study into ``out``.

    Args:
        runs: (name of the arm, run folder); the first arm is the reference; an empty name is the recipe's method.
        out: folder for the reports.
        data, split: what they are evaluated on; by default what their recipes say.
        primary: the measure that is compared.
        device: where to compute.

    Raises:
        UsageError: fewer than two arms; runs of one arm that differ in more than their seed, or share it; runs
            evaluated on different labels, or by different protocols.
        DataError: a run or the data cannot be used.
    """
    from fledge.study.report import write_all

    recipes = {run: load_recipe(run / "recipe.toml") for _, run in runs}
    arms: dict[str, list[Path]] = {}
    for name, run in runs:
        arms.setdefault(name or recipes[run].method, []).append(run)
    if len(arms) < 2:
        raise UsageError(
            f"compare: only {', '.join(arms)}: name two arms, as in plain=runs/a plain=runs/b kd=runs/c kd=runs/d"
        )
    notes = [AFTERWARDS]
    for name, members in arms.items():
        notes += _check_alike(name, [recipes[run] for run in members])
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    labels, rules = set(), set()
    for name, members in arms.items():
        for run in members:
            found = api.evaluate(run, data, split, device=device, title=f"{name}: {run.name}")
            labels.add(found.about["labels_sha256"])
            rules.add(found.metrics.protocol.name)
            about = {
                "arm": name,
                "seed": recipes[run].seed,
                "title": str(run),
                "key": str(run),
                "seconds": {"train": 0.0},
            }
            records[name].append({**about, **figures_record(found.metrics)})
    if len(labels) > 1:
        raise UsageError("compare: the runs are evaluated on different labels: give --data and --split")
    if len(rules) > 1:
        raise UsageError(
            f"compare: {' and '.join(sorted(rules))}: figures of oriented and of horizontal boxes are not comparable: "
            "compare runs of one kind"
        )
    declared = _declared(arms, recipes, primary, sorted(labels)[0])
    scored = {name: arm_of(rows, (primary, "AP75"), 0) for name, rows in records.items()}
    pairs = differences(scored, declared.study)
    whole = records[next(iter(records))][0]
    findings = Findings(
        declared=declared,
        arms=scored,
        tuned={},
        teachers={},
        differences=pairs,
        verdicts=[verdict(d, None) for d in pairs if d.declared and d.measure == primary],
        notes=notes,
        objects=dict(zip(whole["classes"], whole["objects"], strict=True)),
        records=[record for rows in records.values() for record in rows],
        curves={name: curve for name, members in arms.items() if (curve := learning_curve(members[0]))},
    )
    write_all(findings, Path(out))
    return findings


def _check_alike(name: str, recipes: Sequence[Recipe]) -> list[str]:
    """Notes on what may differ within an arm: weights that were set from gradients at each run's start."""
    free = {"seed", "teacher", "workers", "device"}
    weights = {field for r in recipes if isinstance(r, DistillRecipe) for field in r.weight_fields().values()}
    plain = [r.model_dump(exclude=free | weights) for r in recipes]
    other = next((r for r in plain if r != plain[0]), None)
    if other is not None:
        keys = sorted(k for k in {*plain[0], *other} if plain[0].get(k) != other.get(k))
        raise UsageError(f"compare: the runs of {name} differ in {', '.join(keys)}: they may differ in their seed only")
    if len({r.seed for r in recipes}) < len(recipes):
        raise UsageError(f"compare: two runs of {name} have the same seed: name each seed once")
    values = {field: [getattr(r, field) for r in recipes] for field in sorted(weights)}
    return [
        f"{name}: {field} differs between the runs: {', '.join(f'{v:g}' for v in own)}"
        for field, own in values.items()
        if len(set(own)) > 1
    ]


def _declared(arms: dict[str, list[Path]], recipes: dict[Path, Recipe], primary: Measure, labels: str) -> Declared:
    reference, *others = arms
    seeds = tuple(sorted({recipes[run].seed for members in arms.values() for run in members}))
    if len(seeds) < 2:
        raise UsageError("compare: one seed only: train each arm with two or more")
    study = Study(
        title="Comparison of runs",
        base="",
        primary=primary,
        secondary=() if primary == "AP75" else ("AP75",),
        seeds=seeds,
        comparisons=tuple((name, reference) for name in others),
        tuning={"seeds": ()},
        arms={name: Arm() for name in arms},
    )
    digest = hashlib.sha256(labels.encode())
    for members in arms.values():
        for run in members:
            digest.update(recipes[run].model_dump_json().encode())
    first = recipes[next(iter(arms.values()))[0]]
    return Declared(study=study, folder=Path(), sha256=digest.hexdigest(), base=first, teacher=None)
