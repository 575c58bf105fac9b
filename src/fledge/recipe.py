"""Recipes: one flat TOML file holds every setting of one experiment.

An unknown key is an error that names the nearest known one; nothing is looked up elsewhere, so a recipe can be read
alone. The resolved recipe (every default written out) lies beside each checkpoint.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from fledge.errors import UsageError
from fledge.method_settings import METHODS, DistillRecipe, KDRNetRecipe, PKDRecipe, for_classes
from fledge.settings import AUTO, Recipe, Weight, fixed_weight

__all__ = [
    "AUTO",
    "METHODS",
    "DistillRecipe",
    "KDRNetRecipe",
    "PKDRecipe",
    "Recipe",
    "Weight",
    "fixed_weight",
    "for_classes",
    "load_recipe",
    "make_recipe",
    "shipped_recipes",
    "write_recipe",
]

_MOST_BYTES = 1_000_000
# What begins a setting or a table of a TOML text, and what could hold the like: strings and comments.
_TOKEN = re.compile(
    r"""^[ \t]*["']?(?P<key>[\w-]+)["']?[ \t]*[.=]"""
    r"""|^[ \t]*\[+[ \t]*["']?(?P<table>[\w-]+)[^\]\n]*\]+[ \t]*(?:\#|$)"""
    r'''|"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|\#[^\n]*''',
    re.MULTILINE | re.DOTALL,
)


def shipped_recipes() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    folder = Path(str(resources.files("fledge") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(path: str | Path, **changes: Any) -> Recipe:
    """Read a recipe from a file, or a shipped one by name, with some settings replaced.

    Raises:
        UsageError: the file is missing or not TOML, a key is unknown or a value cannot be.
    """
    file = Path(path)
    if not file.is_file():
        shipped = shipped_recipes()
        if str(path) not in shipped:
            hint = f"shipped recipes: {', '.join(shipped)}"
            raise UsageError(f"no such recipe: {path}: give a TOML file, or one of the {hint}")
        file = shipped[str(path)]
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"recipe too large: {file}: more than {_MOST_BYTES} bytes: a recipe has some 60 lines")
        text = data.decode()
        settings = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read recipe: {file}: {error.strerror}: check its permissions") from error
    except RecursionError:
        raise UsageError(f"not TOML: {file}: lists nested without end: a recipe is flat") from None
    except ValueError as error:  # among them TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"not TOML: {file}: {error}") from None
    lines = {key: line for key, line in _lines(text).items() if key not in changes}
    return make_recipe({**settings, **changes}, str(file), lines)


def make_recipe(settings: dict[str, Any], where: str, lines: Mapping[str, int] = MappingProxyType({})) -> Recipe:
    """Validate settings; in errors ``where`` names their source, and ``lines`` those of settings in it."""

    def place(key: object) -> str:
        return f"{where}:{lines[key]}" if isinstance(key, str) and key in lines else where

    method = settings.get("method", "none")
    if not isinstance(method, str) or method not in METHODS:
        raise UsageError(f"unknown method {method!r}: {place('method')}: use one of {', '.join(METHODS)}")
    try:
        # Strict, and as JSON, where a list is a tuple: `epochs = true` or `lr = "0.1"` is a mistake.
        return METHODS[method].model_validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}
        for one in sorted(error.errors(), key=lambda one: lines.get(str(next(iter(one["loc"]), "")), 0)):
            problems.setdefault(place(next(iter(one["loc"]), "")), []).append(_explain(METHODS[method], dict(one)))
        told = "; ".join(f"{there}: {'; '.join(texts)}" for there, texts in problems.items())
        raise UsageError(f"bad recipe: {told}") from None


def _lines(text: str) -> dict[str, int]:
    """The line of each setting of a TOML text, counted from 1; of a table that of its head."""
    found: dict[str, int] = {}
    line, at = 1, 0
    for match in _TOKEN.finditer(text):
        line, at = line + text.count("\n", at, match.start()), match.start()
        if key := match["key"] or match["table"]:
            found.setdefault(key, line)
    return found


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting as flat TOML."""
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in recipe.model_dump(mode="json").items()
    ]
    text = "\n".join(lines).replace("\x7f", "\\u007f")  # the one character JSON leaves raw and TOML refuses
    path.write_text(text + "\n", encoding="utf-8")


def _explain(model: type[Recipe], error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "recipe"
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['msg']}"
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ": remove it")
