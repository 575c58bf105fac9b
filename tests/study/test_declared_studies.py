"""The studies that are shipped: each can be planned as it stands, and tunes on images that nothing is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fledge.runs import read_list
from fledge.study.jobs import read_record
from fledge.study.plan import Plan
from fledge.study.spec import load_study

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"
FILES = sorted(f for f in STUDIES.rglob("*.toml") if "[arms" in f.read_text())


def test_there_are_some() -> None:
    assert len(FILES) >= 9


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(STUDIES).with_suffix("")))
def test_a_study_can_be_planned(file: Path) -> None:
    plan = Plan(load_study(file))
    teacher = plan.teachers()[0]
    jobs = plan.reports(teacher, {})
    assert {len(rows) for rows in jobs.values()} <= {3, 8}
    for arm, reference in plan.study.comparisons:
        assert len(jobs[arm]) == len(jobs[reference])
    reported = jobs["none"][0].recipe if "none" in jobs else next(iter(jobs.values()))[0].recipe
    for job in (job for rows in plan.tuning(teacher).values() for job in rows):
        recipe = job.recipe
        assert (recipe.eval_split, recipe.eval_list) != (reported.eval_split, reported.eval_list)
        if recipe.train_split == recipe.eval_split:
            assert not set(read_list(Path(recipe.train_list))) & set(read_list(Path(recipe.eval_list)))


@pytest.mark.parametrize(
    "folder", sorted({f.parent for f in STUDIES.rglob("records/*.json")}), ids=lambda f: f.parent.name
)
def test_records_can_be_read(folder: Path) -> None:
    for file in folder.glob("*.json"):
        assert "failed" not in read_record(file)
