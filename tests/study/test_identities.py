"""What a record is known by."""

from __future__ import annotations

from typing import Any

import pytest

from fledge.recipe import make_recipe
from fledge.study.jobs import _chosen


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
