"""``fledge datasets``."""

from __future__ import annotations

from typing import Annotated

import typer


def datasets(
    name: Annotated[str | None, typer.Argument(help="Show all that is known about this dataset.")] = None,
) -> None:
    """List public datasets: where to get them, their classes, published counts and traps.

    Examples:

        fledge datasets

        fledge datasets dior-r
    """
    from fledge.data.catalogue import CATALOGUE
    from fledge.dataset_cards import dataset_card, dataset_line

    if name is not None:
        from fledge.errors import UsageError

        if name not in CATALOGUE:
            raise UsageError(f"unknown dataset {name!r}: there are {', '.join(CATALOGUE)}")
        print(dataset_card(CATALOGUE[name]))
        return
    for known in CATALOGUE.values():
        print(dataset_line(known))
    print(
        "\n`fledge datasets NAME` shows a dataset's page, folders, classes, counts and traps; ? marks a figure that was"
    )
    print("not confirmed at a public source.")
