"""``fledge quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[Path | None, typer.Option("--out", help="Folder for results [runs/quickstart].")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Your dataset, instead of rendered scenes.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of scenes, weights and order.")] = 2,
    full: Annotated[bool, typer.Option("--full", help="Five seeds, longer: mean ± sd, paired differences.")] = False,
    smallest: Annotated[bool, typer.Option("--smallest", help="Seconds; checks the installation only.")] = False,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Network input, with --data [320].")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the training images.")] = None,
    teacher_weights: Annotated[
        Path | None, typer.Option("--teacher-weights", help="ResNet-18 safetensors, frozen, with --data.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Distil a small oriented detector from a big one, end to end, and write a report.

    Trains a teacher, a student alone and the same student with KD-RNet, compares them on held-out images, and runs
    the distilled student over a larger scene. Needs no network and no GPU. Interrupted, it goes on when run again.

    Examples:

        fledge quickstart

        fledge quickstart --data mydata --image-size 512 --out runs/mine

        fledge quickstart --full --out runs/full
    """
    from fledge.errors import UsageError
    from fledge.quickstart import quickstart as run

    if full and smallest:
        raise UsageError("--full and --smallest: quickstart: choose one")
    size = "full" if full else "smallest" if smallest else "standard"
    out = out or Path("runs") / {"standard": "quickstart", "full": "full", "smallest": "smallest"}[size]
    result = run(out, data, size, seed, image_size, epochs, teacher_weights, device)
    _print(result.record)
    print(
        f"\nopen    {out}/report.html\nfound   {out}/scene/ (boxes on a scene: GeoPackage, CSV, COCO, DOTA, picture)\n"
        f"use     fledge detect {out}/distilled IMAGE"
    )


def _print(record: dict) -> None:  # type: ignore[type-arg]
    import statistics

    from rich.console import Console
    from rich.table import Table

    metrics = ("AP50", "AP75", "AP50:95")
    table = Table("", *metrics, "parameters", "GFLOPs", "network ms", title="held-out images")
    names = {"teacher": "teacher", "student": "student alone", "distilled": "student distilled"}
    for role, name in names.items():
        runs = record["evaluations"][role]
        cells = []
        for metric in metrics:
            values = [100 * (run[metric] or 0) for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        cost = runs[0]["cost"]
        table.add_row(
            name,
            *cells,
            f"{cost['parameters'] / 1e6:.2f} M",
            f"{cost['flops'] / 1e9:.2f}",
            f"{cost['milliseconds']:.1f}",
        )
    Console().print(table)
    seeds = len(record["seeds"])
    print("one seed: an example, no evidence" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds")
