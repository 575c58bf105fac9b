"""``fledge map``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def map(
    results: Annotated[Path, typer.Argument(help="GeoPackage or GeoJSON of fledge detect.")],
    image: Annotated[Path | None, typer.Option("--image", help="The scene; none: boxes on plain ground.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("map.html"),
    bands: Annotated[str, typer.Option("--bands", help="Three bands of the scene to show, such as 4,3,2.")] = "",
    title: Annotated[str | None, typer.Option("--title", help="Of the page; else the scene's name.")] = None,
) -> None:
    """Show results over their scene, as one HTML file that pans, zooms and filters, and works offline.

    Examples:

        fledge map found.gpkg --image scene.tif --out map.html

        fledge map found.gpkg --image multispectral.tif --bands 4,3,2
    """
    from fledge.errors import UsageError
    from fledge.inference.scene_map import write_map

    try:
        numbers = [int(band) for band in bands.split(",")] if bands else []
    except ValueError:
        raise UsageError(f"not bands: --bands {bands}: give numbers from 1, such as 4,3,2") from None
    count = write_map(results, out, image, numbers, title)
    print(f"{count} objects; written: {out}")
