"""A study at every combination of some settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fledge.errors import UsageError
from fledge.study.cells import cells_of, titled
from fledge.study.plan import Plan
from fledge.study.results import Difference, arm_of, differences, foreseen
from fledge.study.spec import load_study

from .made import record, write_study

ACROSS = "across.train_list = ['few.txt', 'all.txt']\nacross.epochs = [2, 4]\n"
SEEDS = range(100, 108)


def lists(folder: Path) -> None:
    (folder / "few.txt").write_text("a\n")
    (folder / "all.txt").write_text("a\nb\n")


def test_cells(tmp_path: Path) -> None:
    lists(tmp_path)
    declared = load_study(write_study(tmp_path, ACROSS))
    cells = cells_of(declared)
    assert list(cells) == ["few, epochs 2", "few, epochs 4", "all, epochs 2", "all, epochs 4"]
    plans = {name: Plan(one) for name, one in cells.items()}
    for name, plan in plans.items():
        images, epochs = name.split(", epochs ")
        (teacher,) = plan.teachers()
        jobs = plan.reports(teacher, {})
        assert {Path(job.recipe.train_list).stem for jobs_ in jobs.values() for job in (*jobs_, teacher)} == {images}
        assert {job.recipe.epochs for rows in jobs.values() for job in rows} == {int(epochs)}
        assert teacher.recipe.epochs == 3  # a schedule is the arms' own
        assert all(job.teacher == teacher for job in jobs["kd"])
    teachers = {name: plan.teachers()[0] for name, plan in plans.items()}
    assert teachers["few, epochs 2"] == teachers["few, epochs 4"] != teachers["all, epochs 2"]


def test_without_across_there_is_one_cell(tmp_path: Path) -> None:
    declared = load_study(write_study(tmp_path))
    assert cells_of(declared) == {"": declared}
    assert titled("kd", "") == "kd"


def test_lists_are_part_of_the_hash_and_mistakes_show_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no list of images"):
        load_study(write_study(tmp_path, ACROSS))
    lists(tmp_path)
    first = load_study(write_study(tmp_path, ACROSS)).sha256
    (tmp_path / "few.txt").write_text("c\n")
    assert load_study(tmp_path / "study.toml").sha256 != first
    with pytest.raises(UsageError, match="epoch"):
        cells_of(load_study(write_study(tmp_path, "across.epochs = [2, 0]")))
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        cells_of(load_study(write_study(tmp_path, "across.epoch = [2]")))


def test_comparisons_stay_within_a_cell_and_are_all_adjusted(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, arms="[arms.other]\nset = { hflip = false }\n")).study
    gains = {"few": 0.2, "all": 0.1}
    arms = {
        f"{name}, {cell}": arm_of(
            [record(name, s, (s - 99) / 100 + (gain if name == "kd" else 0)) for s in SEEDS], ("AP50", "AP75"), 0
        )
        for cell, gain in gains.items()
        for name in ("none", "kd", "other")
    }
    found = differences(arms, study, list(gains))
    assert [(d.arm, d.reference, d.measure, d.declared) for d in found] == [
        row
        for cell in gains
        for row in (
            (f"kd, {cell}", f"none, {cell}", "AP50", True),
            (f"kd, {cell}", f"none, {cell}", "AP75", True),
            (f"other, {cell}", f"none, {cell}", "AP50", False),
        )
    ]
    assert [mean(d) for d in found if d.declared and d.measure == "AP50"] == pytest.approx([10.0, 5.0])
    # Every one of 8 pairs is above: p is 2 / 2^8, and Holm doubles the smaller of two.
    assert [d.adjusted for d in found if d.declared and d.measure == "AP50"] == pytest.approx([2 / 128, 2 / 128])


def mean(difference: Difference) -> float:
    assert difference.result is not None
    return difference.result.mean


def test_what_no_result_could_decide_is_counted_over_all_cells(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path)).study.model_copy(update={"seeds": tuple(range(100, 106))})
    assert foreseen(study) == []
    assert "among 2 comparisons" in foreseen(study, cells=2)[0]
