"""``fledge distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fledge.cli.train import (
    ChangesOption,
    DataOption,
    DeviceOption,
    OutOption,
    PrecisionOption,
    RecipeArgument,
    ResetOption,
    SeedOption,
    SetOption,
    SkipOption,
    UnlabelledOption,
    WeightsOption,
    finish,
    keys,
    resolve,
)


def distill(
    recipe: RecipeArgument,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Folder of the teacher's finished run.")] = None,
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
    """Train a student that also learns from a teacher (`fledge methods` lists the methods).

    Examples:

        fledge distill kd_rnet_quickstart --teacher runs/teacher --data runs/quickstart/data

        fledge distill kd_rnet_quickstart --teacher runs/teacher --data mydata --set kd_cls_weight=0.5
    """
    from fledge import api

    resolved = resolve(
        recipe,
        settings,
        teacher=teacher,
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
    finish(api.distill(resolved, run, allow_changes=keys(allow_changes)))
