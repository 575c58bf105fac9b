"""One study at several places: every combination of some settings, such as fractions of the data and schedules."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from fledge.recipe import Recipe, make_recipe
from fledge.study.spec import Declared, Settings

# Settings that a teacher shares with its students: it sees the images that they see.
_OF_DATA = ("data", "train_split", "train_list")


def cells_of(declared: Declared) -> dict[str, Declared]:
    """The study at every combination of the values in its ``across``, by name; itself, named "", without them.

    A teacher that is trained here is trained anew where the images change, and for nothing else; a pretext stays.

    Raises:
        UsageError: a setting is unknown, or a value cannot be.
    """
    across = declared.study.across
    found = {}
    for values in itertools.product(*across.values()):
        place = dict(zip(across, values, strict=True))
        images = {key: value for key, value in place.items() if key in _OF_DATA}
        change = {
            "study": declared.study.model_copy(update={"across": {}}),
            "base": _changed(declared.base, place),
            "teacher": _changed(declared.teacher, images) if declared.teacher else None,
        }
        found[", ".join(_name(key, value) for key, value in place.items())] = declared.model_copy(update=change)
    return found


def titled(arm: str, cell: str) -> str:
    """The name of an arm in a cell; that of the arm where there is only one cell, named ""."""
    return f"{arm}, {cell}" if cell else arm


def _changed(recipe: Recipe, settings: Settings) -> Recipe:
    return make_recipe({**json.loads(recipe.model_dump_json()), **settings}, "across")


def _name(key: str, value: Any) -> str:
    """A list of images by its file's name; anything else with its setting."""
    return Path(value).stem if isinstance(value, str) else f"{key} {value:g}"
