"""Study A (benchmarks/studies/synthetic) as it is declared, on fewer images and with fewer steps.

Two minutes on one core. It says nothing of the methods: after so few steps nobody has learnt anything.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.studies.synthetic.bars import write_bars

from fledge.study import runner
from fledge.study.jobs import run_job
from fledge.study.study import Findings, study

pytestmark = pytest.mark.slow

DECLARED = Path(__file__).parents[2] / "benchmarks" / "studies" / "synthetic"
ARMS = ["none", "pkd", "logit", "shuffled", "itself"]
SEEDS = set(range(100, 108))


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    """Runs take less time than a process of their own takes to start."""

    def process(spec: Path) -> int:
        run_job(spec)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_process", process)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The declared study beside its data and recipes that are over soon."""
    folder = tmp_path_factory.mktemp("synthetic")
    write_bars(folder / "bars", {"train": 48, "tune": 24, "test": 24})
    for name, epochs in (("student", (6, 2)), ("teacher", (18, 4))):
        declared = (DECLARED / f"{name}.toml").read_text()
        short = declared.replace(f"epochs = {epochs[0]}\n", f"epochs = {epochs[1]}\n")
        assert short != declared
        (folder / f"{name}.toml").write_text(short)
    return Path(shutil.copy(DECLARED / "study.toml", folder / "study.toml"))


@pytest.fixture(scope="module")
def found(file: Path) -> Findings:
    return study(file, file.parent / "out", workers=1)


def test_every_run_is_there(found: Findings) -> None:
    assert list(found.arms) == ARMS
    for arm in found.arms.values():
        assert not arm.failures
        assert set(arm.scores["AP50"]) == SEEDS
        assert all(map(math.isfinite, (*arm.scores["AP50"].values(), *arm.scores["AP75"].values())))
    assert set(found.tuned) == {"none", "pkd", "logit"}
    assert all(len(tuned.tried) == 4 for tuned in found.tuned.values())
    rates = {record["arm"]: record["resolved"]["lr"] for record in found.records}
    assert rates["pkd"] == rates["shuffled"] == rates["itself"] == found.tuned["pkd"].point["lr"]


def test_the_declared_comparisons_are_tested_and_the_others_described(found: Findings) -> None:
    pairs = [("pkd", "none"), ("logit", "none"), ("pkd", "shuffled"), ("pkd", "itself")]
    rows = [d for d in found.differences if d.declared and d.measure == "AP50"]
    assert [(d.arm, d.reference) for d in rows] == pairs
    for row in rows:
        assert row.result is not None
        scores = [found.arms[name].scores["AP50"] for name in (row.arm, row.reference)]
        assert row.result.mean == pytest.approx(sum(scores[0][s] - scores[1][s] for s in SEEDS) / 8)
        assert 2 / 2**8 <= row.result.p <= row.adjusted <= 1
    others = [(d.arm, d.reference) for d in found.differences if not d.declared]
    assert others == [("shuffled", "none"), ("itself", "none")]
    assert all(math.isnan(d.adjusted) for d in found.differences if not d.declared)
    assert len(found.verdicts) == 4


def test_nothing_is_claimed_unless_the_teacher_leads(found: Findings) -> None:
    lead = found.teachers["teacher"]["tuning"]["AP50"] - found.tuned["none"].score
    barred = [note for note in found.notes if "entry condition fails" in note]
    assert bool(barred) == (lead < 3)
    assert all(("Nothing is claimed" in verdict) == bool(barred) for verdict in found.verdicts)


def test_the_report(file: Path, found: Findings, open_page: Callable[..., Any]) -> None:
    out = file.parent / "out"
    record = json.loads((out / "study.json").read_text())
    assert record["sha256"] == found.declared.sha256
    assert [row["result"]["n"] for row in record["differences"]] == [8] * len(found.differences)
    with (out / "runs.csv").open() as text:
        assert {(row["arm"], int(row["seed"])) for row in csv.DictReader(text)} == {(a, s) for a in ARMS for s in SEEDS}
    assert all(f"| {name} |" in (out / "report.md").read_text() for name in ("teacher", *ARMS))
    facts = open_page(out / "report.html")
    assert (facts.console, facts.requests, facts.broken, facts.overflow) == ([], [], [], [])


def test_a_run_of_each_arm_done_again_is_the_same(file: Path, found: Findings) -> None:
    """Also what the runs depend on: the teacher, and the student as its own."""
    out = file.parent / "out"
    again = [record["key"] for record in found.records if record["seed"] == 103]
    assert len(set(again)) == len(ARMS)
    shutil.rmtree(out / "runs")  # teachers are needed, so they are trained again
    for key in again:
        (out / "records" / f"{key}.json").unlink()
    repeated = study(file, out, workers=1)
    assert {path.name for path in (out / "runs").iterdir()} > set(again)
    assert [arm.scores for arm in repeated.arms.values()] == [arm.scores for arm in found.arms.values()]
    assert repeated.verdicts == found.verdicts
