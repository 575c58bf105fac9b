"""The table of embedders: from a name and a file of weights to what sees images for a distiller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fledge.errors import UsageError
from fledge.models.embedders.cache import EmbeddingCache
from fledge.models.embedders.edges import Edges
from fledge.models.embedders.embedder import Embedder, Network
from fledge.models.embedders.mobile_sam import MobileSam
from fledge.models.embedders.timm_map import TimmMap
from fledge.models.sam.checkpoints import CHECKPOINTS


def _mobilesam(model: str, weights: str) -> Network:
    if model or not weights:
        raise UsageError(f"no weights: embedder mobilesam{model and ':' + model}: {CHECKPOINTS['mobilesam'].where()}")
    return MobileSam(weights)


def _timm_map(model: str, weights: str) -> Network:
    if not model or not weights:
        raise UsageError(
            f"no {'weights' if model else 'model'}: embedder timm:{model}: name one, as in timm:resnet18, and a "
            "file of its weights: random features have nothing to tell"
        )
    return TimmMap(model, weights)


def _edges(model: str, weights: str) -> Network:
    if model or weights:
        raise UsageError(f"edges have no model and no weights: embedder: {model or weights}: leave it out")
    return Edges()


# What stands before the colon of an embedder's name -> its network, for what stands behind it and a file of weights.
EMBEDDERS: dict[str, Callable[[str, str], Network]] = {"mobilesam": _mobilesam, "timm": _timm_map, "edges": _edges}


def build_embedder(name: str, weights: str = "", cache: Path | None = None, cache_limit: int = 50 * 10**9) -> Embedder:
    """What sees images for a distiller.

    Args:
        name: ``mobilesam``, ``timm:MODEL`` or ``edges``.
        weights: their file; ``edges`` have none.
        cache: folder for the maps, where images come with the same pixels again; None keeps none.
        cache_limit: bytes that may lie there.

    Raises:
        UsageError: no such name, or weights missing.
        DataError: the weights are not those of the network.
    """
    kind, _, model = name.partition(":")
    if kind not in EMBEDDERS:
        raise UsageError(f"unknown embedder {name!r}: use mobilesam, timm:MODEL or edges")
    network = EMBEDDERS[kind](model, weights)
    return Embedder(network, None if cache is None else EmbeddingCache(cache, network.identity, cache_limit))
