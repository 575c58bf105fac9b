"""Losses meet what data and young networks can throw at them. One function a row of the list of faults."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fledge.build import BOX_LOSSES, build_detector
from fledge.distill.kd_rnet import KDRNet, box_difference, class_divergence
from fledge.engine.train_step import TrainStep
from fledge.geometry import rotated_iou
from fledge.losses.focal import focal_loss
from fledge.losses.gwd import gwd_loss
from fledge.losses.kfiou import kfiou_loss
from fledge.losses.kld import kld_loss
from fledge.losses.rotated_iou import rotated_iou_loss
from fledge.losses.smooth_l1 import smooth_l1_loss
from fledge.models.detectors.rotated_retinanet import RotatedRetinaNet
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets

Loss = Callable[[Tensor, Tensor], Tensor]
BOX_PAIRS: dict[str, Loss] = {"kld": kld_loss, "gwd": gwd_loss, "kfiou": kfiou_loss, "rotated_iou": rotated_iou_loss}
ROW_PAIRS: dict[str, Loss] = {
    **BOX_PAIRS,
    "smooth_l1": smooth_l1_loss,
    "focal": lambda x, y: focal_loss(x, (y[:, 0] > 0).long()),
    "kd_cls": class_divergence,
    "kd_cls_sigmoid": lambda x, y: class_divergence(x, y, probability="sigmoid", direction="teacher_student"),
    "kd_box": box_difference,
}
SIDE = 32
CLASSES = ("plane", "ship", "tank")
FORMS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "sigmoid": {"probability": "sigmoid", "direction": "teacher_student"},
    "positive": {"anchors": "positive", "squared_temperature": True, "box_temperature": 1.0},
}


@cache
def detector(seed: int = 0) -> RotatedRetinaNet:
    tiny = {"backbone": "resnet18_quarter", "neck_channels": 8, "head_convs": 1, "anchor_scale": 2.0}
    made = build_detector(make_recipe({**tiny, "image_size": SIDE, "overlap": 0, "seed": seed}, "test"), CLASSES)
    assert isinstance(made, RotatedRetinaNet)
    return made


def batch_of(*images: Tensor, side: int = SIDE) -> Batch:
    """A batch of noise with these boxes (N, 5) in it, the labels in turn."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (len(images), 3, side, side), generator=generator, dtype=torch.uint8)
    targets = [
        Targets(
            boxes=boxes,
            labels=torch.arange(len(boxes)) % len(CLASSES),
            ignore=torch.zeros(len(boxes), dtype=torch.bool),
            difficult=torch.zeros(len(boxes), dtype=torch.bool),
        )
        for boxes in images
    ]
    return Batch(pictures, torch.full((len(images), 2), side), tuple(targets))


