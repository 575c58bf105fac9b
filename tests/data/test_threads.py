"""Work in threads: the order of the results, errors, and how much is under way at a time."""

from __future__ import annotations

import random
import threading
import time
import warnings

import pytest

from fledge.data.threads import in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_results_come_in_order(workers: int, count: int) -> None:
    def work(i: int) -> int:
        time.sleep(random.Random(i).random() / 1000)
        return i * i

    assert list(in_order(work, count, workers)) == [i * i for i in range(count)]


def test_after_an_error_little_more_is_begun() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 3:
            raise ValueError("damaged")
        return i

    results = in_order(work, 1000, 3)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="damaged"):
        next(results)
    assert len(begun) < 20


def test_no_more_than_a_few_are_under_way() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def work(i: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.001)
        with lock:
            under_way -= 1

    taken = 0
    for _ in in_order(work, 30, 3):
        taken += 1
    assert (taken, most <= 3) == (30, True)


def test_filters_of_warnings_are_put_back() -> None:
    before = warnings.filters[:]
    list(in_order(lambda i: i, 9, 3))
    assert warnings.filters == before
