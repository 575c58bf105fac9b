"""``fledge distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fledge.cli.train import (
    DataOption,
    DeviceOption,
    OutOption,
    RecipeArgument,
    SeedOption,
    SetOption,
    finish,
    resolve,
)


def distill(
    recipe: RecipeArgument,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Folder of the teacher's finished run.")] = None,
    data: DataOption = None,
    out: OutOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    settings: SetOption = None,
) -> None:
    """Train a student that also learns from a teacher (`fledge methods` lists the methods).

    Examples:

        fledge distill kd_rnet_quickstart --teacher runs/teacher --data runs/quickstart/data

        fledge distill kd_rnet_quickstart --teacher runs/teacher --data mydata --set kd_cls_weight=0.5
    """
    from fledge import api

    resolved = resolve(recipe, settings, teacher=teacher, data=data, seed=seed, device=device)
    finish(api.distill(resolved, out or Path("runs") / Path(recipe).stem))
