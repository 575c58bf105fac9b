"""Merging patches, against a plain loop over patches with polygons of another library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from tests.data.made import rectangle

from fledge.errors import DataError, UsageError
from fledge.evaluation.merge import MergeRule, Patch, merge_patches, names_patches, patch_of
from fledge.evaluation.results.listing import Listing

CLASSES = ("ship", "plane")


def listing(rows: list[tuple[str, str, float, list[list[float]]]]) -> Listing:
    """Detections as (image, class, score, corners)."""
    images = tuple(dict.fromkeys(row[0] for row in rows))
    n = len(rows)
    return Listing(
        "made",
        images,
        CLASSES,
        np.array([images.index(row[0]) for row in rows], dtype=np.int64),
        np.array([CLASSES.index(row[1]) for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows], dtype=np.float64).reshape(n, 4, 2),
        ("made.txt",),
        np.zeros(n, dtype=np.int64),
        np.arange(1, n + 1),
    )


def plain_nms(rows: list[int], groups: Sequence[object], found: Listing, quads: np.ndarray, iou: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(rows, key=lambda r: (-found.score[r], r)):
        mine = Polygon(quads[i])
        for j in kept:
            other = Polygon(quads[j])
            if groups[i] == groups[j]:
                inter = mine.intersection(other).area
                if inter / (mine.area + other.area - inter) > iou:
                    break
        else:
            kept.append(i)
    return kept


def plain_merge(found: Listing, rule: MergeRule) -> list[tuple[str, int, int]]:
    """(image, class, line) of the survivors: everything in loops, with the names taken apart by hand."""
    rows = [i for i in range(len(found)) if found.score[i] >= rule.score]
    patch = [(found.images[found.image[i]], int(found.label[i])) for i in range(len(found))]
    rows = plain_nms(rows, list(patch), found, found.quads, rule.patch_iou)
    whole, groups = found.quads.copy(), []
    for i, (name, label) in enumerate(patch):
        image, rate, corner = name.split("__", 2)
        x, y = corner.split("___")
        whole[i] = (found.quads[i] + np.array([int(x), int(y)])) / float(rate)
        groups.append((image, label))
    rows = plain_nms(rows, groups, found, whole, rule.image_iou)
    return sorted((*groups[i], i + 1) for i in rows)


NAMES = ["P1__1.0__0___0", "P1__1.0__60___0", "P1__0.5__0___0", "P2__1__0___-20"]
ROW = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(CLASSES),
    st.sampled_from([0.01, 0.05, 0.3, 0.3, 0.9]),
    st.builds(
        rectangle,
        st.integers(0, 5).map(lambda v: 20.0 + 13.0 * v),
        st.integers(0, 1).map(lambda v: 20.0 + 5.0 * v),
        st.sampled_from([20.0, 32.0]),
        st.just(12.0),
        st.sampled_from([0.0, 11.0, 90.0]),
    ),
)
# Of a size drawn first: lists that grow by chance are mostly short.
ROWS = st.sampled_from([0, 1, 5, 25, 50]).flatmap(lambda n: st.lists(ROW, min_size=n, max_size=n))


@settings(max_examples=60)
@given(rows=ROWS, rule=st.sampled_from([MergeRule(), MergeRule(0.05, 0.52, 0.31), MergeRule(0.2, 0.1, 0.9)]))
def test_it_is_what_plain_loops_find(rows: list[tuple[str, str, float, list[list[float]]]], rule: MergeRule) -> None:
    found = listing(rows)
    merged = merge_patches(found, rule)
    survivors = sorted(
        (merged.images[i], int(k), int(line))
        for i, k, line in zip(merged.image, merged.label, merged.place, strict=True)
    )
    assert survivors == plain_merge(found, rule)
    assert np.all(np.diff(merged.place) > 0)  # in the order of the file


def test_points_go_to_the_whole_image() -> None:
    box = rectangle(20, 10, 10, 6)
    merged = merge_patches(listing([("a__b__0.5__100___40", "ship", 0.5, box)]))
    assert merged.images == ("a__b",)
    np.testing.assert_allclose(merged.quads[0], (np.array(box) + np.array([100, 40])) * 2)


def test_many_images_go_in_batches() -> None:
    """More boxes than go through NMS together, every one there twice in overlapping patches."""
    rows = []
    for k in range(3000):
        rows += [(f"P{k}__1__0___0", "ship", 0.5, rectangle(220, 50, 20, 10))]
        rows += [(f"P{k}__1__200___0", "ship", 0.6, rectangle(20, 50, 20, 10))]
    merged = merge_patches(listing(rows))
    assert len(merged) == 3000
    assert set(merged.score.tolist()) == {0.6}
    assert merged.images == tuple(f"P{k}" for k in range(3000))


def test_names() -> None:
    assert patch_of("P0001__1.0__824___-8") == Patch("P0001", 1.0, 824, -8)
    assert patch_of("x__y__1__0___0") == Patch("x__y", 1.0, 0, 0)
    for name in ("P0001", "P0001__1__0__0", "P0001__0__0___0", "P1__1.0__0___0.5", "__1__0___0"):
        assert patch_of(name) is None


def test_it_is_known_when_to_merge() -> None:
    found = listing([("P1__1__0___0", "ship", 0.5, rectangle(5, 5, 4, 2))])
    assert names_patches(found, ("P1", "P2"))
    assert not names_patches(found, ("P1__1__0___0",))
    assert not names_patches(found, ("P3",))


def test_faults() -> None:
    found = listing([("P1__0.0001__0___0", "ship", 0.5, rectangle(500, 5, 4, 2))])
    with pytest.raises(DataError, match=r"beyond a million pixels: made.txt:1"):
        merge_patches(found)
    with pytest.raises(UsageError, match="numbers from 0 to 1"):
        merge_patches(found, MergeRule(image_iou=1.5))
    assert len(merge_patches(listing([]))) == 0
