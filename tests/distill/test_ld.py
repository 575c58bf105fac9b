from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon
from torch import Tensor

from fledge.build import build_detector
from fledge.distill.ld import LD, bin_divergence, valuable
from fledge.distillers import DISTILLERS
from fledge.errors import UsageError
from fledge.geometry.boxes import corners
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets, flatten_levels

TINY = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "image_size": 64, "overlap": 0}
BINS = 7


def fixed() -> tuple[Tensor, Tensor]:
    """The scores of the notes: sin(0.9 k + 0.2) and cos(0.4 k + 0.8), four deltas of 17 values."""
    k = torch.arange(68, dtype=torch.float64)
    return (0.9 * k + 0.2).sin().view(1, 4, 17), (0.4 * k + 0.8).cos().view(1, 4, 17)


def targets(*rows: tuple[float, ...], ignore: tuple[int, ...] = ()) -> Targets:
    no = torch.zeros(len(rows), dtype=torch.bool)
    hidden = no.clone()
    hidden[list(ignore)] = True
    return Targets(torch.tensor(rows).view(-1, 5), no.long(), ignore=hidden, difficult=no)


def detector(seed: int, bins: int = BINS) -> RotatedRetinaNet:
    return build_detector(make_recipe({**TINY, "seed": seed, "box_bins": bins}, "test"), ["a", "b"]).eval()


def method(student: RotatedRetinaNet, teacher: RotatedRetinaNet, **given: Any) -> LD:
    made = DISTILLERS["ld"](make_recipe({**TINY, "method": "ld", "box_bins": BINS, **given}, "test"), student, teacher)
    assert isinstance(made, LD)
    return made


