from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.evaluation.oracle import case, overlap, slow_ap

from fledge.errors import UsageError
from fledge.evaluation.average_precision import score
from fledge.evaluation.case import Case
from fledge.evaluation.matching import match
from fledge.evaluation.protocols import PROTOCOLS, IouKind, Protocol, protocol_named

Quad = Sequence[Sequence[float]]
DOTA = PROTOCOLS["dota"]


def rectangle(x: float, y: float, w: float, h: float, start: int = 0, back: bool = False) -> Quad:
    points = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    points = points[::-1] if back else points
    return points[start:] + points[:start]


def random_case(seed: int) -> Case:
    """Crowded images of quads of every kind, jittered detections, duplicates, equal scores, all flags."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 5)), 4  # the last class has no objects
    objects, found = [], []
    for _ in range(int(rng.integers(0, 30))):
        image, label = int(rng.integers(images)), int(rng.integers(3))
        flag = str(rng.choice(["", "difficult", "ignore"], p=[0.75, 0.18, 0.07]))
        quad = random_quad(rng)
        objects.append((image, label, quad, flag))
        if rng.random() < 0.15:
            objects.append((image, label, quad, str(rng.choice(["", "difficult"]))))  # a duplicate
        for _ in range(int(rng.integers(0, 4))):
            near = quad + rng.normal(0, rng.choice([0.0, 0.6, 2.0]), (4, 2))
            who = label if rng.random() < 0.9 else int(rng.integers(4))
            found.append((image, who, score_of(rng), near))
            if rng.random() < 0.1:
                found.append(found[-1])
    for _ in range(int(rng.integers(0, 8))):
        found.append((int(rng.integers(images)), int(rng.integers(4)), score_of(rng), random_quad(rng)))
    order = rng.permutation(len(found))
    return case(objects, [found[i] for i in order], images, classes)


def score_of(rng: np.random.Generator) -> float:
    return round(float(rng.random()), int(rng.choice([1, 6])))


def random_quad(rng: np.random.Generator) -> NDArray[np.float64]:
    """A rotated rectangle, a dart, a bow-tie or any four points."""
    centre, kind = rng.uniform(0, 40, 2), rng.random()
    if kind > 0.95:
        return centre + rng.uniform(-8, 8, (4, 2))
    w, h, angle = rng.uniform(8, 24), rng.uniform(5, 10), rng.uniform(-math.pi, math.pi)
    points = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    if kind > 0.85:
        points[2] *= 0.1 * rng.random() - 0.3  # beyond the diagonal of its neighbours: concave
    elif kind > 0.75:
        points = points[[0, 2, 1, 3]]
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    quad = points @ turn + centre
    return np.asarray(quad[:: rng.choice([-1, 1])])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_equals_the_plain_reading_of_the_protocol(name: str) -> None:
    protocol = replace(PROTOCOLS[name], library="", thresholds=PROTOCOLS[name].thresholds[::4])
    seeds = range(100) if name == "dota" else range(20)
    for seed in seeds:
        the = random_case(seed)
        np.testing.assert_allclose(score(the, protocol).ap, slow_ap(the, protocol), rtol=0, atol=1e-12)


def test_the_cases_hold_what_matters() -> None:
    cases = [random_case(seed) for seed in range(100)]
    assert sum(the.objects.difficult.sum() for the in cases) > 100
    assert sum(the.objects.ignore.sum() for the in cases) > 50
    assert any(len(the.found) == 0 for the in cases)
    assert any(len(the.objects) == 0 for the in cases)
    tied = [len(the.found) - len(set(zip(the.found.label, the.found.score, strict=True))) for the in cases]
    assert np.median(tied) > 2
    fates = np.concatenate([match(the, DOTA).outcome.ravel() for the in cases])
    assert all((fates == fate).sum() > 500 for fate in (-1, 0, 1))
    values = np.concatenate([score(the).ap.ravel() for the in cases])
    assert np.isnan(values).any()
    assert ((values > 0.05) & (values < 0.95)).sum() > 500


lattice = st.builds(
    rectangle, *[st.integers(0, 4)] * 2, *[st.integers(0, 4)] * 2, start=st.integers(0, 3), back=st.booleans()
)
objects_on_lattice = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), lattice, st.sampled_from(["", "", "difficult", "ignore"])),
    max_size=8,
)
found_on_lattice = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75]), lattice), max_size=10
)


@pytest.mark.parametrize("name", ["dota", "dota_task2", "voc07", "coco", "coco_oriented", "dior_r"])
@given(objects=objects_on_lattice, found=found_on_lattice)
@settings(max_examples=60)
def test_ties_of_overlap_score_and_threshold(name: str, objects: list[Any], found: list[Any]) -> None:
    # Whole numbers: an IoU of exactly one half is exactly that, and equal overlaps are equal.
    protocol = replace(PROTOCOLS[name], library="", thresholds=(0.25, 0.5), iou=_straight(PROTOCOLS[name]))
    the = case(objects, found, 2, 2)
    np.testing.assert_allclose(score(the, protocol).ap, slow_ap(the, protocol), rtol=0, atol=1e-12)


def _straight(protocol: Protocol) -> IouKind:
    """Rectangles found around points are turned, and no longer whole numbers: here the quads are the rectangles."""
    return "quad" if protocol.iou == "box" else protocol.iou


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_images_and_objects_does_not_matter(seed: int) -> None:
    the, rng = random_case(seed), np.random.default_rng(seed)
    rows = rng.permutation(len(the.objects))
    moved = replace(the.objects, **{f.name: getattr(the.objects, f.name)[rows] for f in fields(the.objects)})
    # But for duplicates of which one is difficult: there the first one counts.
    keys = {tuple(q.ravel()) for q in the.objects.quads}
    if len(keys) == len(the.objects):
        np.testing.assert_array_equal(score(the, DOTA).ap, score(replace(the, objects=moved), DOTA).ap)


# ---- single rules of the devkit, by hand


def dota(objects: Sequence[tuple[Quad, str]], found: Sequence[tuple[Quad, float]], **changes: object) -> float:
    the = case([(0, 0, q, f) for q, f in objects], [(0, 0, s, q) for q, s in found], 1, 1)
    return float(score(the, replace(DOTA, thresholds=(0.5,), **changes)).ap[0, 0])  # type: ignore[arg-type]


def test_one_half_is_not_enough_for_the_devkit_and_is_for_voc() -> None:
    objects, found = [(rectangle(0, 0, 10, 10), "")], [(rectangle(0, 0, 10, 5), 0.9)]
    assert dota(objects, found) == 0
    assert dota(objects, found, strict=False) == pytest.approx(1)


def test_recall_points_are_floating_point_numbers() -> None:
    # Three of ten are 0.3 and do not reach 0.30000000000000004; six of ten are below 0.6000000000000001 as well.
    objects = [(rectangle(20 * i, 0, 10, 10), "") for i in range(10)]
    for hits, points in ((3, 3), (6, 6), (7, 7), (8, 9), (1, 2)):
        found = [(rectangle(20 * i, 0, 10, 10), 0.9) for i in range(hits)]
        assert dota(objects, found) == pytest.approx(points / 11, abs=1e-15)


def test_the_first_of_two_equal_objects_is_taken_and_the_second_stays_missed() -> None:
    square = rectangle(0, 0, 10, 10)
    assert dota([(square, ""), (square, "")], [(square, 0.9), (square, 0.8)]) == pytest.approx(6 / 11)
    assert dota([(square, "difficult"), (square, "")], [(square, 0.9)]) == 0
    assert dota([(square, ""), (square, "difficult")], [(square, 0.9)]) == pytest.approx(1)


def test_a_quad_is_compared_as_it_is_and_not_as_its_rectangle() -> None:
    bow_tie, square = [[0, 0], [10, 10], [10, 0], [0, 10]], rectangle(0, 0, 10, 10)
    assert dota([(bow_tie, "")], [(square, 0.9)]) == 0  # half of the square
    assert dota([(bow_tie, "")], [(square, 0.9)], iou="box") == pytest.approx(1)


def test_horizontal_boxes_of_whole_pixels_are_one_wider() -> None:
    # Pixels 0 to 9 and 5 to 14 of a row one pixel high: 5 of 15 in whole pixels, 4 of 14 between coordinates.
    the = case([(0, 0, rectangle(0, 0, 9, 0), "")], [(0, 0, 0.9, rectangle(5, 0, 9, 0))], 1, 1)
    assert match(the, PROTOCOLS["dota_task2"]).best_iou[0] == pytest.approx(5 / 15)
    assert match(the, PROTOCOLS["coco"]).best_iou[0] == 0


def test_beyond_the_largest_number_nothing_counts() -> None:
    good, bad = rectangle(0, 0, 10, 10), rectangle(50, 0, 10, 10)
    rows = [(0, 0, 0.9, bad), (0, 0, 0.8, bad), (0, 0, 0.7, good), (1, 0, 0.6, good)]
    the = case([(0, 0, good, ""), (1, 0, good, "")], rows, 2, 1)
    limited = replace(PROTOCOLS["coco_oriented"], max_detections=2)
    assert match(the, limited).outcome[0].tolist() == [0, 0, -1, 1]


def test_matches_are_rows_of_the_input() -> None:
    a, b = rectangle(0, 0, 10, 10), rectangle(30, 0, 10, 10)
    the = case(
        [(0, 1, b, ""), (0, 0, a, ""), (1, 0, a, "difficult")],
        [(1, 0, 0.2, a), (0, 1, 0.3, b), (0, 0, 0.1, a), (0, 0, 0.2, b), (0, 0, 0.2, a)],
        2,
        2,
    )
    found = match(the, DOTA)
    assert found.order.tolist() == [0, 3, 4, 2, 1]
    assert found.best_object.tolist() == [2, 0, 1, -1, 1]
    assert found.best_iou.tolist() == [1, 1, 1, 0, 1]
    assert found.outcome.shape == (10, 5)
    assert found.outcome[0].tolist() == [-1, 1, 0, 0, 1]


def test_nothing_at_all() -> None:
    for protocol in PROTOCOLS.values():
        metrics = score(case([], [], 0, 0), protocol)
        assert metrics.ap.shape == (0, len(protocol.thresholds))
        assert math.isnan(metrics.mean())
        metrics = score(case([], [(0, 1, 0.5, rectangle(0, 0, 1, 1))], 1, 3), protocol)
        assert np.isnan(metrics.ap).all()
        metrics = score(case([(0, 1, rectangle(0, 0, 1, 1), "")], [], 1, 3), protocol)
        np.testing.assert_array_equal(metrics.ap[:, 0], [math.nan, 0, math.nan])


def test_numbers_that_are_not_finite_match_nothing() -> None:
    square: Quad = rectangle(0, 0, 10, 10)
    broken: Quad = [[0, 0], [10, math.nan], [10, 10], [0, math.inf]]
    the = case([(0, 0, square, ""), (0, 0, broken, "")], [(0, 0, 0.9, broken), (0, 0, 0.8, square)], 1, 1)
    for name in ("dota", "coco_oriented"):
        assert match(the, PROTOCOLS[name]).outcome[0].tolist() == [0, 1]


def test_curves_hold_every_detection_that_counts() -> None:
    first, second, third = (rectangle(x, 0, 10, 10) for x in (0, 20, 50))
    objects = [(0, 0, first, ""), (0, 0, second, "difficult")]
    found = [(0, 0, 0.9, second), (0, 0, 0.8, third), (0, 0, 0.7, first)]
    curve = score(case(objects, found, 1, 1), DOTA).curve("c0", 0.5)
    assert curve.scores.tolist() == [0.8, 0.7]
    assert curve.recall.tolist() == [0, 1]
    assert curve.precision.tolist() == [0, 0.5]


def test_protocols_are_named_once_and_unknown_ones_refused() -> None:
    assert all(name == protocol.name and protocol.source for name, protocol in PROTOCOLS.items())
    assert all(list(p.thresholds) == sorted(p.thresholds) for p in PROTOCOLS.values())
    with pytest.raises(UsageError, match="unknown protocol: dota3: one of dota, "):
        protocol_named("dota3")


def test_the_page_lists_the_protocols_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = {name.strip("`"): rest for name, *rest in lines}
    assert set(rows) == set(PROTOCOLS)
    points = {"voc07": "11 points", "voc12": "area", "coco101": "101 points"}
    for name, p in PROTOCOLS.items():
        levels = "0.5:0.95" if len(p.thresholds) == 10 else ", ".join(map(str, p.thresholds))
        assert rows[name][1:] == [
            p.iou + (" +1" if p.pixel else ""),
            points[p.interpolation],
            ">" if p.strict else "≥",
            p.matching,
            "neither way" if p.honours_difficult else "like others",
            levels,
        ]


def test_the_slow_overlap_by_hand() -> None:
    square = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
    bow_tie = [(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0)]
    dart = [(0.0, 0.0), (4.0, 2.0), (0.0, 4.0), (1.0, 2.0)]
    assert overlap(square, bow_tie) == pytest.approx(2 / 4)
    assert overlap(bow_tie, bow_tie) == pytest.approx(1)
    assert overlap(dart, [(0.0, 1.5), (0.25, 1.5), (0.25, 2.5), (0.0, 2.5)]) == pytest.approx(0)
    assert overlap(dart, square, over_first=True) == pytest.approx(2 / 6)
    assert overlap(square, [(1.0, 0.0), (3.0, 0.0), (3.0, 2.0), (1.0, 2.0)][::-1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["dota", "dota_task2", "coco_oriented"])
def test_more_images_than_sixteen_bits_change_nothing(name: str) -> None:
    """The same images far apart among empty ones, so that another sort and long gaps between the images are met."""
    protocol = replace(PROTOCOLS[name], library="")
    the = random_case(3)
    far = [30_000 * (k + 1) for k in range(len(the.images))]
    objects = replace(the.objects, image=np.array(far)[the.objects.image])
    found = replace(the.found, image=np.array(far)[the.found.image])
    spread = Case(tuple(map(str, range(far[-1] + 9))), the.classes, objects, found)
    first, second = score(the, protocol), score(spread, protocol)
    np.testing.assert_array_equal(first.ap, second.ap)
    assert np.isfinite(first.ap).any()


def test_horizontal_boxes_that_share_the_last_pixel() -> None:
    """With whole pixels, boxes side by side share a column of them; a pixel further apart they do not."""
    rule = replace(PROTOCOLS["dota_task2"], thresholds=(0.1,))
    for gap, iou in ((0, 1 / 7), (1, 0.0), (2, 0.0)):
        quads = rectangle(0, 0, 3, 3), rectangle(3 + gap, 0, 3, 3)
        the = match(case([(0, 0, quads[0], "")], [(0, 0, 0.9, quads[1])], 1, 1), rule)
        assert the.best_iou.tolist() == [pytest.approx(iou, abs=1e-15)]
        assert the.best_object.tolist() == [0 if iou else -1]
