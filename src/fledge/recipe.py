"""Recipes: one flat TOML file holds every setting of one experiment.

An unknown key is an error that names the nearest known one; nothing is looked up elsewhere, so a recipe can be read
alone. The resolved recipe (every default written out) lies beside each checkpoint.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from importlib import resources
from pathlib import Path
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
        settings = tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"cannot read recipe: {file}: {error.strerror}: check its permissions") from error
    except RecursionError:
        raise UsageError(f"not TOML: {file}: lists nested without end: a recipe is flat") from None
    except ValueError as error:  # among them TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"not TOML: {file}: {error}") from None
    return make_recipe({**settings, **changes}, str(file))


def make_recipe(settings: dict[str, Any], where: str) -> Recipe:
    """Validate settings; ``where`` names their source in errors."""
    method = settings.get("method", "none")
    if not isinstance(method, str) or method not in METHODS:
        raise UsageError(f"unknown method {method!r}: {where}: use one of {', '.join(METHODS)}")
    try:
        # Strict, and as JSON, where a list is a tuple: `epochs = true` or `lr = "0.1"` is a mistake.
        return METHODS[method].model_validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        problems = "; ".join(_explain(METHODS[method], dict(e)) for e in error.errors())
        raise UsageError(f"bad recipe: {where}: {problems}") from None


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
