from __future__ import annotations

import cmath
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.export.conftest import make_record, noise
from torch import Tensor

from fledge.build import build_detector
from fledge.engine.optim import make_optimizer
from fledge.errors import UsageError
from fledge.export.graph import DetectorGraph
from fledge.export.onnx_file import onnx_bytes
from fledge.export.trace import record_graph, to_onnx
from fledge.geometry.iou import rotated_iou
from fledge.models.box_bins import BoxBins, angle_values, circular_mean, length_values
from fledge.models.heads import RetinaHead
from fledge.recipe import make_recipe
from fledge.types import Batch, Targets

BINS = [3, 8, 9, 17]


def one_hot(bins: int, chosen: int) -> Tensor:
    """Scores (1, 1, 5·bins, 1, 1) of five distributions that are sure of one value."""
    scores = torch.full((1, 1, 5, bins, 1, 1), -1e4)
    scores[:, :, :, chosen] = 0
    return scores.flatten(2, 3)


def turned(a: float, b: float) -> float:
    """How far two angles of a line are apart."""
    return abs((a - b + math.pi / 2) % math.pi - math.pi / 2)


@pytest.mark.parametrize("bins", BINS)
def test_certainty_is_the_value_itself(bins: int) -> None:
    module = BoxBins(bins)
    for k in range(bins):
        codes = module(one_hot(bins, k))[0, 0, :, 0, 0].tolist()
        assert codes[:4] == pytest.approx([reach * (2 * k / (bins - 1) - 1) for reach in (1, 1, 2, 2)], abs=1e-6)
        assert turned(codes[4], (k - bins // 2) * math.pi / bins) < 1e-6


def test_four_deltas_have_no_angle() -> None:
    scores = one_hot(9, 2)
    assert torch.equal(BoxBins(9)(scores[:, :, :36]), BoxBins(9)(scores)[:, :, :4])


@pytest.mark.parametrize("bins", BINS)
def test_angles_are_even_around_the_circle_and_one_is_zero(bins: int) -> None:
    angles = angle_values(bins).tolist()
    assert 0 in angles
    assert all(-math.pi / 2 - 1e-6 <= a < math.pi / 2 for a in angles)
    around = [*angles[1:], angles[0] + math.pi]
    assert [b - a for a, b in zip(angles, around, strict=True)] == pytest.approx([math.pi / bins] * bins, abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=45, max_size=45))
def test_means_by_hand(scores: list[float]) -> None:
    """Sums of weights times values, and the direction of a sum of complex numbers."""
    codes = BoxBins(9)(torch.tensor(scores).view(1, 1, 45, 1, 1))[0, 0, :, 0, 0].tolist()
    for d in range(5):
        powers = [math.exp(s) for s in scores[9 * d : 9 * d + 9]]
        shares = [p / sum(powers) for p in powers]
        if d < 4:
            values = length_values(9)[d].tolist()
            assert codes[d] == pytest.approx(sum(s * v for s, v in zip(shares, values, strict=True)), abs=1e-5)
            continue
        vector = sum(s * cmath.exp(2j * a) for s, a in zip(shares, angle_values(9).tolist(), strict=True))
        if abs(vector) > 1e-3:
            assert turned(codes[4], cmath.phase(vector) / 2) < 1e-3


@pytest.mark.parametrize("bins", BINS)
def test_nothing_breaks_at_the_seam(bins: int) -> None:
    """A distribution that is moved once around the circle, in small steps, moves its mean in steps as small."""
    angles = angle_values(bins).double()
    steps = torch.linspace(0, math.pi, 400, dtype=torch.float64)
    shares = (2 * (2 * (angles - steps[:, None])).cos()).softmax(dim=1)
    means = circular_mean(shares, angles).tolist()
    apart = [turned(a, b) for a, b in zip(means, [*means[1:], means[0]], strict=True)]
    assert max(apart) < 4 * math.pi / 400
    assert max(abs(a - b) for a, b in itertools.pairwise(means)) > 3  # a plain number would jump
    assert max(turned(m, float(s)) for m, s in zip(means, steps, strict=True)) < (0.35 if bins == 3 else 0.01)


def test_the_plain_mean_would_break() -> None:
    """Half at each side of the seam is the seam, not the middle."""
    angles = angle_values(8)
    share = torch.zeros(8)
    share[0], share[1], share[7] = 0.4, 0.3, 0.3
    assert turned(float(circular_mean(share, angles)), math.pi / 2) < 1e-6
    assert turned(float((share * angles).sum()), math.pi / 2) > 0.5


def test_gradient_of_the_circular_mean() -> None:
    scores = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    angles = angle_values(9).double()
    assert torch.autograd.gradcheck(lambda s: circular_mean(s.softmax(dim=1), angles), (scores,))


@pytest.mark.parametrize("bins", BINS)
@pytest.mark.parametrize("value", [0.0, 1e4])
def test_an_even_distribution_has_finite_gradients(bins: int, value: float) -> None:
    raw = torch.full((1, 2, 5 * bins, 1, 1), value, requires_grad=True)
    codes = BoxBins(bins)(raw)
    codes.sum().backward()
    assert codes.isfinite().all()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert float(raw.grad.abs().max()) < 100


def test_half_precision_is_computed_in_single() -> None:
    raw = torch.randn(1, 2, 45, 3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert BoxBins(9)(raw).dtype == torch.float32
    torch.testing.assert_close(BoxBins(9)(raw), BoxBins(9)(raw.float()))


def head(bins: int, tap: int | None = None, norm: bool = True) -> RetinaHead:
    torch.manual_seed(0)
    made = RetinaHead(classes=2, anchors=3, channels=16, convs=3, norm=norm, box_bins=bins)
    made.tap = tap
    return made


def levels() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"p3": torch.randn(2, 16, 4, 6, generator=generator), "p4": torch.randn(2, 16, 1, 1, generator=generator)}


@torch.no_grad()
def test_a_head_with_bins_starts_at_its_anchors() -> None:
    logits, codes, named = head(9)(levels())
    assert [tuple(x.shape) for x in logits] == [(2, 3, 2, 4, 6), (2, 3, 2, 1, 1)]
    assert [tuple(x.shape) for x in codes] == [(2, 3, 5, 4, 6), (2, 3, 5, 1, 1)]
    assert {k: tuple(v.shape) for k, v in named.items()} == {
        "box_bins.p3": (2, 135, 4, 6),
        "box_bins.p4": (2, 135, 1, 1),
    }
    assert max(float(x.abs().max()) for x in codes) < 0.2
    raw = named["box_bins.p3"].unflatten(1, (3, -1))
    assert torch.equal(BoxBins(9)(raw), codes[0])
    assert set(head(9).state_dict()) == set(head(0).state_dict())


@torch.no_grad()
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("tap", [0, 1, 2, 3])
def test_a_tap_changes_nothing_and_can_be_finished(tap: int, norm: bool) -> None:
    plain, tapped = head(0, None, norm)(levels()), head(0, tap, norm)
    logits, codes, named = tapped(levels())
    assert set(named) == {f"{stack}.{level}" for stack in ("cls_stack", "box_stack") for level in ("p3", "p4")}
    for own, other in ((logits, plain[0]), (codes, plain[1])):
        assert all(torch.equal(x, y) for x, y in zip(own, other, strict=True))
    kept = {k: v.clone() for k, v in named.items()}
    for i, level in enumerate(("p3", "p4")):
        again = tapped.finish(named[f"cls_stack.{level}"], named[f"box_stack.{level}"])
        assert torch.equal(again[0], logits[i])
        assert torch.equal(again[1], codes[i])
        x, stack = levels()[level], tapped.box_stack
        for layer in list(stack)[: max(tap * (3 if norm else 2) - 1, 0)]:
            x = layer(x)
        torch.testing.assert_close(named[f"box_stack.{level}"], x)
    assert all(torch.equal(v, kept[k]) for k, v in named.items())  # still before the activation
    assert tap == 0 or float(named["cls_stack.p3"].min()) < 0


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(UsageError, match="box_bins is 1 or 2"):
        make_recipe({"box_bins": 2}, "test")


TINY = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "head_norm": True, "anchor_scale": 2.0}


