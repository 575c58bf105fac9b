from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fledge.errors import UsageError
from fledge.recipe import METHODS, KDRNetRecipe, load_recipe, make_recipe, shipped_recipes, write_recipe


def refused(**settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        make_recipe(settings, "my.toml")
    message = str(caught.value)
    assert "my.toml" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("key", "near"),
    [("learning_rte", None), ("epoch", "epochs"), ("bach_size", "batch_size"), ("anchor_octave", "anchor_octaves")],
)
def test_an_unknown_key_names_the_nearest(key: str, near: str | None) -> None:
    message = refused(**{key: 1})
    assert repr(key) in message
    if near:
        assert f"did you mean {near!r}" in message


def test_a_key_like_no_other_is_to_be_removed() -> None:
    assert "remove it" in refused(zzzz=1)


def test_keys_of_another_method_are_unknown() -> None:
    assert "kd_temperature" in refused(kd_temperature=8.0)
    assert isinstance(make_recipe({"method": "kd_rnet", "kd_temperature": 8.0}, "x"), KDRNetRecipe)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "many"), ("epochs", 1.5), ("epochs", 0), ("epochs", [3]),
        ("lr", 0), ("lr", -1.0), ("lr", float("inf")),
        ("lr", float("nan")), ("image_size", 100), ("image_size", 0), ("view", "zoom"), ("optimizer", "adam"),
        ("batch_size", 0), ("seed", -1), ("workers", -1), ("momentum", 1.0),
        ("positive_iou", 0), ("rotate_degrees", 181),
        ("photometric", 1.1), ("score_threshold", 2), ("milestones", "8"), ("anchor_ratios", 1.0), ("hflip", "maybe"),
        ("data", 3), ("backbone", None),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_named(key: str, value: Any) -> None:
    assert key in refused(**{key: value})


def test_every_problem_is_named_at_once() -> None:
    message = refused(epochs=0, lr=-1, epoch=3)
    assert all(text in message for text in ("epochs:", "lr:", "'epoch'"))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"positive_iou": 0.4, "negative_iou": 0.5}, "negative_iou"),
        ({"scale_low": 1.5, "scale_high": 1.2}, "scale_low"),
        ({"image_size": 64, "overlap": 64}, "overlap"),
        ({"view": "crop", "short_side": 64}, "short_side needs view"),
        ({"view": "fit", "image_size": 512, "short_side": 513}, "short_side needs"),
    ],
)
def test_values_that_contradict_each_other(settings: dict[str, Any], word: str) -> None:
    assert word in refused(**settings)


@pytest.mark.parametrize("method", ["kdrnet", 3, None, ["kd_rnet"]])
def test_unknown_methods(method: Any) -> None:
    assert "kd_rnet" in refused(method=method)


@pytest.mark.parametrize("text", ["lr = ", "lr 0.1", "[", "lr = 1\nlr = 2", "\x00"])
def test_files_that_are_no_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"not TOML: .*bad\.toml"):
        load_recipe(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_an_infinite_number_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("lr = 1e400\n")
    with pytest.raises(UsageError, match="lr"):
        load_recipe(tmp_path / "bad.toml")


def test_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[train]\nlr = 0.1\n")
    with pytest.raises(UsageError, match="train"):
        load_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr = 0.1\n\nepoch = 3\n", r"bad recipe: (\S+bad\.toml):3: unknown key 'epoch', did you mean 'epochs'\?"),
        ("data = '''\nlr = 1\nepoch = 3'''\nepoch = 3\n", r"(\S+bad\.toml):4: unknown key 'epoch'"),
        ("# epochs = 1\n'epochs' = 0\n  lr=-1", r"(\S+bad\.toml):2: epochs: .*; \1:3: lr: "),
        ("lr = 0.1\n[ train ]\nlr = 1\n", r"(\S+bad\.toml):2: unknown key 'train'"),
        ("\nmethod = 'kdrnet'\n", r"unknown method 'kdrnet': (\S+bad\.toml):2: use one of"),
        ("anchor_ratios = [\n  1.0,\n  'x',\n]\n", r"(\S+bad\.toml):1: anchor_ratios\.1: "),
        ('bands = [\n  1, # \'epoch = 1\n]\ndata = "\\"#"\n"epoch" = 3\n', r"(\S+bad\.toml):5: unknown key 'epoch'"),
        ("seed = 1\npositive_iou = 0.4\nnegative_iou = 0.5\n", r"bad recipe: (\S+bad\.toml): "),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        load_recipe(tmp_path / "bad.toml")


def test_a_change_is_on_no_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("lr = 0.1\nepochs = 0\n")
    with pytest.raises(UsageError, match=r"bad\.toml: lr: .*; \S+bad\.toml:2: epochs: "):
        load_recipe(tmp_path / "bad.toml", lr=-1)


def test_a_missing_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match="quickstart_student"):
        load_recipe("no_such_recipe")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_flat_short_and_survive_writing(name: str, tmp_path: Path) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 70
    assert not any(isinstance(value, dict) for value in tomllib.loads(text).values())
    recipe = load_recipe(name)
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    written = tomllib.loads((tmp_path / "recipe.toml").read_text(encoding="utf-8"))
    assert set(written) == set(type(recipe).model_fields)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_changes_replace_settings(method: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    write_recipe(make_recipe({"method": method, "lr": 0.5}, "x"), path)
    recipe = load_recipe(path, lr=0.25, epochs=3)
    assert (recipe.method, recipe.lr, recipe.epochs) == (method, 0.25, 3)
    with pytest.raises(UsageError, match="lrr"):
        load_recipe(path, lrr=1)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.floats(1e-300, 1e300),
    st.lists(st.floats(-1e9, 1e9), max_size=4),
)
def test_any_values_survive_writing(text: str, lr: float, ratios: list[float]) -> None:
    import tempfile

    recipe = make_recipe({"data": text, "lr": lr, "anchor_ratios": ratios}, "x")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        write_recipe(recipe, path)
        assert load_recipe(path) == recipe


def test_recipes_do_not_change() -> None:
    recipe = make_recipe({}, "x")
    with pytest.raises(ValidationError):
        recipe.lr = 1.0  # type: ignore[misc]
