"""The loop of Soft-NMS, compiled on first use. This module imports numba: import it inside functions only."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from fledge.geometry.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def settle(scores: Floats, ends: Ints, others: Ints, factors: Floats, least: float) -> tuple[Ints, Floats]:
    """Take box after box by its present score, each time multiplying those of its neighbours.

    A box stands in the heap once, with the score that it had when it got there. Scores only fall, so that the top is
    the best box if its score is still that one; otherwise it goes back with the score it has now.

    Args:
        scores: (N,), lowered in a copy.
        ends: (N + 1,) where the neighbours of each box begin.
        others: (P,) neighbours.
        factors: (P,) in [0, 1], what taking the box multiplies their scores by.
        least: scores below it are dropped.

    Returns:
        Boxes (K,) in the order in which they are taken, and their scores (K,) by then.
    """
    now = scores.copy()
    waiting = np.ones(len(now), np.bool_)
    heap = [(-now[k], k) for k in range(len(now))]
    heapify(heap)
    picked, count = np.empty(len(now), np.int64), 0
    while len(heap) > 0:
        negative, k = heappop(heap)
        if now[k] < least:
            continue
        if now[k] < -negative:
            heappush(heap, (-now[k], k))
            continue
        picked[count] = k
        count += 1
        waiting[k] = False
        for p in range(ends[k], ends[k + 1]):
            if waiting[others[p]]:
                now[others[p]] *= factors[p]
    return picked[:count], now[picked[:count]]
