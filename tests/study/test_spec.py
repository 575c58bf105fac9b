from __future__ import annotations

from pathlib import Path

import pytest

from fledge.errors import UsageError
from fledge.recipe import make_recipe
from fledge.study.spec import load_study, located, points

from .made import write_study


def test_what_is_declared(tmp_path: Path) -> None:
    declared = load_study(write_study(tmp_path))
    assert declared.study.arms.keys() == {"none", "kd"}
    assert declared.base.epochs == 1
    assert declared.teacher is not None
    assert declared.teacher.epochs == 3
    assert declared.study.tuning.seeds == (0,)


def test_the_hash_covers_recipes_and_lists(tmp_path: Path) -> None:
    first = load_study(write_study(tmp_path)).sha256
    assert load_study(tmp_path / "study.toml").sha256 == first
    assert load_study(tmp_path / "study.toml", data="elsewhere", teacher_weights="w.pth").sha256 == first
    assert load_study(write_study(tmp_path, lr=0.5)).sha256 != first
    (tmp_path / "list.txt").write_text("a\n")
    listed = load_study(write_study(tmp_path, train_list="list.txt")).sha256
    (tmp_path / "list.txt").write_text("b\n")
    assert load_study(tmp_path / "study.toml").sha256 != listed


@pytest.mark.parametrize(
    ("more", "arms", "message"),
    [
        ("", "[arms.x]\ncontrol = 'longer'\n", "arms.x: a control needs `of`"),
        ("", "[arms.x]\ncontrol = 'longer'\nof = 'nobody'\n", "arms.x: a control needs `of`"),
        ("", "[arms.x]\ncontrol = 'wrong'\nof = 'none'\n", "arms.x.control"),
        (
            "",
            "[arms.x]\nof = 'none'\ncontrol = 'longer'\n[arms.y]\nof = 'x'\ncontrol = 'longer'\n",
            "x is a control itself",
        ),
        ("", "[arms.x]\nsett = {}\n", "did you mean 'set'"),
        ("", "[arms.x]\nseeds = [0, 5]\n", "seeds \\[0\\] are for tuning and for reporting in x"),
        ("", "[arms.x]\npretrained = true\n", "arms.x: pretrained: the study needs a .pretext."),
        ("", "[arms.x]\ncontrol = 'scratch'\nof = 'none'\n", "none is not pretrained"),
        ("", "[pretext]\nrecipe = 'student.toml'\ngrid = {}", "unknown key"),
        (
            "",
            "[pretext]\nrecipe = 'student.toml'\n[arms.x]\npretrained = true\ncontrol = 'longer'\nof = 'none'\n",
            "a control starts as its control says",
        ),
        ("across.lr = [0.1]", "", "across: lr: set or tried in an arm as well"),
        ("across.kd_cls_weight = [1.0]", "", "across: kd_cls_weight: set or tried"),
        ("across.epochs = [1, 1]", "", "across: epochs: give one value or more, each once"),
        ("across.epochs = []", "", "across: epochs: give one value or more, each once"),
        ("across.eval_split = ['a', 'b']", "", "across: eval_split: all cells are judged on the same images"),
        ("primary = 'mAP'", "", "primary"),
        ("sigma = 3", "", "unknown key 'sigma'"),
    ],
)
def test_mistakes(tmp_path: Path, more: str, arms: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_study(write_study(tmp_path, more, arms))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [100, 101]", "seeds = [100]", "two or more"),
        ("seeds = [100, 101]", "seeds = [0, 1]", "for tuning and for reporting"),
        ('["kd", "none"]', '["kd", "nobody"]', "no arm named nobody"),
        ('recipe = "student.toml"', "", "either recipe or run"),
        ('eval_split = "tune"', "lr = 'x'", "only eval_split"),
        ('base = "student.toml"', 'base = "nowhere.toml"', "no such recipe"),
        ("title", "title = 3 #", "title"),
        ("[tuning]", "[tuning", "not TOML"),
    ],
)
def test_more_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        load_study(file)


def test_a_pretext_has_data_of_its_own_or_those_of_the_arms(tmp_path: Path) -> None:
    for setting, expected in (("", str(tmp_path)), ('data = "pool"', "pool")):
        pretext = f"[pretext]\nrecipe = 'student.toml'\nset = {{ {setting} }}\n"
        declared = load_study(write_study(tmp_path, arms=pretext), data=tmp_path)
        assert declared.pretext is not None
        assert (declared.pretext.data, declared.base.data) == (expected, str(tmp_path))
    assert declared.sha256 != load_study(write_study(tmp_path)).sha256


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such study"):
        load_study(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="no list of images"):
        load_study(write_study(tmp_path, train_list="none.txt"))


def test_points() -> None:
    assert points({"lr": (0.1, 0.2)}, {"w": (1.0,)}) == [{"lr": 0.1, "w": 1.0}, {"lr": 0.2, "w": 1.0}]
    assert points({}, {}) == [{}]


def test_paths_start_from_the_study(tmp_path: Path) -> None:
    recipe = make_recipe({"data": "d", "train_list": "l.txt", "weights": "resnet18.a1_in1k"}, "test")
    moved = located(recipe, tmp_path)
    assert (moved.data, moved.train_list) == (str(tmp_path / "d"), str(tmp_path / "l.txt"))
    assert moved.weights == "resnet18.a1_in1k"  # a name, since there is no such file
