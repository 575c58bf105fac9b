from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from tests.evaluation.oracle import case
from tests.evaluation.test_protocols import random_case, rectangle

from fledge.evaluation.case import Case
from fledge.evaluation.fingerprint import labels_sha256


@pytest.fixture
def the() -> Case:
    return random_case(3)


def test_it_is_a_constant() -> None:
    small = case([(0, 1, rectangle(0, 0, 4, 2), "difficult")], [], 2, 2)
    assert labels_sha256(small) == labels_sha256(case([(0, 1, rectangle(0, 0, 4, 2), "difficult")], [], 2, 2))
    assert labels_sha256(small) == "cf076e11a3a93242dc6385383c463bea5ad252c26bfbf23510d478a1173aa6c2"


def test_order_and_detections_do_not_matter(the: Case) -> None:
    rows = np.random.default_rng(0).permutation(len(the.objects))
    moved = replace(the.objects, **{f.name: getattr(the.objects, f.name)[rows] for f in fields(the.objects)})
    assert labels_sha256(replace(the, objects=moved)) == labels_sha256(the)
    assert labels_sha256(replace(the, found=random_case(4).found)) == labels_sha256(the)
    backwards = replace(moved, image=len(the.images) - 1 - moved.image, label=len(the.classes) - 1 - moved.label)
    turned = replace(the, images=the.images[::-1], classes=the.classes[::-1], objects=backwards)
    assert labels_sha256(turned) == labels_sha256(the)


def test_the_label_of_an_ignored_region_means_nothing() -> None:
    first, second = (case([(0, k, rectangle(0, 0, 4, 2), "ignore")], [], 1, 2) for k in (0, 7))
    assert labels_sha256(first) == labels_sha256(second)
    labels_sha256(case([(0, -1, rectangle(0, 0, 4, 2), "ignore")], [], 1, 0))


@pytest.mark.parametrize("name", ["image", "label", "quads", "difficult", "ignore", "images", "classes"])
def test_every_part_of_the_labels_counts(the: Case, name: str) -> None:
    if name in ("images", "classes"):
        change: dict[str, Any] = {name: (*getattr(the, name)[:-1], "another")}
        other = replace(the, **change)
    else:
        values = getattr(the.objects, name).copy()
        first = np.flatnonzero(~the.objects.ignore)[0]
        values[first] = ~values[first] if values.dtype == np.bool_ else values[first] + 1e-6 if name == "quads" else 3
        other = replace(the, objects=replace(the.objects, **{name: values}))
        if name == "image":
            other = replace(other, images=(*the.images, "x", "y", "z")[:4])
            the = replace(the, images=other.images)
    assert labels_sha256(other) != labels_sha256(the)
