"""``fledge detect``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How detections are written."""

    geojson = "geojson"
    dota = "dota"
    coco = "coco"


def detect(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("detections"),
    format_: Annotated[
        Format, typer.Option("--format", help="One file an image, or for dota one a class.")
    ] = Format.geojson,
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Leave out detections below.")] = 0.3,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Also draw the boxes.")] = True,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Find objects in images of any size; large ones are covered by overlapping windows.

    Examples:

        fledge detect runs/student scene.png

        fledge detect runs/student photos/ --format dota --score 0.05 --out submission
    """
    from fledge import api
    from fledge.inference.writers import draw_pictures, image_files, write_detections

    files = image_files(images)
    predictor = api.load(run, device)
    found = api.detect(predictor, files, score)
    written = write_detections(found, out, format_.value)
    if pictures:
        written += draw_pictures(found, files, out, predictor.pixels)
    print(f"{sum(map(len, found))} objects in {len(files)} images; written to {out}: {len(written)} files")
