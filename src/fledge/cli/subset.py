"""``fledge subset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def subset(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Option("--out", help="The list: a text file with one image name a line.")],
    fraction: Annotated[
        float, typer.Option("--fraction", help="Of the images of each group, above 0 and up to 1.")
    ] = 1.0,
    split: Annotated[str, typer.Option("--split", help="Split to choose from.")] = "train",
    group: Annotated[
        str | None, typer.Option("--group", metavar="REGEX", help="What in an image's name says its scene or flight.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--groups", metavar="FILE", help="CSV with the columns name and group instead.")
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="GROUP", help="Take none of a group; may be repeated.")
    ] = None,
) -> None:
    """Write a list of training images for experiments with few labels: the first part of each group, by name.

    Smaller fractions lie within larger ones. Recipes take the list as `train_list` or `eval_list`.

    Examples:

        fledge subset mydata --fraction 0.25 --group '^flight[0-9]+' --out quarter.txt

        fledge subset mydata --groups scenes.csv --leave-out north --out train.txt
    """
    from fledge.data.datasets import open_dataset
    from fledge.errors import UsageError
    from fledge.files import write_bytes
    from fledge.study.subsets import groups_by_pattern, nested_blocks, read_groups

    if group and groups:
        raise UsageError("--group and --groups: subset: give one of them")
    names = list(open_dataset(data, split).ids)
    if groups:
        members = read_groups(groups, names)
    else:
        members = groups_by_pattern(names, group) if group else dict.fromkeys(names, "all")
    chosen = nested_blocks(members, fraction, leave_out or [])
    write_bytes(out, "".join(f"{name}\n" for name in chosen).encode())
    print(f"{len(chosen)} of {len(names)} images of {len({members[n] for n in chosen})} groups: {out}")