@pytest.mark.slow
def test_a_tiny_detector_learns_oriented_boxes_by_heart() -> None:
    """Among them one that stands almost upright, either side of the seam."""
    settings = {**TINY, "image_size": 64, "overlap": 0, "box_bins": 9, "freeze_norm": True}
    detector = build_detector(make_recipe(settings, "test"), ["a"]).train()
    rows = [[[20.0, 20, 28, 10, 0.4], [46, 44, 24, 9, 1.55]], [[32.0, 30, 30, 12, -1.53], [12, 50, 16, 8, -0.7]]]
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    targets = []
    for image, boxes in zip(images, rows, strict=True):
        no = torch.zeros(len(boxes), dtype=torch.bool)
        for x, y, w, h, a in boxes:
            image[:] = torch.maximum(image, drawn(x, y, w, h, a))
        targets.append(Targets(torch.tensor(boxes), no.long(), ignore=no, difficult=no))
    batch = Batch(images, torch.full((2, 2), 64), tuple(targets))
    optimizer = make_optimizer(detector, "adamw", 3e-3, 0.0, 0.9)
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(detector.loss(detector(batch.images), batch).values())).sum())
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 35.0)
        optimizer.step()
    with torch.no_grad():
        found = detector.eval().decode(detector(batch.images), batch.sizes)
    for detections, target in zip(found, targets, strict=True):
        sure = detections.boxes[detections.scores > 0.5]
        assert len(sure) == len(target)
        assert float(rotated_iou(target.boxes, sure).amax(dim=1).min()) > 0.75


def drawn(x: float, y: float, w: float, h: float, angle: float) -> Tensor:
    """(64, 64) uint8: a filled box, brighter where it is long."""
    i, j = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    along = (j - x) * math.cos(angle) + (i - y) * math.sin(angle)
    across = (i - y) * math.cos(angle) - (j - x) * math.sin(angle)
    return (200 * ((along.abs() <= w / 2) & (across.abs() <= h / 2))).to(torch.uint8)


@pytest.mark.slow
def test_exports_like_any_other() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    recipe = make_recipe({**TINY, "image_size": 64, "overlap": 0, "max_detections": 100, "box_bins": 8}, "test")
    detector = build_detector(recipe, ["a", "b"]).eval()
    generator = torch.Generator().manual_seed(1)
    assert isinstance(detector.head, RetinaHead)
    for layer, std in ((detector.head.cls_out, 0.3), (detector.head.box_out, 0.1)):
        torch.nn.init.normal_(layer.weight, std=std, generator=generator)
    graph, images = DetectorGraph(detector, (124, 116, 104)).eval(), noise(1, 64, 96)
    session = runtime.InferenceSession(onnx_bytes(to_onnx(record_graph(graph, 3, (64, 96))), make_record()))
    boxes, scores, _, counts = session.run(None, {"images": images.numpy()})
    expected = graph(images)
    assert counts.tolist() == expected[3].tolist()
    assert counts[0] > 5
    torch.testing.assert_close(torch.from_numpy(scores), expected[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(boxes), expected[0], atol=1e-2, rtol=0)
