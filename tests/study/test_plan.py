from __future__ import annotations

from pathlib import Path

import pytest

from fledge.errors import UsageError
from fledge.recipe import DistillRecipe, KDRNetRecipe
from fledge.study.jobs import Job
from fledge.study.plan import Plan
from fledge.study.spec import load_study

from .made import write_data, write_study

CONTROLS = "".join(
    f"[arms.{name}]\ncontrol = '{control}'\nof = '{of}'\n{more}\n"
    for name, control, of, more in (
        ("random", "random_teacher", "kd", ""),
        ("shuffled", "shuffled_pairing", "kd", "seeds = [7, 8, 9]"),
        ("itself", "self_distillation", "kd", ""),
        ("longer", "longer", "none", "factor = 3"),
        ("inherit", "inherit", "none", ""),
    )
)
# An arm from a pre-training of 5 epochs of 1 step on the split `tune`, and what it is to be compared with.
PRETEXT = """
[pretext]
recipe = "student.toml"
set = { train_split = "tune", epochs = 5, eval_split = "nowhere" }
seed = 4
[arms.start]
pretrained = true
[arms.scratch]
control = "scratch"
of = "start"
[arms.more]
control = "scratch_longer"
of = "start"
[arms.boxes]
control = "shuffled_boxes"
of = "start"
[arms.twice]
control = "longer"
of = "start"
"""
CHOSEN = {"none": {"lr": 0.002}, "kd": {"lr": 0.004}}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(load_study(write_study(tmp_path, arms=CONTROLS, schedule="step", milestones=[1])), device="cpu")


def reports(plan: Plan) -> dict[str, list[Job]]:
    return plan.reports(plan.teachers()[0], CHOSEN)


def test_teacher(plan: Plan) -> None:
    (job,) = plan.teachers()
    assert (job.recipe.epochs, job.recipe.seed, job.recipe.eval_split, job.teacher) == (3, 0, "tune", None)


def test_tuning(plan: Plan) -> None:
    jobs = plan.tuning(plan.teachers()[0])
    assert jobs.keys() == {"none", "kd"}
    assert [job.recipe.lr for job in jobs["none"]] == [0.001, 0.002, 0.004]
    assert {job.recipe.seed for job in jobs["kd"]} == {0}
    assert {job.recipe.eval_split for job in jobs["kd"]} == {"tune"}
    assert all(job.teacher == plan.teachers()[0] for job in jobs["kd"])
    assert all(job.teacher is None for job in jobs["none"])


def test_arms(plan: Plan) -> None:
    jobs = reports(plan)
    assert [job.recipe.seed for job in jobs["none"]] == [100, 101]
    assert [job.recipe.seed for job in jobs["shuffled"]] == [7, 8, 9]
    assert {job.recipe.eval_split for jobs in jobs.values() for job in jobs} == {"val"}
    rates = {name: rows[0].recipe.lr for name, rows in jobs.items()}
    assert {name for name, rate in rates.items() if rate == 0.004} == {"kd", "random", "shuffled", "itself"}
    assert {name for name, rate in rates.items() if rate == 0.002} == {"none", "longer", "inherit"}


def test_controls(plan: Plan) -> None:
    jobs = {name: rows[0] for name, rows in reports(plan).items()}
    teacher = plan.teachers()[0]
    for name, control in (("kd", ""), ("random", "random"), ("shuffled", "shuffled"), ("itself", "")):
        recipe = jobs[name].recipe
        assert isinstance(recipe, KDRNetRecipe)
        assert recipe.teacher_control == control
    assert jobs["kd"].teacher == jobs["shuffled"].teacher == jobs["random"].teacher == teacher
    own = jobs["itself"].teacher
    assert own is not None
    assert (own.recipe.method, own.recipe.seed, own.recipe.epochs, own.recipe.lr) == ("none", 0, 1, 0.004)
    assert (jobs["longer"].recipe.epochs, jobs["longer"].recipe.milestones) == (3, (3,))
    assert not isinstance(jobs["inherit"].recipe, DistillRecipe)
    assert jobs["inherit"].recipe.inherit
    assert jobs["inherit"].teacher == teacher


def test_a_variant_takes_the_tuned_settings_of_another_arm(tmp_path: Path) -> None:
    plan = Plan(load_study(write_study(tmp_path, arms="[arms.colder]\nof = 'kd'\nset = { kd_temperature = 2.0 }\n")))
    jobs = reports(plan)
    assert "colder" not in plan.tuning(plan.teachers()[0])
    colder, kd = jobs["colder"][0], jobs["kd"][0]
    assert isinstance(kd.recipe, KDRNetRecipe)
    assert colder.recipe == kd.recipe.model_copy(update={"kd_temperature": 2.0})
    assert colder.teacher == kd.teacher


def test_pretraining(tmp_path: Path) -> None:
    write_data(tmp_path)  # 4 images to train on, 2 steps an epoch; the pretext has 2, one step
    file = write_study(tmp_path, arms=PRETEXT, schedule="step", milestones=[3], epochs=4, weights="imagenet")
    plan = Plan(load_study(file))
    jobs = {name: rows[0] for name, rows in plan.reports(plan.teachers()[0], {"start": {"lr": 0.004}}).items()}
    pretext = jobs["start"].start
    assert pretext is not None
    assert (pretext.phase, pretext.recipe.seed, pretext.recipe.train_split) == ("pretext", 4, "tune")
    assert (pretext.recipe.label_control, pretext.recipe.weights) == ("", "imagenet")
    shuffled = jobs["boxes"].start
    assert shuffled is not None
    assert shuffled.recipe == pretext.recipe.model_copy(update={"label_control": "shuffled"})
    assert jobs["twice"].start == pretext
    for name in ("start", "boxes", "twice"):
        assert (jobs[name].recipe.weights, jobs[name].recipe.reset_head) == ("pretext", True)
    for name in ("scratch", "more", "none"):  # from where the base starts
        assert (jobs[name].recipe.weights, jobs[name].recipe.reset_head, jobs[name].start) == ("imagenet", False, None)
    for name in ("scratch", "more", "boxes", "twice"):
        assert jobs[name].recipe.lr == 0.004
        assert jobs[name].recipe.label_control == ""
    # 5 steps more are 2.5 epochs more, so 3; the milestone keeps its place in the schedule.
    assert (jobs["more"].recipe.epochs, jobs["more"].recipe.milestones) == (7, (5,))
    assert (jobs["scratch"].recipe.epochs, jobs["twice"].recipe.epochs) == (4, 8)
    assert plan.tuning(plan.teachers()[0])["start"][0].start == pretext


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("control = 'shuffled_pairing'\nof = 'none'", "none has no teacher"),
        ("control = 'longer'\nof = 'kd'", "kd has a teacher"),
        ("set = { lr = -1 }", "lr"),
        ("set = { lrr = 1 }", "did you mean 'lr'"),
    ],
)
def test_mistakes_show_before_anything_runs(tmp_path: Path, arm: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Plan(load_study(write_study(tmp_path, arms=f"[arms.x]\n{arm}\n")))


def test_a_run_as_teacher(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text().replace('recipe = "student.toml"\nset = { epochs = 3 }', 'run = "runs/t"'))
    plan = Plan(load_study(file))
    assert plan.teachers() == []
    job = plan.reports(None, CHOSEN)["kd"][0]
    assert isinstance(job.recipe, DistillRecipe)
    assert (job.recipe.teacher, job.teacher) == (str(tmp_path / "runs/t"), None)
