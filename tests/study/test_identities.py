"""What a record is known by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fledge.recipe import Recipe, make_recipe
from fledge.study.jobs import Identities, Job, _chosen
from fledge.study.spec import located


def chosen(**settings: Any) -> dict[str, Any]:
    return _chosen(make_recipe(settings, "test"))


def test_a_default_does_not_count_however_it_came_about() -> None:
    """So that a new setting of recipes leaves old records good."""
    assert chosen(lr=0.0025, epochs=12) == chosen() == {"method": "none"}
    assert chosen(detector="faster_rcnn", head_convs=1) == chosen(detector="faster_rcnn")
    assert chosen(detector="faster_rcnn")["head_convs"] == 1


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"seed": 1}, {"method": "pkd"}, {"detector": "retinanet"}])
def test_what_is_chosen_counts(settings: dict[str, Any]) -> None:
    assert chosen(**settings) != chosen()
    assert chosen(**settings).items() >= settings.items()


def test_places_and_speed_do_not_count() -> None:
    assert chosen(data="there", workers=7, device="cpu", train_list="a.txt", save_every=3) == chosen()


def test_weights_of_an_embedder_count_by_what_is_in_them(tmp_path: Path) -> None:
    keys = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("a.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        settings = {"method": "ifkd", "ifkd_embedder_weights": str(tmp_path / name)}
        keys.append(embedded(make_recipe(settings, "test")))
    assert keys[0] == keys[1] != keys[2]


def embedded(recipe: Recipe) -> str:
    """The hash of a job that has the recipe."""
    identities = Identities()
    identities._split = lambda *_: ""  # type: ignore[method-assign]
    return identities.key(Job("ifkd", "report", recipe))


def test_an_embedder_lies_beside_the_study_or_where_the_command_is_given(tmp_path: Path) -> None:
    recipe = make_recipe({"method": "ifkd", "ifkd_embedder_weights": "sam.pt"}, "test")
    assert located(recipe, tmp_path).ifkd_embedder_weights == "sam.pt"  # type: ignore[attr-defined]
    (tmp_path / "sam.pt").touch()
    assert located(recipe, tmp_path).ifkd_embedder_weights == str(tmp_path / "sam.pt")  # type: ignore[attr-defined]
