"""Public datasets as facts: one small file each, and the table of them.

A figure that was not confirmed at a public source says so (``Count.verified``, ``KnownDataset.unverified``); one that is
not known is left empty.
"""

from __future__ import annotations

from fledge.data.catalogue.dior import DIOR, DIOR_R
from fledge.data.catalogue.dota import DOTA_V10, DOTA_V15, DOTA_V20
from fledge.data.catalogue.known import Count, KnownDataset

__all__ = ["CATALOGUE", "Count", "KnownDataset"]

CATALOGUE: dict[str, KnownDataset] = {
    known.key: known
    for known in (
        DOTA_V10,
        DOTA_V15,
        DOTA_V20,
        DIOR,
        DIOR_R,
    )
}