def random_outputs(images: int, seed: int, size: float, grad: bool = True) -> Outputs:
    """What a network of unknown quality might say: logits and codes of this size on the detector's grid."""
    generator = torch.Generator().manual_seed(seed)
    sides = [-(-SIDE // stride) for stride in (8, 16, 32, 64, 128)]

    def maps(depth: int) -> tuple[Tensor, ...]:
        shapes = [(images, 9, depth, side, side) for side in sides]
        return tuple((size * torch.randn(shape, generator=generator)).requires_grad_(grad) for shape in shapes)

    return Outputs(maps(len(CLASSES)), maps(5), {})


def all_terms(outputs: Outputs, lesson: Outputs, batch: Batch) -> dict[str, Tensor]:
    """The detector's losses with every box loss, and every form of the distillation terms."""
    net = detector()
    terms: dict[str, Tensor] = {}
    for name, box_loss in BOX_LOSSES.items():
        net.box_loss = box_loss
        own = net.loss(outputs, batch)
        terms |= {"cls": own["cls"], f"box, {name}": own["box"]}
    for form, options in FORMS.items():
        distiller = KDRNet(net.assign, len(CLASSES), **options)
        terms |= {f"{key}, {form}": value for key, value in distiller(outputs, lesson, batch).items()}
    return terms


def gradients(total: Tensor, outputs: Outputs) -> list[Tensor]:
    found = torch.autograd.grad(total, [*outputs.logits, *outputs.codes], allow_unused=True, retain_graph=True)
    return [g for g in found if g is not None]


def test_zero_boxes() -> None:
    """Zero boxes (0, 5) on either side: result shape (0, M) or (N, 0); loss 0.0 with a gradient; no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some, none = torch.tensor([[10.0, 10, 8, 4, 0.2]] * 3), torch.zeros(0, 5)
        assert rotated_iou(none, some).shape == (0, 3)
        assert rotated_iou(some, none).shape == (3, 0)
        for name, loss in ROW_PAIRS.items():
            pred = torch.zeros(0, 5, requires_grad=True)
            total = loss(pred, none).sum()
            assert (float(total.detach()), total.requires_grad) == (0, True), name
            total.backward()  # type: ignore[no-untyped-call]
        outputs = random_outputs(2, 0, 1.0)
        for name, term in all_terms(outputs, random_outputs(2, 1, 1.0, grad=False), batch_of(none, none)).items():
            assert term.requires_grad
            empty = name.startswith(("box", "kd_box")) or name == "kd_cls, positive"
            assert (float(term.detach()) == 0) == empty, name
            assert all(bool(g.isfinite().all()) for g in gradients(term, outputs))


def test_flat_boxes_from_the_network() -> None:
    """Zero width or height, negative size: what the network says is clamped before any logarithm or division."""
    outputs = random_outputs(1, 0, 1.0)
    for level in outputs.codes:
        level.data[:, :, 2] = -1e30
        level.data[:, :, 3] = -math.inf  # exp of it is a side of 0
    for name, term in all_terms(outputs, outputs, batch_of(torch.tensor([[15.0, 15, 20, 10, 0.3]]))).items():
        if name.startswith("box") and "smooth_l1" not in name:  # smooth L1 sees the codes themselves
            assert bool(term.isfinite()), name
            assert all(bool(g.isfinite().all()) for g in gradients(term, outputs)), name
    flat = torch.tensor([[10.0, 10, 0, 4, 0], [10, 10, -5, -5, 1], [10, 10, 0, 0, 0]], requires_grad=True)
    for name, loss in BOX_PAIRS.items():
        value = loss(flat, torch.tensor([[10.0, 10, 8, 4, 0.2]] * 3))
        (gradient,) = torch.autograd.grad(value.sum(), flat)
        assert bool(value.isfinite().all() & gradient.isfinite().all()), name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["logits", "codes"])
def test_a_number_that_is_not_finite(where: str, value: float) -> None:
    """NaN or inf coordinate: inside the graph it propagates, so that the loop can stop; never 0."""
    box = torch.tensor([[15.0, 15, 20, 10, 0.3]])
    outputs, batch = random_outputs(1, 0, 1.0), batch_of(box)
    positive = detector().assign(outputs, batch).positive
    assert positive.any()
    for level in getattr(outputs, where):
        level.data[:, :, 0] = value
    terms = all_terms(outputs, random_outputs(1, 1, 1.0, grad=False), batch)
    touched = ("cls", "kd_cls") if where == "logits" else ("box", "kd_box")
    for name, term in terms.items():
        if name.startswith(touched):
            assert not bool(term.isfinite()) or (value == -math.inf and name == "cls"), name
        else:
            assert bool(term.isfinite()), name
    for name, loss in ROW_PAIRS.items():
        rows = torch.tensor([[15.0, 15, 20, 10, 0.3]] * 5)
        for column in range(5):
            rows[column, column] = math.nan
        if name != "focal":
            assert bool(loss(rows, box.expand(5, 5)).isnan().all()), name


EXTREMES = [
    (10, 10, 0, 0, 0.3),
    (10, 10, 1e-3, 1e-3, 0),
    (10, 10, 4000, 1e-3, 1.0),
    (10, 10, 20, 0, -math.pi / 2),
    (10, 10, 20, 20, math.pi / 2),
    (1e5, -1e5, 4000, 5, 0.7),
    (10, 10, 4, 2, 0.3),
]


@pytest.mark.parametrize("name", BOX_PAIRS)
def test_degenerate_boxes(name: str) -> None:
    """Gaussian losses at w = 0, w >> h, equal boxes: finite value and gradient; the covariance floor is documented."""
    index = torch.cartesian_prod(torch.arange(len(EXTREMES)), torch.arange(len(EXTREMES)))
    for dtype in (torch.float32, torch.float64):
        pred, target = (torch.tensor(EXTREMES, dtype=dtype)[index[:, k]] for k in (0, 1))
        pred.requires_grad_()
        value = BOX_PAIRS[name](pred, target)
        (gradient,) = torch.autograd.grad(value.sum(), pred)
        assert value.dtype == dtype
        assert bool(value.isfinite().all())
        assert bool(gradient.isfinite().all())
    if name != "rotated_iou":
        import fledge.geometry.gaussian as module

        assert "MIN_SIDE" in str(module.__doc__)


@pytest.mark.parametrize("name", sorted(BOX_LOSSES))
def test_half_precision(name: str) -> None:
    """Half precision: geometry is computed in float32; losses are float32 under autocast."""
    for loss in ROW_PAIRS.values():
        rows = torch.tensor([[15.0, 15, 20, 10, 0.3]] * 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert loss(rows, rows + 0.5).dtype == torch.float32
    for loss in BOX_PAIRS.values():
        for half in (torch.float16, torch.bfloat16):
            value = loss(rows.to(half), (rows + 1).to(half))
            assert value.dtype == torch.float32
            assert bool(value.isfinite().all())
    student, teacher = detector(0), detector(1)
    student.box_loss = BOX_LOSSES[name]
    step = TrainStep(student, teacher, KDRNet(student.assign, len(CLASSES)), precision="bf16").train()
    # Larger images: batch norms over two values of half precision make gradients of their own.
    batch = batch_of(torch.tensor([[15.0, 15, 20, 10, 0.3]]), torch.zeros(0, 5), side=96)
    terms = step(batch)
    assert {t.dtype for t in terms.values()} == {torch.float32}
    step.zero_grad()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(bool(p.grad.isfinite().all()) for p in step.parameters() if p.grad is not None)


BOX = st.tuples(
    st.floats(-10, SIDE + 10, width=32),
    st.floats(-10, SIDE + 10, width=32),
    st.one_of(st.sampled_from([1e-3, 1.0, 16.0, 500.0]), st.floats(0.5, 80, width=32)),
    st.one_of(st.sampled_from([1e-3, 1.0, 16.0, 500.0]), st.floats(0.5, 80, width=32)),
    st.floats(-4, 4, width=32),
)
ONE = BOX.map(lambda box: [box])
EQUAL = st.tuples(BOX, st.integers(2, 40)).map(lambda pair: [pair[0]] * pair[1])
CROWD = st.integers(0, 100).map(
    lambda seed: (
        torch.rand(2000, 5, generator=torch.Generator().manual_seed(seed)) * torch.tensor([SIDE, SIDE, 30, 10, 3])
        + torch.tensor([0, 0, 1, 1, -1.5])
    ).tolist()
)
# A crowd one time in fourteen.
IMAGE = st.one_of(st.just([]), ONE, ONE, EQUAL, EQUAL, *[st.lists(BOX, max_size=6)] * 8, CROWD)


@settings(max_examples=200)
@given(IMAGE, IMAGE, st.sampled_from([0.01, 1.0, 10.0, 100.0]), st.integers(0, 1000))
def test_any_batch(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], size: float, seed: int) -> None:
    """N1: each loss finite, with finite gradient, on 200 batches, among them zero, one, 2,000 and equal objects."""
    batch = batch_of(*(torch.tensor(rows, dtype=torch.float32).reshape(-1, 5) for rows in (first, second)))
    outputs, lesson = random_outputs(2, seed, size), random_outputs(2, seed + 1, size, grad=False)
    terms = all_terms(outputs, lesson, batch)
    assert [name for name, term in terms.items() if not bool(term.isfinite())] == []
    if not all(bool(g.isfinite().all()) for g in gradients(torch.stack(list(terms.values())).sum(), outputs)):
        finite = {n: all(bool(g.isfinite().all()) for g in gradients(t, outputs)) for n, t in terms.items()}
        pytest.fail(f"gradients are not finite: {finite}")
