"""The option ``--remap``, which several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

RemapOption = Annotated[
    list[str] | None,
    typer.Option("--remap", metavar="OLD=NEW", help="Read a class under another name; `OLD=` ignores its objects."),
]


def renaming(items: Sequence[str]) -> dict[str, str]:
    """From old to new names of classes.

    Raises:
        UsageError: an item that is not OLD=NEW.
    """
    from fledge.errors import UsageError

    for item in items:
        if not item.partition("=")[0].strip() or "=" not in item:
            raise UsageError(f"not OLD=NEW: --remap {item}: write for example --remap van=car, or --remap van=")
    return {old.strip(): new.strip() for old, _, new in (item.partition("=") for item in items)}
