"""``fledge convert``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fledge.cli.renaming import RemapOption, renaming
from fledge.cli.tile import (
    DataArgument,
    FolderOption,
    FormOption,
    LabelFormat,
    SkipOption,
    SplitOption,
    UnlabelledOption,
    say_lost,
    say_made,
)


class Images(StrEnum):
    """What becomes of the image files."""

    copy = "copy"
    link = "link"


def convert(
    data: DataArgument,
    out: FolderOption,
    to: Annotated[LabelFormat, typer.Option("--to", help="The format to write.")],
    split: SplitOption = None,
    images: Annotated[Images, typer.Option("--images", help="Copy the image files, or link to them.")] = Images.copy,
    from_: FormOption = None,
    remap: RemapOption = None,
    skip_bad_labels: SkipOption = False,
    allow_unlabelled: UnlabelledOption = False,
) -> None:
    """Write a dataset down in another format, and say what that format could not hold.

    Examples:

        fledge convert mydata --to coco --out mydata_coco

        fledge convert HIT-UAV --to yolo_obb --out hit_yolo --images link

        fledge convert DIOR --from dior --to coco --out dior_coco

        fledge convert mydata --to shiprsimagenet --remap boat="Other Ship" --out mydata_ships
    """
    from fledge.data.conversion import convert_dataset
    from fledge.engine.progress import progress

    report = convert_dataset(
        data,
        out,
        to.value,
        split or (),
        images.value,
        progress,
        skip_bad_labels=skip_bad_labels,
        allow_unlabelled=allow_unlabelled,
        form=from_,
        remap=renaming(remap or []),
    )
    for name, counts in report.splits.items():
        print(f"{name}: {counts.images} images, {sum(counts.objects.values())} objects, {counts.ignored} ignored")
    say_lost(report.lost, report.notes)
    say_made(out, report.made)