def batch(*objects: Targets) -> Batch:
    images = torch.randint(0, 256, (len(objects), 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return Batch(images.to(torch.uint8), torch.full((len(objects), 2), 64), objects)


SOME = batch(targets((30.0, 30, 34, 28, 0.2), (40, 24, 30, 20, -0.6)), targets(), targets((20.0, 40, 50, 20, 1.5)))


def test_golden_values() -> None:
    assert bin_divergence(*fixed()).item() == pytest.approx(0.0278080925, abs=1e-9)
    assert 17 * bin_divergence(*fixed()).item() == pytest.approx(0.4727375728, abs=1e-8)
    assert 17 * bin_divergence(*fixed(), 1.0).item() == pytest.approx(0.4307938955, abs=1e-8)


@given(st.floats(0.5, 20))
def test_divergence_by_hand(temperature: float) -> None:
    student, teacher = fixed()
    total = 0.0
    for s, t in zip(student[0].tolist(), teacher[0].tolist(), strict=True):
        p, q = ([math.exp(x / temperature) for x in row] for row in (t, s))
        total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    assert bin_divergence(student, teacher, temperature).item() == pytest.approx(temperature**2 * total / 68, abs=1e-9)


def test_nothing_to_learn_from_an_equal_or_from_two_that_know_nothing() -> None:
    student, _ = fixed()
    assert bin_divergence(student, student).item() == 0
    assert bin_divergence(torch.zeros(2, 5, 9), torch.full((2, 5, 9), 7.0)).tolist() == [0, 0]
    torch.testing.assert_close(bin_divergence(student, student + 3), torch.zeros(1).double())


def test_gradient() -> None:
    student, teacher = (x[:, :2, :5].clone().requires_grad_() for x in fixed())
    assert torch.autograd.gradcheck(lambda s: bin_divergence(s, teacher), (student,))
    bin_divergence(student, teacher).sum().backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None


def test_the_region_of_five_anchors() -> None:
    """Squares of 10 pixels, moved by 0, 3.2, 5, 7 and 12: IoU 1, .515, .333, .176 and 0; less the distance from 3.2 on
    .515 - 10.24/274 = .478, .333 - 25/325 = .256, .176 - 49/389 = .0505 and nothing."""
    anchors = torch.tensor([[10.0 + d, 10, 10, 10, 0] for d in (0, 3.2, 5, 7, 12)])
    positive = torch.tensor([[True, True, False, False, False]])
    objects = [targets((10.0, 10, 10, 10, 0))]
    assert valuable(anchors, objects, positive, 0.5).tolist() == [[False, False, True, False, False]]
    assert valuable(anchors, objects, torch.zeros_like(positive), 0.5).tolist() == [[False, True, True, False, False]]
    assert not valuable(anchors, [targets((10.0, 10, 10, 10, 0), ignore=(0,))], positive, 0.5).any()
    assert not valuable(anchors, [targets()], positive, 0.5).any()


def distance_iou(a: list[float], b: list[float]) -> float:
    one, two = (Polygon(corners(torch.tensor(x, dtype=torch.float64)).tolist()) for x in (a, b))
    low_x, low_y, high_x, high_y = one.union(two).bounds
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / ((high_x - low_x) ** 2 + (high_y - low_y) ** 2)
    return float(one.intersection(two).area / one.union(two).area - apart)


ROW = st.tuples(
    st.floats(0, 40, width=32), st.floats(0, 40, width=32), st.floats(4, 30, width=32), st.floats(4, 30, width=32),
    st.floats(-1.5, 1.5, width=32),
)  # fmt: skip


@settings(max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=6), st.lists(ROW, max_size=3), st.lists(ROW, max_size=3))
def test_the_region_by_polygons(
    rows: list[tuple[float, ...]], one: list[tuple[float, ...]], two: list[tuple[float, ...]]
) -> None:
    anchors = torch.tensor(rows)
    positive = torch.zeros(2, len(rows), dtype=torch.bool)
    positive[0, 0] = True
    near = valuable(anchors, [targets(*one), targets(*two)], positive, 0.5)
    for image, objects in enumerate((one, two)):
        for a, row in enumerate(rows):
            best = max((distance_iou(list(row), list(o)) for o in objects), default=0)
            if min(abs(best - 0.125), abs(best - 0.5)) > 1e-4:
                assert bool(near[image, a]) == (0.125 <= best < 0.5 and not positive[image, a])


def test_positives_are_never_in_the_region() -> None:
    student = detector(0)
    outputs = student(SOME.images)
    assignment = student.assign(outputs, SOME)
    near = valuable(student.anchor_boxes(outputs), SOME.targets, assignment.positive, 0.5)
    assert int(near.sum()) > assignment.positives > 0
    assert not (near & assignment.positive).any()
    assert not near[1].any()


@torch.no_grad()
def test_terms_by_a_slow_sum() -> None:
    """Anchor by anchor, in the order of the assignment."""
    student, teacher = detector(0), detector(1)
    own, lesson = student(SOME.images), teacher(SOME.images)
    terms = method(student, teacher, ld_weight=2.0, ld_vlr_weight=3.0, ld_temperature=5.0)(own, lesson, SOME)
    assignment = student.assign(own, SOME)
    near = valuable(student.anchor_boxes(own), SOME.targets, assignment.positive, 0.5)
    raw = [
        flatten_levels([o.features[f"box_bins.p{k}"].unflatten(1, (9, 5 * BINS)) for k in range(3, 8)])
        for o in (own, lesson)
    ]
    scores = flatten_levels(own.logits).sigmoid().amax(dim=2)
    for name, mask, weight in (("kd_ld", assignment.positive, 2), ("kd_ld_vlr", near, 3)):
        total = 0.0
        for image, anchor in mask.nonzero().tolist():
            s, t = (x[image, anchor].view(1, 5, BINS) for x in raw)
            total += float(scores[image, anchor]) * float(bin_divergence(s, t, 5.0))
        assert terms[name].item() == pytest.approx(weight * total / assignment.positives, rel=1e-4)


def test_where_gradients_go() -> None:
    """Into the box stack; the score that weighs an anchor is none of the loss's business."""
    student, teacher = detector(0), detector(1)
    with torch.no_grad():
        lesson = teacher(SOME.images)
    terms = method(student, teacher)(student(SOME.images), lesson, SOME)
    torch.autograd.backward(terms["kd_ld"] + terms["kd_ld_vlr"])
    reached = {k: p.grad is not None for k, p in student.head.named_parameters()}
    assert reached == {k: k.startswith("box_") for k in reached}


def test_large_scores_stay_finite() -> None:
    student, teacher = detector(0), detector(1)
    outputs = [d(SOME.images) for d in (student, teacher)]
    large = [replace(o, features={k: (1e3 * v).bfloat16() for k, v in o.features.items()}) for o in outputs]
    terms = method(student, teacher)(large[0], large[1], SOME)
    assert all(bool(v.isfinite()) and v.dtype == torch.float32 for v in terms.values())


@pytest.mark.parametrize("bins", [(0, 0), (0, BINS), (BINS, 9)])
def test_heads_that_differ_are_refused(bins: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"student {bins[0]}, teacher {bins[1]}"):
        method(detector(0, bins[0]), detector(1, bins[1]))


def test_a_student_learns_the_distributions() -> None:
    """Scores moved by the terms alone: the deltas of positives come to be the teacher's, those far off stay."""
    student, teacher = detector(0), detector(1)
    with torch.no_grad():
        own, lesson = student(SOME.images), teacher(SOME.images)
    lesson = replace(lesson, features={k: 10 * v for k, v in lesson.features.items()})
    start = {k: v for k, v in own.features.items() if k.startswith("box_bins.")}
    moved = {k: v.clone().requires_grad_() for k, v in start.items()}
    distiller, optimizer = method(student, teacher, ld_temperature=2.0), torch.optim.Adam(moved.values(), lr=0.1)
    history = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.stack(list(distiller(replace(own, features=moved), lesson, SOME).values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.02 * history[0]
    assert torch.equal(moved["box_bins.p3"][1], start["box_bins.p3"][1])  # an image without objects


def test_the_order_of_images_does_not_matter() -> None:
    student, teacher = detector(0), detector(1)
    own, lesson = student(SOME.images), teacher(SOME.images)

    def turned(outputs: Outputs) -> Outputs:
        return Outputs(
            tuple(x.flip(0) for x in outputs.logits),
            tuple(x.flip(0) for x in outputs.codes),
            {k: v.flip(0) for k, v in outputs.features.items()},
        )

    other = Batch(SOME.images.flip(0), SOME.sizes, SOME.targets[::-1])
    distiller = method(student, teacher)
    expected, found = distiller(own, lesson, SOME), distiller(turned(own), turned(lesson), other)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
