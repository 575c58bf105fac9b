"""Work on many images at a time, in threads: decoding, encoding, scaling and hashing let go of the interpreter."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# Each holds one image in memory.
WORKERS = 4


def in_order(work: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    """``work(0)``, ``work(1)``, …, in this order, several at a time; after an error those not begun are not begun."""
    if workers == 1:
        yield from map(work, range(count))
        return
    # Silencing a warning is not safe in threads: one puts back what another has just silenced. Here it is so for all.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", message="Dataset has no geotransform")
        begun: deque[Future[T]] = deque()
        try:
            for i in range(count):
                begun.append(pool.submit(work, i))
                if len(begun) > 2 * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
