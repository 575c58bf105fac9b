"""Why detections are wrong, against plain loops with polygons of another library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from tests.data.made import rectangle

from fledge.evaluation.average_precision import score
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.failures import REASONS, Failures, best_f1, confusion, find_failures
from fledge.evaluation.matching import match
from fledge.evaluation.protocols import PROTOCOLS

DOTA = PROTOCOLS["dota"]
Shape = tuple[int, int, float, float, float, float, float]  # image, label, x, y, w, h, degrees


def box_of(shape: Shape) -> list[list[float]]:
    _, _, x, y, w, h, degrees = shape
    return rectangle(x, y, w, h, degrees)


def case_of(objects: list[Shape], found: list[tuple[Shape, float]], difficult: tuple[int, ...] = ()) -> Case:
    def parts(shapes: list[Shape]) -> tuple[np.ndarray, ...]:
        image = np.array([s[0] for s in shapes], dtype=np.int64)
        label = np.array([s[1] for s in shapes], dtype=np.int64)
        quads = np.array([box_of(s) for s in shapes], dtype=np.float64).reshape(-1, 4, 2)
        boxes = np.array([[*s[2:6], np.deg2rad((s[6] + 90) % 180 - 90)] for s in shapes]).reshape(-1, 5)
        return image, label, quads, boxes

    image, label, quads, boxes = parts(objects)
    hard = np.isin(np.arange(len(objects)), difficult)
    truth = Objects(image, label, quads, boxes, hard, np.zeros(len(objects), dtype=bool))
    image, label, quads, boxes = parts([s for s, _ in found])
    detections = Found(image, label, np.array([score for _, score in found]), quads, boxes)
    return Case(("i0", "i1"), ("a", "b"), truth, detections)


def iou(p: np.ndarray, q: np.ndarray) -> float:
    inter = Polygon(p).intersection(Polygon(q)).area
    return float(inter / (Polygon(p).area + Polygon(q).area - inter))


def plain(objects: list[Shape], found: list[tuple[Shape, float]], difficult: tuple[int, ...]) -> list[str]:
    """The fate of each detection: ``right``, ``-`` or a reason, one at a time from the rules as written."""
    quads = [np.array(box_of(s)) for s in objects]
    taken: set[int] = set()
    fates = [""] * len(found)
    for d in sorted(range(len(found)), key=lambda k: -found[k][1]):
        (image, label, x, y, w, h, angle), _ = found[d]
        mine = np.array(rectangle(x, y, w, h, angle))
        near = [g for g, s in enumerate(objects) if s[0] == image]
        overlap = {g: iou(mine, quads[g]) for g in near}
        own = [g for g in near if objects[g][1] == label]
        other = [g for g in near if objects[g][1] != label]
        best = max(own, key=lambda g: (overlap[g], -g), default=None)
        if best is not None and overlap[best] > 0.5:
            fates[d] = "-" if best in difficult else "duplicate" if best in taken else "right"
            taken.add(best)
        elif any(overlap[g] > 0.5 for g in other):
            fates[d] = "classification"
        elif any(overlap[g] > 0 and iou(np.array(rectangle(x, y, w, h, objects[g][6])), quads[g]) > 0.5 for g in own):
            fates[d] = "angle"
        elif any(overlap[g] >= 0.1 for g in own):
            fates[d] = "localisation"
        elif any(overlap[g] >= 0.1 for g in other):
            fates[d] = "both"
        else:
            fates[d] = "background"
    return fates


def kept(case: Case, found: list[int], objects: list[int]) -> Case:
    o, d = case.objects, case.found
    truth = Objects(o.image[objects], o.label[objects], o.quads[objects], o.boxes[objects], o.difficult[objects],
                    o.ignore[objects])  # fmt: skip
    return Case(
        case.images,
        case.classes,
        truth,
        Found(d.image[found], d.label[found], d.score[found], d.quads[found], d.boxes[found]),
    )


def plain_gains(case: Case, failures: Failures) -> dict[str, float]:
    """What each kind costs: the errors are mended in the detections themselves, and everything is scored anew."""

    def mean(changed: Case) -> float:
        values = score(changed, DOTA).ap[:, 0]
        return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0

    everything, whole = list(range(len(case.objects))), mean(case)
    gains = {}
    for k, reason in enumerate(REASONS):
        rows, d, o = [], case.found, case.objects
        label, quads, boxes = d.label.copy(), d.quads.copy(), d.boxes.copy()
        mended: set[int] = set()
        for i in sorted(range(len(d)), key=lambda r: -d.score[r]):
            g = int(failures.object[i])
            if failures.fate[i] != k:
                rows.append(i)
            elif k in (1, 2, 3) and g not in mended and not failures.found[g] and not o.difficult[g]:
                mended.add(g)
                label[i], quads[i], boxes[i] = o.label[g], o.quads[g], o.boxes[g]
                rows.append(i)
        changed = Case(case.images, case.classes, o, Found(d.image, label, d.score, quads, boxes))
        gains[reason] = mean(kept(changed, sorted(rows), everything)) - whole
    asked = [g for g in everything if not failures.missed[g]]
    return {**gains, "missed": mean(kept(case, list(range(len(case.found))), asked)) - whole}


SHAPES = st.tuples(
    st.integers(0, 1),
    st.integers(0, 1),
    st.integers(0, 8).map(lambda v: 11.0 * v),
    st.integers(0, 3).map(lambda v: 7.3 * v),
    st.sampled_from([30.0, 41.0]),
    st.sampled_from([9.0, 17.0]),
    st.sampled_from([0.0, 13.0, 50.0, 90.0, -37.0]),
)


@settings(max_examples=80)
@given(
    objects=st.sampled_from([0, 1, 4, 8]).flatmap(lambda n: st.lists(SHAPES, min_size=n, max_size=n)),
    shapes=st.sampled_from([0, 2, 12, 20]).flatmap(lambda n: st.lists(SHAPES, min_size=n, max_size=n)),
    difficult=st.sampled_from([(), (0,), (1, 2)]),
    random=st.randoms(use_true_random=False),
)
def test_reasons_are_those_of_plain_loops(
    objects: list[Shape], shapes: list[Shape], difficult: tuple[int, ...], random: np.random.Generator
) -> None:
    scores = [(k + 1) / 20 for k in range(len(shapes))]
    random.shuffle(scores)
    found = list(zip(shapes, scores, strict=True))
    case = case_of(objects, found, difficult)
    failures = find_failures(case, DOTA)
    outcome = match(case, DOTA).outcome[0]
    fates = ["-" if o < 0 else "right" if o else REASONS[f] for o, f in zip(outcome, failures.fate, strict=True)]
    assert fates == plain(objects, found, difficult)
    assert not (failures.missed & failures.found).any()
    assert failures.gain == pytest.approx(plain_gains(case, failures), abs=1e-12)
    table = confusion(case, failures, outcome, 0.0)
    assert table[:, :2].sum() == (outcome >= 0).sum()
    assert np.trace(table[:2, :2]) == (outcome == 1).sum()


LONG = (0, 0, 50.0, 50.0, 60.0, 12.0, 0.0)


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        ((0, 1, 51.0, 50.0, 60.0, 12.0, 0.0), "classification"),
        ((0, 0, 50.0, 50.0, 60.0, 12.0, 30.0), "angle"),
        ((0, 0, 50.0, 50.0, 60.0, 4.0, 90.0), "background"),  # turned, it would still be too thin
        ((0, 0, 50.0, 50.0, 60.0, 7.0, 90.0), "angle"),  # across: an overlap of 0.08
        ((0, 0, 80.0, 50.0, 60.0, 12.0, 0.0), "localisation"),
        ((0, 1, 80.0, 50.0, 60.0, 12.0, 0.0), "both"),
        ((0, 0, 300.0, 50.0, 60.0, 12.0, 0.0), "background"),
        ((1, 0, 50.0, 50.0, 60.0, 12.0, 0.0), "background"),
    ],
)
def test_one_error_of_each_kind(detection: Shape, reason: str) -> None:
    failures = find_failures(case_of([LONG], [(detection, 0.9)]), DOTA)
    assert REASONS[failures.fate[0]] == reason
    pointing = reason in ("classification", "angle", "localisation")
    assert failures.missed.tolist() == [not pointing]
    assert failures.gain[reason] == (1.0 if pointing else 0.0)


def test_what_a_duplicate_costs() -> None:
    """Two objects, the first found twice before the second: precision 1, 1/2, 2/3."""
    far = (0, 0, 250.0, 50.0, 60.0, 12.0, 0.0)
    case = case_of([LONG, far], [(LONG, 0.9), (LONG, 0.8), (far, 0.7)])
    failures = find_failures(case, PROTOCOLS["box_area"])
    assert [REASONS[k] if k >= 0 else "" for k in failures.fate] == ["", "duplicate", ""]
    assert failures.gain["duplicate"] == pytest.approx(1 - (0.5 + 0.5 * 2 / 3))
    assert failures.total("duplicate") == 1
    assert {failures.gain[k] for k in failures.gain if k != "duplicate"} == {0.0}


def test_an_error_that_points_to_a_found_object_is_only_removed() -> None:
    wrong = (0, 1, 50.0, 50.0, 60.0, 12.0, 0.0)
    far = (0, 1, 250.0, 50.0, 60.0, 12.0, 0.0)
    case = case_of([LONG, far], [(wrong, 0.9), (LONG, 0.8), (far, 0.7)])
    failures = find_failures(case, PROTOCOLS["box_area"])
    assert failures.gain["classification"] == pytest.approx((1 + 1) / 2 - (1 + 0.5) / 2)


def test_what_a_missed_object_costs() -> None:
    far = (0, 0, 250.0, 50.0, 60.0, 12.0, 0.0)
    failures = find_failures(case_of([LONG, far], [(LONG, 0.9)]), PROTOCOLS["box_area"])
    assert failures.missed.tolist() == [False, True]
    assert failures.gain["missed"] == pytest.approx(0.5)


def test_horizontal_boxes_have_no_angle() -> None:
    turned = (0, 0, 50.0, 50.0, 60.0, 12.0, 45.0)
    failures = find_failures(case_of([LONG], [(turned, 0.9)]), PROTOCOLS["voc12"])
    assert failures.fate.tolist() == [REASONS.index("localisation")]


def test_coco_matching_gives_each_object_once() -> None:
    """Two overlapping objects and two detections that both prefer the first: COCO gives the second to the other."""
    near = (0, 0, 54.0, 50.0, 60.0, 12.0, 0.0)
    case = case_of([LONG, near], [(LONG, 0.9), (LONG, 0.8)])
    assert find_failures(case, PROTOCOLS["coco_oriented"]).found.tolist() == [True, True]
    failures = find_failures(case, DOTA)
    assert failures.found.tolist() == [True, False]
    assert failures.total("duplicate") == 1


def test_the_best_f1() -> None:
    far = (0, 0, 250.0, 50.0, 60.0, 12.0, 0.0)
    case = case_of([LONG, far], [(LONG, 0.9), ((0, 0, 400.0, 0.0, 9.0, 9.0, 0.0), 0.5), (far, 0.5)])
    outcome = match(case, DOTA).outcome[0]
    assert best_f1(case, outcome, 2) == pytest.approx((0.5, 2 * 2 / 5))
    assert best_f1(case_of([LONG], []), np.zeros(0, dtype=np.int8), 1) == (1.0, 0.0)


def test_nothing_at_all() -> None:
    failures = find_failures(case_of([], []), DOTA)
    assert failures.fate.shape == (0,)
    assert set(failures.gain.values()) == {0.0}
