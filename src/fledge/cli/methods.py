"""``fledge methods``."""

from __future__ import annotations

from typing import Annotated

import typer


def methods(
    name: Annotated[str | None, typer.Argument(help="Show this method's whole card.")] = None,
) -> None:
    """List the methods fledge has, with their papers and where fledge differs from them.

    Examples:

        fledge methods

        fledge methods kd_rnet
    """
    from fledge.method_cards import method_cards

    cards = method_cards()
    if name is not None:
        from fledge.errors import UsageError

        if name not in cards:
            raise UsageError(f"unknown method {name!r}: there are {', '.join(cards)}")
        print(cards[name].text)
        return
    for key, card in cards.items():
        print(f"{key:12} {card.title}\n{'':12} {card.summary}\n")
    print("`fledge methods NAME` shows a method's differences from its paper and the published figures.")
