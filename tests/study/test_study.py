"""A whole study on a few rendered tiles, each run in this process instead of one of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fledge.engine.metric_log import read_metrics
from fledge.errors import NumericError, UsageError
from fledge.recipe import DistillRecipe, load_recipe
from fledge.study import jobs, runner
from fledge.study.compare import compare_runs
from fledge.study.jobs import run_job
from fledge.study.study import study

from .made import write_data, write_study
from .test_plan import CONTROLS, PRETEXT

STARTED: list[str] = []


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    STARTED.clear()

    def process(spec: Path) -> int:
        STARTED.append(json.loads(spec.read_text())["title"])
        run_job(spec)
        return 0

    monkeypatch.setattr(runner, "_process", process)


PLAIN = "[arms.none]\n[arms.other]\nset = { hflip = false }\n"


def write_plain(file: Path) -> None:
    """Two arms without a teacher and without tuning."""
    declared = file.read_text().split("[tuning]")[0].replace('["kd", "none"]', '["other", "none"]')
    file.write_text(declared + PLAIN)


def test_from_the_file_to_the_report(tmp_path: Path) -> None:
    write_data(tmp_path)
    file = write_study(tmp_path, "min_objects = 1", CONTROLS.replace("seeds = [7, 8, 9]", ""))
    found = study(file, tmp_path / "out", workers=1)
    assert {name: len(arm.scores["AP50"]) for name, arm in found.arms.items()} == dict.fromkeys(found.arms, 2)
    assert not any(arm.failures for arm in found.arms.values())
    assert len(STARTED) == 1 + 6 + 1 + 7 * 2  # the teacher, tuning, the student as its own teacher, the arms
    assert "no result can reach 5 %" in found.notes[0]
    for name in ("report.html", "report.md", "study.json", "runs.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 500
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert written["sha256"] == found.declared.sha256
    assert written["arms"]["kd"]["AP50"]["n"] == 2
    rows = (tmp_path / "out" / "runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 14
    resolved = {r["arm"]: r["resolved"] for r in found.records}
    assert isinstance(resolved["kd"]["kd_cls_weight"], float)  # "auto:0.3" has become a number
    assert resolved["shuffled"]["teacher_control"] == "shuffled"
    check_controls({r["arm"]: tmp_path / "out" / "runs" / r["key"] / "run" for r in found.records})

    again = study(file, tmp_path / "out", workers=1)
    assert len(STARTED) == 22  # nothing is run twice
    assert again.records == found.records
    (tmp_path / "out" / "records" / f"{found.records[0]['key']}.json").unlink()
    study(file, tmp_path / "out", workers=1)
    assert len(STARTED) == 23


def test_pretraining_and_its_controls(tmp_path: Path) -> None:
    write_data(tmp_path)
    file = write_study(tmp_path, "", PRETEXT)
    declared = file.read_text().replace('[["kd", "none"]]', '[["start", "scratch"]]').replace("grid.lr", "# grid.lr")
    file.write_text(declared.split("[teacher]")[0] + "[arms.none]\n" + PRETEXT)
    found = study(file, tmp_path / "out", workers=1)
    assert not any(arm.failures for arm in found.arms.values())
    assert STARTED[:2] == ["pretext pretext, seed 4"] * 2  # as it is, and on shuffled boxes
    assert len(STARTED) == 2 + 5 * 2  # untuned, `scratch` and `none` are the same
    runs = {r["arm"]: tmp_path / "out" / "runs" / r["key"] / "run" for r in found.records}
    recipes = {name: load_recipe(run / "recipe.toml") for name, run in runs.items()}
    starts = {name: recipe.weights for name, recipe in recipes.items()}
    assert starts["start"] == starts["twice"] != starts["boxes"]
    assert starts["scratch"] == starts["more"] == starts["none"] == ""
    assert load_recipe(Path(starts["boxes"]) / "recipe.toml").label_control == "shuffled"
    steps = {name: read_metrics(run / "metrics.csv")[-1][0] for name, run in runs.items()}
    assert steps["more"] == steps["start"] + 6  # 5 steps of the pretext, in whole epochs of 2
    losses = {name: first_loss(run) for name, run in runs.items()}
    assert losses["scratch"] == losses["none"]
    assert len({losses[name] for name in ("start", "boxes", "scratch")}) == 3
    assert any("pre-training" in note for note in found.notes)
    study(file, tmp_path / "out", workers=1)
    assert len(STARTED) == 12


def first_loss(run: Path) -> float:
    return next(value for _, name, value in read_metrics(run / "metrics.csv") if name == "loss")


def check_controls(runs: dict[str, Path]) -> None:
    """What the runs of the controls were given; what they make of it is tested with training."""
    recipes = {name: load_recipe(run / "recipe.toml") for name, run in runs.items()}
    steps = {name: read_metrics(run / "metrics.csv")[-1][0] for name, run in runs.items()}
    assert steps == {**dict.fromkeys(runs, steps["none"]), "longer": 3 * steps["none"]}
    kd, itself = recipes["kd"], recipes["itself"]
    assert isinstance(kd, DistillRecipe)
    assert isinstance(itself, DistillRecipe)
    for name, control in (("kd", ""), ("random", "random"), ("shuffled", "shuffled")):
        recipe = recipes[name]
        assert isinstance(recipe, DistillRecipe)
        assert (recipe.teacher, recipe.teacher_control) == (kd.teacher, control)
    assert not isinstance(recipes["inherit"], DistillRecipe)
    assert (recipes["inherit"].inherit, recipes["none"].inherit) == (kd.teacher, "")
    assert itself.teacher != kd.teacher
    own = load_recipe(Path(itself.teacher) / "recipe.toml")  # the student alone, at the method's rate, another seed
    assert own == recipes["none"].model_copy(update={"lr": kd.lr, "seed": 0})


def test_more_seeds_run_only_what_is_new(tmp_path: Path) -> None:
    write_data(tmp_path)
    file = write_study(tmp_path)
    write_plain(file)
    study(file, tmp_path / "out", workers=1)
    before = len(STARTED)
    file.write_text(file.read_text().replace("[100, 101]", "[100, 101, 102]"))
    found = study(file, tmp_path / "out", workers=1)
    assert STARTED[before:] == ["report none, seed 102", "report other, seed 102"]
    assert found.teachers == {}


def test_fractions_and_schedules(tmp_path: Path) -> None:
    """Every arm, and a teacher where the images change, in every cell; one report."""
    write_data(tmp_path)
    names = sorted(p.stem for p in (tmp_path / "data" / "train" / "images").iterdir())
    for name, count in (("few", 2), ("all", 4)):
        (tmp_path / f"{name}.txt").write_text("\n".join(names[:count]))
    file = write_study(tmp_path, "across.train_list = ['few.txt', 'all.txt']\nacross.epochs = [1, 2]")
    declared = file.read_text().replace("[0.001, 0.002, 0.004]", "[0.001]")
    file.write_text(declared)
    found = study(file, tmp_path / "out", workers=1)
    cells = ["few, epochs 1", "few, epochs 2", "all, epochs 1", "all, epochs 2"]
    assert list(found.arms) == [f"{arm}, {cell}" for cell in cells for arm in ("none", "kd")]
    assert not any(arm.failures for arm in found.arms.values())
    assert list(found.teachers) == [f"teacher, {n}, epochs 1; {n}, epochs 2" for n in ("few", "all")]
    # Two teachers; in each of four cells two tuning runs and two seeds of two arms.
    assert len(STARTED) == 2 + 4 * (2 + 2 * 2)
    assert len(found.verdicts) == 4
    runs = {r["arm"]: tmp_path / "out" / "runs" / r["key"] / "run" for r in found.records}
    steps = {cell: read_metrics(runs[f"none, {cell}"] / "metrics.csv")[-1][0] for cell in cells}
    assert steps == dict(zip(cells, (1, 2, 2, 4), strict=True))
    for text in ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md", "runs.csv")):
        assert "kd, all, epochs 2" in text


def test_a_failed_run_is_reported_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    file = write_study(tmp_path)
    write_plain(file)
    from fledge import api

    train = api.train

    def stumble(recipe: Any, out: Any, **more: Any) -> Path:
        if load_recipe(Path(out).parent / "recipe.toml").seed == 101:
            raise NumericError("not finite: planted")
        return train(recipe, out, **more)

    monkeypatch.setattr(api, "train", stumble)
    found = study(file, tmp_path / "out", workers=1)
    assert [f for arm in found.arms.values() for f in arm.failures] == [
        "report none, seed 101: not finite: planted", "report other, seed 101: not finite: planted",
    ]  # fmt: skip
    assert any("planted" in note for note in found.notes)
    assert found.differences[0].result is None
    monkeypatch.setattr(api, "train", train)
    mended = study(file, tmp_path / "out", workers=1)
    assert not any(arm.failures for arm in mended.arms.values())
    assert STARTED[-2:] == ["report none, seed 101", "report other, seed 101"]


def test_records_are_found_on_another_machine(tmp_path: Path) -> None:
    """The identity of a run depends on what the data are, not on where they are."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write_data(tmp_path / name)
        write_study(tmp_path / name)
    first = study(tmp_path / "here" / "study.toml", tmp_path / "here" / "out", workers=1)
    count = len(STARTED)
    (tmp_path / "there" / "out").mkdir()
    (tmp_path / "here" / "out" / "records").rename(tmp_path / "there" / "out" / "records")
    second = study(tmp_path / "there" / "study.toml", tmp_path / "there" / "out", workers=1)
    assert STARTED[count:] == ["teacher teacher, seed 0"]  # whose weights are asked for
    assert [a.scores for a in first.arms.values()] == [a.scores for a in second.arms.values()]


