"""Detection shared by the processes that run together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fledge.distributed import gathered, rank, world_size
from fledge.inference.predictor import Predictor
from fledge.types import Detections


def own_share(paths: Sequence[Path]) -> Sequence[Path]:
    """The images that this process looks at: every one by exactly one process, none twice to fill up."""
    return paths[rank() :: world_size()]


def detect_together(
    predictor: Predictor[Any],
    paths: Sequence[Path],
    score_threshold: float,
    advance: Callable[[int], Any] | None = None,
) -> list[Detections]:
    """Detections in some images, each computed by one of the processes, on all of them.

    Args:
        predictor: the same on every process.
        paths: the images, the same on every process.
        score_threshold: detections below are left out.
        advance: called with the number of images of ``own_share`` cut so far.
    """
    shares = gathered(predictor.detect_many(own_share(paths), score_threshold, advance=advance))
    return [shares[i % len(shares)][i // len(shares)] for i in range(len(paths))]
