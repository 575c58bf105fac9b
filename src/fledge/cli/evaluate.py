"""``fledge evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Curve(StrEnum):
    """How a precision-recall curve is integrated."""

    area = "area"
    voc07 = "voc07"


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; default: the run's own.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default: the recipe's eval_split.")] = None,
    interpolation: Annotated[Curve, typer.Option("--ap", help="area (VOC12) or voc07 (11 points).")] = Curve.area,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the figures to this JSON file.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Average precision at exact rotated IoU, parameters, FLOPs and time of a trained detector.

    Examples:

        fledge evaluate runs/student

        fledge evaluate runs/student --data other --split test --ap voc07 --out student.json
    """
    from rich.console import Console
    from rich.table import Table

    from fledge import api
    from fledge.evaluation.summary import evaluation_record
    from fledge.files import write_json

    result = api.evaluate(run, data, split, interpolation.value, device)
    record = evaluation_record(result.metrics, result.cost)
    table = Table("class", "objects", "AP50", "AP75", "AP50:95", title=f"{run} on {result.dataset.split}")
    for name, row in record["classes"].items():
        table.add_row(name, str(row["objects"]), *(_percent(row[key]) for key in ("AP50", "AP75", "AP50:95")))
    table.add_row("mean", "", *(_percent(record[key]) for key in ("AP50", "AP75", "AP50:95")), style="bold")
    Console().print(table)
    cost = result.cost
    print(
        f"{cost.parameters / 1e6:.2f} M parameters, {cost.flops / 1e9:.2f} GFLOPs and {cost.milliseconds:.1f} + "
        f"{cost.decode_milliseconds:.1f} ms (network + decoding) an "
        f"image at {cost.size[1]}x{cost.size[0]} px (one thread)\nAP: exact rotated IoU, {interpolation.value} "
        f"interpolation, {result.metrics.images} images"
    )
    if out:
        write_json(out, record)
        print(f"written: {out}")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