def test_runs_that_exist(tmp_path: Path) -> None:
    write_data(tmp_path)
    found = study(write_study(tmp_path), tmp_path / "out", workers=1)
    runs = [(r["arm"], tmp_path / "out" / "runs" / r["key"] / "run") for r in found.records]
    compared = compare_runs(runs, tmp_path / "compared")
    assert compared.arms["kd"].scores["AP50"].keys() == {100, 101}
    assert next(d.result for d in compared.differences if d.arm == "kd") == found.differences[0].result
    assert "compared after the runs were made" in compared.notes[0]
    assert (tmp_path / "compared" / "report.html").exists()
    with pytest.raises(UsageError, match="two arms"):
        compare_runs(runs[:2], tmp_path / "x")
    with pytest.raises(UsageError, match="differ in"):
        compare_runs([("a", runs[0][1]), ("a", runs[2][1]), ("b", runs[1][1])], tmp_path / "x")
    with pytest.raises(UsageError, match="same seed"):
        compare_runs([("a", runs[0][1]), ("a", runs[0][1]), ("b", runs[2][1])], tmp_path / "x")


def test_a_record_that_is_none(tmp_path: Path) -> None:
    from fledge.errors import DataError

    for text in ("{", "[]", '{"format": 99, "failed": "x"}', '{"format": 1}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(DataError, match="not a record"):
            jobs.read_record(tmp_path / "r.json")


@pytest.mark.slow
def test_in_processes_and_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same records from processes of their own, and from a local Ray cluster."""
    monkeypatch.undo()
    write_data(tmp_path)
    file = write_study(tmp_path)
    scores = []
    for out, ray in (("processes", None), ("ray", "local")):
        if ray:
            pytest.importorskip("ray")
        found = study(file, tmp_path / out, workers=2, ray=ray)
        scores.append({name: arm.scores for name, arm in found.arms.items()})
    assert scores[0] == scores[1]
