"""``fledge compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="[ARM=]RUN...", help="Run folders; the first arm is the reference.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("runs/compare"),
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; default: the runs' own.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default: the runs' own.")] = None,
    primary: Annotated[str, typer.Option("--primary", help="AP50, AP75 or AP50:95.")] = "AP50",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Compare finished runs of two or more arms, seed by seed, with the statistics and the report of a study.

    Runs without ARM= are grouped by their method.

    Examples:

        fledge compare plain=runs/a0 plain=runs/a1 kd=runs/b0 kd=runs/b1
    """
    from fledge.errors import UsageError
    from fledge.study.compare import compare_runs

    if primary not in ("AP50", "AP75", "AP50:95"):
        raise UsageError(f"unknown measure {primary!r}: --primary: use AP50, AP75 or AP50:95")
    named = [
        (name, Path(run)) if sign else ("", Path(item)) for item in runs for name, sign, run in [item.partition("=")]
    ]
    found = compare_runs(named, out, data, split, primary, device)  # type: ignore[arg-type]
    print("\n".join([*found.verdicts, *(f"note: {note}" for note in found.notes), f"report: {out / 'report.html'}"]))
