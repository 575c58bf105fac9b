"""``fledge study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def study(
    file: Annotated[Path, typer.Argument(help="The study: a TOML file.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for runs and report; default runs/<file>.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; replaces the recipes' `data`.")] = None,
    teacher_weights: Annotated[
        Path | None, typer.Option("--teacher-weights", help="Starting weights of the teacher's backbone.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes at once; default: as many as cores.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Replaces the recipes' device.")] = "",
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help='Run on a Ray cluster: its address, "auto" or "local".'),
    ] = None,
) -> None:
    """Compare ways to train over several seeds, with tuning and controls, and say what that shows.

    Finished runs are kept: the same command goes on after an interruption, and only runs what is new after a change.

    Examples:

        fledge study study.toml

        fledge study study.toml --data mydata --out runs/study --workers 2
    """
    from fledge.study.study import study as run

    folder = out or Path("runs") / file.stem
    found = run(file, folder, workers, device, ray, data, teacher_weights)
    print("\n".join([*found.verdicts, *(f"note: {note}" for note in found.notes), f"report: {folder / 'report.html'}"]))
