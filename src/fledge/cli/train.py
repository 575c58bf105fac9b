"""``fledge train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file (TOML), or the name of a shipped recipe.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/<recipe>.")]
DataOption = Annotated[str | None, typer.Option("--data", help="Dataset folder; replaces the recipe's `data`.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting; may be repeated.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Replaces the recipe's `seed`.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


def train(
    recipe: RecipeArgument,
    data: DataOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
) -> None:
    """Train a detector from a recipe. Run the same command again to go on after an interruption.

    Examples:

        fledge train quickstart_student --data runs/quickstart/data

        fledge train my.toml --set lr=0.001 --set epochs=24 --out runs/longer
    """
    from fledge import api

    resolved = resolve(recipe, settings, data=data, seed=seed, device=device)
    finish(api.train(resolved, out or Path("runs") / Path(recipe).stem, title="train"))


def resolve(recipe: str, settings: list[str] | None, **changes: Any) -> Any:
    """The recipe with the options of the command line put in."""
    import tomllib

    from fledge.errors import UsageError
    from fledge.recipe import load_recipe

    given = {key: value for key, value in changes.items() if value is not None}
    for item in settings or []:
        key, sign, text = item.partition("=")
        if not sign:
            raise UsageError(f"not KEY=VALUE: --set {item}: write for example --set lr=0.01")
        try:
            given[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            given[key.strip()] = text.strip()
    return load_recipe(recipe, **given)


def finish(run: Path) -> None:
    """Say what to do next with a finished run."""
    print(f"trained: {run}\nnext:    fledge evaluate {run}\n         fledge detect {run} IMAGE --out detections")
