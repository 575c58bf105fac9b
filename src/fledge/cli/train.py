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
WeightsOption = Annotated[
    str | None, typer.Option("--weights", metavar="SOURCE", help="Start from a timm name, a file, or a fledge run.")
]
ResetOption = Annotated[
    bool, typer.Option("--reset-head", help="With --weights RUN: a fresh class layer if its classes differ.")
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="fp32, bf16 or fp16.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-labels", help="Leave bad label lines out, and say how many, instead of stopping.")
]
UnlabelledOption = Annotated[
    bool, typer.Option("--allow-unlabelled", help="An image without a label file has no objects.")
]
ChangesOption = Annotated[
    str | None,
    typer.Option("--allow-changes", metavar="KEY[,KEY]", help="Settings that may differ when a run goes on."),
]


def train(
    recipe: RecipeArgument,
    data: DataOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
    reset_head: ResetOption = False,
    precision: PrecisionOption = None,
    skip_bad_labels: SkipOption = False,
    allow_unlabelled: UnlabelledOption = False,
    settings: SetOption = None,
    allow_changes: ChangesOption = None,
) -> None:
    """Train a detector from a recipe. Run the same command again to go on after an interruption.

    Examples:

        fledge train quickstart_student --data runs/quickstart/data

        fledge train my.toml --set lr=0.001 --set epochs=24 --out runs/longer

        fledge train my.toml --set epochs=36 --out runs/longer --allow-changes epochs
    """
    from fledge import api

    resolved = resolve(
        recipe,
        settings,
        data=data,
        seed=seed,
        device=device,
        weights=weights,
        reset_head=reset_head or None,
        precision=precision,
        skip_bad_labels=skip_bad_labels or None,
        allow_unlabelled=allow_unlabelled or None,
    )
    run = out or Path("runs") / Path(recipe).stem
    finish(api.train(resolved, run, title="train", allow_changes=keys(allow_changes)))


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


def keys(text: str | None) -> list[str]:
    """The names in a list such as ``lr,epochs``."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def finish(run: Path) -> None:
    """Say what to do next with a finished run."""
    print(f"trained: {run}\nnext:    fledge evaluate {run}\n         fledge detect {run} IMAGE --out detections")
