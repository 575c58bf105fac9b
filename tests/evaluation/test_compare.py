"""The paired bootstrap, against copying the drawn images and scoring them anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fledge.errors import UsageError
from fledge.evaluation.average_precision import score
from fledge.evaluation.case import Case, Found, Objects
from fledge.evaluation.compare import compare
from fledge.evaluation.protocols import PROTOCOLS, Protocol


def rectangles(boxes: np.ndarray) -> np.ndarray:
    half = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return np.asarray(boxes[:, None, :2] + half * boxes[:, None, 2:4])


def made(seed: int, images: int = 12, quality: float = 0.7, salt: int = 0) -> Case:
    """Objects in a row in each image; a share of them found, some twice, some badly, and noise. Scores all differ."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, salt])
    count = 4 * images
    image, label = np.repeat(np.arange(images), 4), rng.integers(0, 3, count)
    boxes = np.column_stack(
        [
            np.tile([20.0, 60, 100, 140], images),
            np.full(count, 50.0),
            np.full(count, 24.0),
            np.full(count, 12.0),
            np.zeros(count),
        ]
    )
    none = np.zeros(count, dtype=bool)
    objects = Objects(image, label, rectangles(boxes), boxes, rng.random(count) < 0.1, none)
    keep = np.flatnonzero(noise.random(count) < quality)
    keep = np.concatenate([keep, keep[::5], noise.integers(0, count, images)])
    found = boxes[keep] + np.column_stack([noise.normal(0, 3, (len(keep), 2)), np.zeros((len(keep), 3))])
    order = noise.permutation(len(keep))
    scores = (order + 1) / (len(keep) + 1)
    wrong = noise.random(len(keep)) < 0.15
    labels = np.where(wrong, (label[keep] + 1) % 3, label[keep])
    return Case(
        tuple(f"i{k}" for k in range(images)),
        ("a", "b", "c"),
        objects,
        Found(image[keep], labels, scores, rectangles(found), found),
    )


def drawn(case: Case, chosen: np.ndarray) -> Case:
    """The images drawn, each under a name of its own; the copies of a detection one after the other."""
    rows, places, found, owners = [], [], [], []
    for place, i in enumerate(chosen):
        mine = np.flatnonzero(case.objects.image == i)
        rows.append(mine)
        places.append(np.full(len(mine), place))
        hers = np.flatnonzero(case.found.image == i)
        found.append(hers)
        owners.append(np.full(len(hers), place))
    r, f = np.concatenate(rows), np.concatenate(found)
    o, d = case.objects, case.found
    return Case(
        tuple(f"copy{k}" for k in range(len(chosen))),
        case.classes,
        Objects(np.concatenate(places), o.label[r], o.quads[r], o.boxes[r], o.difficult[r], o.ignore[r]),
        Found(np.concatenate(owners), d.label[f], d.score[f], d.quads[f], d.boxes[f]),
    )


@pytest.mark.parametrize("name", ["dota", "box_area", "coco_oriented"])
def test_each_draw_is_what_scoring_the_copies_gives(name: str) -> None:
    protocol = replace(PROTOCOLS[name], library="")
    one, other = made(1, salt=1), made(1, salt=2, quality=0.8)
    random = np.random.default_rng(5)
    differences = []
    for _ in range(15):
        chosen = random.integers(12, size=12)
        differences.append(score(drawn(one, chosen), protocol).mean() - score(drawn(other, chosen), protocol).mean())
    result = compare(one, other, protocol, "AP50:95", draws=15, seed=5)
    assert result.mean == pytest.approx(np.mean(differences), abs=1e-12)
    assert (result.low, result.high) == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=1e-12)
    tail = min(sum(d <= 0 for d in differences), sum(d >= 0 for d in differences))
    assert result.p == min(1, 2 * (tail + 1) / 16)
    assert result.first == pytest.approx(score(one, protocol).mean(), abs=1e-12)


def ap50(name: str = "dota") -> Protocol:
    return PROTOCOLS[name]


def test_a_result_does_not_differ_from_itself() -> None:
    result = compare(made(2), made(2), ap50())
    assert (result.figure, result.difference, result.low, result.high, result.p) == ("AP50", 0, 0, 0, 1)


def test_under_the_null_small_p_are_rare() -> None:
    """Two results of equal quality: p below 0.1 in about a tenth of the cases."""
    ps = [compare(made(s, 30, salt=1), made(s, 30, salt=2), ap50(), draws=100).p for s in range(40)]
    assert 0 <= sum(p < 0.1 for p in ps) <= 11  # more than 11 of 40 has a probability below 0.1 %
    assert np.median(ps) > 0.2


def test_a_planted_difference_is_found() -> None:
    result = compare(made(3, 40, 0.95, 1), made(3, 40, 0.5, 2), ap50(), draws=200)
    assert result.low > 0
    assert result.p < 0.05
    assert result.low < result.difference < result.high


def test_the_seed_decides() -> None:
    one, other = made(4, salt=1), made(4, salt=2)
    assert compare(one, other, ap50(), draws=50) == compare(one, other, ap50(), draws=50)
    assert compare(one, other, ap50(), draws=50).mean != compare(one, other, ap50(), draws=50, seed=1).mean


def test_faults() -> None:
    with pytest.raises(UsageError, match="different images"):
        compare(made(1), made(1, images=11), ap50())
    with pytest.raises(UsageError, match="no figure AP75: protocol fair1m: it has AP50"):
        compare(made(1), made(1), ap50("fair1m"), "AP75")
