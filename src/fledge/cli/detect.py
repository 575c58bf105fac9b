"""``fledge detect``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How detections are written."""

    gpkg = "gpkg"
    geojson = "geojson"
    csv = "csv"
    dota = "dota"
    coco = "coco"
    yolo = "yolo"


def detect(
    model: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    scenes: Annotated[list[str], typer.Argument(help="Images and rasters of any size; folders; 'patterns*.tif'.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder, or file: the ending .gpkg, .geojson, .csv or .json (COCO) decides.")
    ] = Path("detections"),
    format_: Annotated[Format | None, typer.Option("--format", help="If --out is a folder; gpkg if not said.")] = None,
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="Leave out detections below.")] = 0.3,
    scale: Annotated[
        float | None,
        typer.Option("--scale", min=0.01, max=100, help="Network pixels for a scene's pixel; else as in training."),
    ] = None,
    bands: Annotated[str, typer.Option("--bands", help="Bands to read, such as 4,3,2; else as in training.")] = "",
    range_: Annotated[
        tuple[float, float] | None, typer.Option("--range", help="Samples that become 0 and 255; else as in training.")
    ] = None,
    percentiles: Annotated[
        tuple[float, float] | None, typer.Option("--percentiles", help="Of each scene, instead of --range: 2 98.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Windows computed at once; 1 on a CPU, else 4.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes, each on a scene of its own.")] = 1,
    picture: Annotated[bool, typer.Option("--picture", help="Also draw each scene, reduced, with its boxes.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an interrupted run has finished.")] = False,
    allow_holes: Annotated[
        bool, typer.Option("--allow-holes", help="Write a result though parts of a scene cannot be read.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Find objects in images and rasters of any size, and write them where they lie on the ground.

    Killed or interrupted, the same command goes on from the last finished window.

    Examples:

        fledge detect runs/student scene.tif --out found.gpkg --picture

        fledge detect runs/student 'tiles/*.tif' --out found --format geojson --workers 4

        fledge detect runs/student photos/ --out submission --format dota --score 0.05
    """
    from fledge.build import pick_device
    from fledge.errors import UsageError
    from fledge.inference.settings import SceneSettings
    from fledge.inference.writers import form_of
    from fledge.scenes import detect_scenes

    try:
        numbers = tuple(int(band) for band in bands.split(",")) if bands else ()
    except ValueError:
        raise UsageError(f"not bands: --bands {bands}: give numbers from 1, such as 4,3,2") from None
    settings = SceneSettings(
        format=form_of(out, format_ and format_.value),  # type: ignore[arg-type]
        score=score,
        batch_size=batch_size or (1 if pick_device(device).type == "cpu" else 4),
        scale=scale,
        bands=numbers,
        range=range_,
        percentiles=percentiles,
        overwrite=overwrite,
        restart=restart,
        allow_holes=allow_holes,
        picture=picture,
    )
    results = detect_scenes(model, scenes, out, settings, workers, device)
    files = list(dict.fromkeys(file for result in results for file in result.files))
    for note in dict.fromkeys(note for result in results for note in result.notes):
        print(f"note: {note}")
    skipped, holes = sum(r.skipped for r in results), sum(len(r.holes) for r in results)
    print(
        f"{sum(r.objects for r in results)} objects in {len(results)} scenes, {sum(r.windows for r in results)} windows"
        f" ({skipped} without data{f', INCOMPLETE: {holes} could not be read' if holes else ''})"
    )
    print(f"written: {files[0]}" if len(files) == 1 else f"written to {out}: {len(files)} files")
