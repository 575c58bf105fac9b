"""From the records of runs to what was chosen, what differs, and the sentence that allows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fledge.study.cells import titled
from fledge.study.spec import Settings, Study
from fledge.study.statistics import Comparison, Summary, can_be_found, compare, holm, summarise

Record = Mapping[str, Any]


def measured(record: Record, measure: str, min_objects: int = 0) -> float:
    """A run's mean of a measure in points (0 ... 100) over the classes with enough objects; NaN for a failed run."""
    if "failed" in record:
        return math.nan
    rows = zip(record["figures"][measure], record["objects"], strict=True)
    values = [100 * v for v, n in rows if v is not None and n >= max(min_objects, 1)]
    return statistics.mean(values) if values else math.nan


@dataclass(frozen=True)
class Tuned:
    """What tuning chose for one arm.

    Attributes:
        point: the best settings.
        score: mean of the primary measure there over the tuning seeds.
        tried: every point with its scores, seed by seed.
        edges: settings whose best value is the first or last one tried, so that a better one may lie beyond.
    """

    point: Settings
    score: float
    tried: tuple[tuple[Settings, tuple[float, ...]], ...]
    edges: tuple[str, ...]


def choose(records: Sequence[Record], study: Study) -> Tuned:
    """The point whose runs have the highest mean; one with a failed run is never chosen unless all have."""
    points: list[Settings] = []
    for record in records:
        if record["point"] not in points:
            points.append(record["point"])
    tried = tuple(
        (p, tuple(measured(r, study.primary, study.min_objects) for r in records if r["point"] == p)) for p in points
    )
    means = [statistics.mean(scores) if all(map(math.isfinite, scores)) else -math.inf for _, scores in tried]
    best = max(range(len(points)), key=lambda k: means[k])
    edges = []
    for name, value in points[best].items():
        values = sorted({p[name] for p in points})
        if len(values) > 1 and value in (values[0], values[-1]):
            edges.append(name)
    return Tuned(points[best], means[best], tried, tuple(edges))


@dataclass(frozen=True)
class Arm:
    """The reported runs of one arm.

    Attributes:
        scores: by measure, from seed to points; NaN for failed runs.
        failures: messages of the failed ones.
        seconds: of training, a run.
    """

    scores: dict[str, dict[int, float]]
    failures: tuple[str, ...]
    seconds: tuple[float, ...]

    def summary(self, measure: str) -> Summary:
        """Over the runs that did not fail."""
        return summarise([v for v in self.scores[measure].values() if math.isfinite(v)])


def arm_of(records: Sequence[Record], measures: Sequence[str], min_objects: int) -> Arm:
    """The records of one arm's reported runs."""
    return Arm(
        {m: {r["seed"]: measured(r, m, min_objects) for r in records} for m in measures},
        tuple(f"{r['title']}: {r['failed']}" for r in records if "failed" in r),
        tuple(r["seconds"]["train"] for r in records if "failed" not in r),
    )


@dataclass(frozen=True)
class Difference:
    """One comparison.

    Attributes:
        arm, reference: their names.
        measure: of which.
        declared: before anything ran.
        result: over the common seeds; None with fewer than two.
        adjusted: Holm's p over the declared comparisons of the primary measure; NaN for others.
    """

    arm: str
    reference: str
    measure: str
    declared: bool
    result: Comparison | None
    adjusted: float


def differences(arms: Mapping[str, Arm], study: Study, cells: Sequence[str] = ("",)) -> list[Difference]:
    """In every cell the declared comparisons by every measure, then the other arms beside the first reference, by the
    primary one.
    """
    measures = (study.primary, *study.secondary)
    shown = [(a, b, m, True) for a, b in study.comparisons for m in measures]
    if study.comparisons:
        reference = study.comparisons[0][1]
        named = {a for a, b in study.comparisons if b == reference}
        shown += [(a, reference, study.primary, False) for a in study.arms if a not in named and a != reference]
    pairs = [(titled(a, cell), titled(b, cell), m, declared) for cell in cells for a, b, m, declared in shown]
    results = [paired(arms[a], arms[b], m) for a, b, m, _ in pairs]
    first = [k for k, (_, _, m, declared) in enumerate(pairs) if declared and m == study.primary]
    adjusted = holm([r.p if (r := results[k]) else 1.0 for k in first])
    by_row = dict(zip(first, adjusted, strict=True))
    return [
        Difference(a, b, m, declared, result, by_row.get(k, math.nan))
        for k, ((a, b, m, declared), result) in enumerate(zip(pairs, results, strict=True))
    ]


def paired(arm: Arm, reference: Arm, measure: str) -> Comparison | None:
    """Over the seeds that succeeded in both."""
    first, second = arm.scores[measure], reference.scores[measure]
    common = [s for s in first if s in second and math.isfinite(first[s]) and math.isfinite(second[s])]
    return compare([first[s] for s in common], [second[s] for s in common]) if len(common) > 1 else None


def foreseen(study: Study, cells: int = 1) -> list[str]:
    """What can be known before anything runs: comparisons that no result could decide, seeds that do not pair."""
    notes = []
    count = len(study.comparisons) * cells
    for a, b in study.comparisons:
        common = set(study.arms[a].seeds or study.seeds) & set(study.arms[b].seeds or study.seeds)
        if not can_be_found(len(common), count):
            among = f" among {count} comparisons" if count > 1 else ""
            notes.append(
                f"{a} against {b}: with {len(common)} common seeds{among} no result can reach 5 % (Holm over exact "
                "sign-flip tests): declare fewer comparisons, or give more seeds"
            )
    return notes


def entry(teacher: float | None, tuned: Mapping[str, Tuned], study: Study) -> str | None:
    """Why nothing may be claimed, if so: the teacher does not lead the tuned reference by enough."""
    reference = study.comparisons[0][1] if study.comparisons else None
    if teacher is None or reference is None or reference not in tuned:
        return None
    lead = teacher - tuned[reference].score
    if lead >= study.entry_margin:
        return None
    return (
        f"the entry condition fails: on the tuning split the teacher has {teacher:.1f} {study.primary} and the tuned "
        f"{reference} {tuned[reference].score:.1f}, a lead of {lead:.1f} where {study.entry_margin:g} were asked for"
    )


def verdict(difference: Difference, barred: str | None) -> str:
    """The sentence that the data allow."""
    result, a, b = difference.result, difference.arm, difference.reference
    if result is None:
        return f"{a} against {b}: fewer than two common seeds: nothing can be said."
    low, high = result.t_interval
    figures = (
        f"{result.mean:+.1f} {difference.measure} (95 % interval {low:+.1f} to {high:+.1f}, {result.n} paired seeds, "
        f"{result.wins} of {result.n} above, sign-flip p {result.p:.3g}"
        + (f", Holm {difference.adjusted:.3g}" if math.isfinite(difference.adjusted) else "")
        + ")"
    )
    if barred:
        return f"{a} minus {b}: {figures}. Nothing is claimed: {barred}."
    if difference.declared and math.isfinite(difference.adjusted) and difference.adjusted < 0.05:
        word = "raised" if result.mean > 0 else "lowered"
        return f"With these data, this schedule and this student, {a} {word} {difference.measure} over {b}: {figures}."
    more = "" if result.seeds_needed is None else f"; about {result.seeds_needed} seeds would show one of this size"
    return f"No difference between {a} and {b} was found: {figures}{more}."
