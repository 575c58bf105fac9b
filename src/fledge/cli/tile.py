"""``fledge tile``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fledge.cli.renaming import RemapOption, renaming


class ImageFormat(StrEnum):
    """How the pixels of tiles are written."""

    auto = "auto"
    png = "png"
    jpeg = "jpeg"
    tiff = "tiff"


class LabelFormat(StrEnum):
    """How labels are written."""

    dota = "dota"
    yolo_obb = "yolo_obb"
    coco = "coco"
    hit_uav = "hit_uav"
    hit_uav_xml = "hit_uav_xml"
    dior_r = "dior_r"
    fair1m = "fair1m"
    ohd_sjtu = "ohd_sjtu"
    hrsc2016 = "hrsc2016"
    shiprsimagenet = "shiprsimagenet"
    ssdd = "ssdd"
    rsdd = "rsdd"
    nwpu_vhr10 = "nwpu_vhr10"
    ucas_aod = "ucas_aod"
    voc = "voc"
    yolo = "yolo"
    geojson = "geojson"
    geopackage = "geopackage"


DataArgument = Annotated[Path, typer.Argument(help="Dataset folder, in any format that fledge reads.")]
FolderOption = Annotated[Path, typer.Option("--out", help="Folder to make.")]
SplitOption = Annotated[
    list[str] | None, typer.Option("--split", metavar="NAME", help="Only this split; may be repeated.")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad-labels", help="Leave bad labels out instead of stopping.")]
FormOption = Annotated[
    str | None,
    typer.Option("--from", metavar="FORMAT", help="Read it in this format, where its folders fit several."),
]
UnlabelledOption = Annotated[
    bool, typer.Option("--allow-unlabelled", help="Images without a label file have no objects.")
]


def tile(
    data: DataArgument,
    out: FolderOption,
    size: Annotated[int, typer.Option("--size", min=32, help="Side of the tiles, pixels.")] = 1024,
    overlap: Annotated[int, typer.Option("--overlap", min=0, help="Of neighbours, at least, pixels.")] = 200,
    iof: Annotated[float, typer.Option("--iof", help="Share of an object inside from which it counts.")] = 0.7,
    rate: Annotated[
        list[float] | None, typer.Option("--rate", help="Scale images by this first; may be repeated.  [default: 1]")
    ] = None,
    split: SplitOption = None,
    format_: Annotated[LabelFormat, typer.Option("--format", help="Of the labels.")] = LabelFormat.dota,
    image_format: Annotated[
        ImageFormat, typer.Option("--image-format", help="auto, png and tiff lose nothing; jpeg has quality 95.")
    ] = ImageFormat.auto,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty/--skip-empty", help="Tiles without an object that counts.")
    ] = True,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Threads; each holds one image in memory. The result is the same.")
    ] = 4,
    from_: FormOption = None,
    remap: RemapOption = None,
    skip_bad_labels: SkipOption = False,
    allow_unlabelled: UnlabelledOption = False,
) -> None:
    """Cut large images and their labels into overlapping tiles, with bands and bit depth as they are.

    An object with at least the share `--iof` of its area inside a tile is kept whole; with less it is marked as
    ignored, so that no sliver is learnt. Interrupted, the same command goes on where it was; once it is done, it does
    nothing.

    Examples:

        fledge tile DOTA --out tiles --size 600 --overlap 150

        fledge tile DOTA --out tiles --split train --skip-empty --format coco

        fledge tile DOTA --out tiles_ms --rate 0.5 --rate 1 --rate 1.5 --image-format jpeg
    """
    from fledge.data.tile_folder import Writing, tile_dataset
    from fledge.data.tiling import Cut
    from fledge.engine.progress import progress

    report = tile_dataset(
        data,
        out,
        Cut(size, overlap, iof, keep_empty, tuple(rate or (1.0,))),
        split or (),
        Writing(format_.value, image_format.value, workers),
        progress,
        skip_bad_labels=skip_bad_labels,
        allow_unlabelled=allow_unlabelled,
        form=from_,
        remap=renaming(remap or []),
    )
    for name, tiled in report.splits.items():
        empty = f"{tiled.empty} without" + (f" ({tiled.left_out} of these left out)" if tiled.left_out else "")
        print(f"{name}: {len(tiled.index)} tiles, {empty}; objects: {tiled.kept} kept, {tiled.cut} cut and ignored")
        if tiled.uncovered:
            print(
                f"{name}: {tiled.uncovered} objects count in no tile (larger than the overlap, or cut by the image's "
                "edge): raise --overlap, or lower --iof"
            )
    say_lost(report.lost, report.notes)
    say_made(out, report.made)


def say_lost(lost: dict[str, int], notes: tuple[str, ...]) -> None:
    """What a format could not hold, and what the readers noted."""
    for note in notes:
        print(f"note: {note}")
    for what, count in lost.items():
        print(f"changed: {count} × {what}")


def say_made(out: Path, made: bool) -> None:
    """Where the result is."""
    print(f"written: {out}" if made else f"nothing to do: {out} was made by the same command from the same data")
