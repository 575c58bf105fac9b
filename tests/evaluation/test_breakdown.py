from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.oracle import case
from tests.evaluation.test_protocols import random_case, rectangle

from fledge.evaluation.average_precision import score
from fledge.evaluation.breakdown import ASPECTS, SIZES, breakdown
from fledge.evaluation.matching import match
from fledge.evaluation.protocols import PROTOCOLS

DOTA = replace(PROTOCOLS["dota"], thresholds=(0.5,))


def test_every_object_is_in_one_size_and_one_aspect() -> None:
    for seed in range(10):
        the = random_case(seed)
        whole = score(the, DOTA).objects
        for by in ("size", "aspect"):
            parts = breakdown(the, DOTA, by)
            assert (np.sum([m.objects for m in parts.values()], axis=0) == whole).all()
    assert (list(breakdown(the, DOTA)), list(breakdown(the, DOTA, "aspect"))) == (list(SIZES), list(ASPECTS))


def test_sizes_by_hand() -> None:
    small, large = rectangle(0, 0, 10, 10), rectangle(100, 0, 100, 100)
    lost_small, lost_large = rectangle(40, 0, 10, 10), rectangle(300, 0, 100, 100)
    found = [
        (0, 0, 0.9, lost_small),
        (0, 0, 0.8, lost_large),
        (0, 0, 0.7, small),
        (0, 0, 0.6, large),
        (0, 0, 0.5, small),
    ]
    the = case([(0, 0, small, ""), (0, 0, large, "")], found, 1, 1)
    parts = breakdown(the, DOTA)
    # Of each size one error before the hit; the large ones say nothing about the small ones.
    assert parts["small"].mean(0.5) == pytest.approx(0.5)
    assert parts["large"].mean(0.5) == pytest.approx(0.5)
    assert math.isnan(parts["medium"].mean(0.5))
    curve = parts["small"].curve("c0", 0.5)
    assert curve.precision.tolist() == [0, 1 / 2, 1 / 3]  # the second hit on the small object is an error of its size


def test_a_detection_of_another_size_counts_by_the_object_it_found() -> None:
    the = case([(0, 0, rectangle(0, 0, 31, 31), "")], [(0, 0, 0.9, rectangle(0, 0, 33, 33))], 1, 1)
    parts = breakdown(the, DOTA)
    assert parts["small"].mean(0.5) == pytest.approx(1)
    assert parts["medium"].objects.tolist() == [0]


def test_sizes_are_areas_of_what_is_compared() -> None:
    turned = [[0, 30], [30, 0], [60, 30], [30, 60]]  # 1,800 px2 in a hull of 3,600, and 900 px2 as a bow-tie
    the = case([(0, 0, turned, ""), (0, 0, [turned[i] for i in (0, 2, 1, 3)], "")], [], 1, 1)
    for name, sizes in (("dota", [1, 1, 0]), ("box_area", [0, 2, 0]), ("coco", [0, 2, 0])):
        parts = breakdown(the, replace(PROTOCOLS[name], library=""))
        assert [int(m.objects[0]) for m in parts.values()] == sizes, name


def test_aspects_by_hand() -> None:
    the = case([(0, 0, rectangle(0, 0, w, 10), "") for w in (10, 20, 39, 80)], [], 1, 1)
    assert [int(m.objects[0]) for m in breakdown(the, DOTA, "aspect").values()] == [1, 2, 0, 1]
    flat = case([(0, 0, rectangle(0, 0, 5, 0), "")], [], 1, 1)
    assert [int(m.objects[0]) for m in breakdown(flat, DOTA, "aspect").values()] == [0, 0, 0, 1]


def test_outside_the_scope_nothing_is_false() -> None:
    for seed in range(10):
        the = random_case(seed)
        whole = match(the, DOTA).outcome
        for by in ("size", "aspect"):
            for part in breakdown(the, DOTA, by).values():
                assert part.ranking is not None
                assert (part.ranking.outcome == 1).sum() <= (whole == 1).sum()
                assert (part.ranking.outcome == 0).sum() <= (whole == 0).sum()
