"""``fledge pictures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pictures(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]RUN...", help="Run folders; the first with a teacher is the one looked into."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and pictures.html.")] = Path("pictures"),
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; default: the run's own.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Its split; default: the recipe's eval_split.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Images, those with the most objects.")] = 4,
    level: Annotated[str, typer.Option("--level", help="Level of the pyramid.")] = "p3",
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Least score of detections.")] = 0.3,
    disturbance: Annotated[
        str,
        typer.Option("--disturbance", help="mobilesam, timm:MODEL or edges; default: the run's own."),
    ] = "",
    embedder_weights: Annotated[str, typer.Option("--embedder-weights", help="File of its weights.")] = "",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Pictures of a distilled run: maps of teacher and student, their distances, and what it and other runs find.

    Examples:

        fledge pictures runs/ifkd

        fledge pictures student=runs/alone AT=runs/at IFKD=runs/ifkd --count 6 --level p4 --out pictures
    """
    from fledge.errors import UsageError
    from fledge.pictures.page import pictures as draw

    named: dict[str, str | Path] = {}
    for item in runs:
        name, sign, run = item.partition("=")
        run = run if sign else item
        name = name if sign else Path(run).name
        if name in named or name in ("", "teacher"):
            raise UsageError(f"two of one name: {item}: give each run a name of its own, NAME=RUN")
        named[name] = run
    page = draw(named, out, data, split, count, level, score, disturbance, embedder_weights, device)
    print(f"written: {page}, and its pictures beside it")
