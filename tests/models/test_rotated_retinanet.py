from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.geometry import encode, rotated_iou
from fledge.losses.focal import focal_loss
from fledge.losses.kld import kld_loss
from fledge.models.detectors.dense import DenseDetector
from fledge.models.detectors.rotated_retinanet import smooth_l1_box_loss
from fledge.types import Batch, Outputs, Targets, flatten_levels

from .conftest import Build, MakeBatch


@pytest.mark.parametrize(("backbone", "millions"), [("resnet18", 20.08), ("resnet34", 30.19), ("resnet50", 36.64)])
def test_parameters_of_the_papers_layout(build: Build, backbone: str, millions: float) -> None:
    detector = build(classes=15, backbone=backbone, neck_channels=256, head_convs=4)
    count = sum(p.numel() for p in detector.parameters())
    assert round(count / 1e6, 2) == millions


def test_a_fresh_detector_finds_nothing(build: Build, make_batch: MakeBatch) -> None:
    detector = build(classes=15, backbone="resnet18", neck_channels=256, head_convs=4).train()
    with torch.no_grad():
        scores = flatten_levels(detector(make_batch(0, 0).images).logits).sigmoid()
    assert 0.008 < float(scores.mean()) < 0.015
    assert float((scores > 0.05).float().mean()) < 0.02


def test_shapes_and_order_of_everything(build: Build) -> None:
    detector = build().eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    sides = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert [tuple(x.shape) for x in outputs.logits] == [(2, 9, 3, *s) for s in sides]
    assert [tuple(x.shape) for x in outputs.codes] == [(2, 9, 5, *s) for s in sides]
    assert list(outputs.features) == ["c3", "c4", "c5", "p3", "p4", "p5", "p6", "p7"]
    anchors = detector.anchor_boxes(outputs)
    assert anchors.shape == (9 * sum(h * w for h, w in sides), 5)
    assert flatten_levels(outputs.logits).shape == (2, len(anchors), 3)


def blank(classes: int = 3, sides: tuple[tuple[int, int], ...] = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))) -> Outputs:
    """Outputs of two images in which nothing is found."""
    logits = tuple(torch.full((2, 9, classes, *s), -20.0) for s in sides)
    return Outputs(logits, tuple(torch.zeros(2, 9, 5, *s) for s in sides), {})


@pytest.mark.parametrize(
    ("level", "a", "row", "column"), [(0, 0, 0, 0), (0, 8, 7, 11), (1, 4, 2, 5), (2, 3, 1, 0), (3, 7, 0, 1)]
)
def test_a_planted_value_belongs_to_its_anchor(build: Build, level: int, a: int, row: int, column: int) -> None:
    detector, outputs = build(), blank()
    outputs.logits[level][1, a, 2, row, column] = 5.0
    outputs.codes[level][1, a, :, row, column] = torch.arange(5.0)
    where = flatten_levels(outputs.logits)[1].argmax()
    index, label = int(where) // 3, int(where) % 3
    assert label == 2
    assert flatten_levels(outputs.codes)[1, index].tolist() == [0, 1, 2, 3, 4]
    anchor = detector.anchor_boxes(outputs)[index]
    stride, ratio = 8 * 2**level, (0.5, 1.0, 2.0)[a // 3]
    base = 2.0 * stride * 2 ** (a % 3 / 3)
    expected = [stride * (column + 0.5), stride * (row + 0.5), base / ratio**0.5, base * ratio**0.5, 0]
    assert anchor.tolist() == pytest.approx(expected, rel=1e-6)


def plant(detector: DenseDetector, outputs: Outputs, image: int, box: Tensor, label: int, logit: float) -> None:
    """Make the anchor that fits best find a box."""
    anchors = detector.anchor_boxes(outputs)
    index = int(rotated_iou(anchors, box[None])[:, 0].argmax())
    codes = encode(anchors[index], box)
    for logits, deltas in zip(outputs.logits, outputs.codes, strict=True):
        _, a, _, height, width = logits.shape
        if index < a * height * width:
            cell, which = divmod(index, a)
            row, column = divmod(cell, width)
            logits[image, which, label, row, column] = logit
            deltas[image, which, :, row, column] = codes
            return
        index -= a * height * width


PLANTED = [[30, 20, 22, 9, 0.7], [70, 40, 12, 10, -1.5], [50, 50, 60, 8, -0.2], [90, 10, 4, 3, 1.0]]


def test_decode_returns_what_was_planted(build: Build) -> None:
    detector, outputs = build(), blank()
    boxes = torch.tensor(PLANTED)
    for i, box in enumerate(boxes):
        plant(detector, outputs, 1, box, i % 3, float(3 - i))
    nothing, found = detector.decode(outputs, torch.tensor([[64, 96], [64, 96]]))
    assert (len(nothing), nothing.boxes.shape, nothing.frame.size) == (0, (0, 5), (64, 96))
    torch.testing.assert_close(found.boxes, boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2, 1, 0]).sigmoid())
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert found.classes == detector.classes


def test_boxes_centred_in_the_padding_are_dropped(build: Build) -> None:
    detector, outputs = build(), blank()
    for box in torch.tensor(PLANTED):
        plant(detector, outputs, 0, box, 1, 2.0)
    found, _ = detector.decode(outputs, torch.tensor([[45, 80], [64, 96]]))
    assert sorted(found.boxes[:, 0].round().int().tolist()) == [30, 70]
    assert found.frame.size == (45, 80)


def test_suppression_within_a_class_only(build: Build) -> None:
    detector, outputs = build(), blank()
    first, second = torch.tensor([40.0, 30, 24, 10, 0.3]), torch.tensor([42.0, 31, 12, 12, 0.3])
    for label in (0, 1):
        plant(detector, outputs, label, first, 0, 4.0)
        plant(detector, outputs, label, second, label, 3.0)
    one, two = detector.decode(outputs, torch.tensor([[64, 96], [64, 96]]))
    assert (len(one), len(two)) == (1, 2)
    torch.testing.assert_close(one.boxes[0], first, atol=1e-3, rtol=0)


def test_threshold_and_most_detections(build: Build) -> None:
    detector = build(max_detections=7, nms_iou=1.0, score_threshold=0.3)
    generator = torch.Generator().manual_seed(0)
    outputs = blank()
    outputs = replace(outputs, logits=tuple(torch.randn(x.shape, generator=generator) for x in outputs.logits))
    for image, found in enumerate(detector.decode(outputs, torch.tensor([[64, 96], [64, 96]]))):
        best = flatten_levels(outputs.logits)[image].flatten().sigmoid().sort(descending=True).values
        torch.testing.assert_close(found.scores, best[:7])
    detector.score_threshold = float(best[2])
    _, few = detector.decode(outputs, torch.tensor([[64, 96], [64, 96]]))
    assert few.scores.tolist() == best[:2].tolist()


@pytest.mark.parametrize("box_loss", ["kld", "smooth_l1"])
@pytest.mark.parametrize("counts", [(0,), (0, 0), (3, 0), (0, 2)])
def test_images_without_objects_train(build: Build, make_batch: MakeBatch, box_loss: str, counts: tuple[int]) -> None:
    detector, batch = build(box_loss=box_loss).train(), make_batch(*counts)
    terms = detector.loss(detector(batch.images), batch)
    assert list(terms) == ["cls", "box"]
    assert all(t.shape == () and bool(t.isfinite()) and t.requires_grad for t in terms.values())
    assert (float(terms["box"].detach()) == 0) == (sum(counts) == 0)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in detector.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    assert detector.head.cls_out.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("box_loss", ["kld", "smooth_l1"])
def test_every_parameter_gets_a_gradient(build: Build, make_batch: MakeBatch, box_loss: str) -> None:
    detector, batch = build(box_loss=box_loss).train(), make_batch(6, 6)
    for module in detector.modules():  # timm starts the last norm of a residual branch at zero, which blocks gradients
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    torch.stack(list(detector.loss(detector(batch.images), batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    silent = [n for n, p in detector.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []


def test_loss_by_hand(build: Build, make_batch: MakeBatch) -> None:
    """The sum over anchors, one image and one anchor at a time, over the number of positives of the whole batch."""
    detector, batch = build().eval(), make_batch(2, 0, 5)
    with torch.no_grad():
        outputs = detector(batch.images)
        terms = detector.loss(outputs, batch)
    assignment, anchors = detector.assign(outputs, batch), detector.anchor_boxes(outputs)
    cls, box, positives, boxes = 0.0, 0.0, 0, iter(assignment.boxes)
    for logits, codes, labels in zip(
        flatten_levels(outputs.logits), flatten_levels(outputs.codes), assignment.labels.tolist(), strict=True
    ):
        for z, delta, anchor, label in zip(logits, codes, anchors, labels, strict=True):
            if label != -2:
                cls += float(focal_loss(z[None], torch.tensor([label if label >= 0 else 3])))
            if label >= 0:
                grown = anchor[2:4] * delta[2:4].exp()
                shifted = anchor[:2] + anchor[2:4] * delta[:2]
                found = torch.cat([shifted, grown, delta[4:]])
                box += float(kld_loss(found[None], next(boxes)[None]))
                positives += 1
    assert positives > 5
    assert float(terms["cls"]) == pytest.approx(cls / positives, rel=1e-4)
    assert float(terms["box"]) == pytest.approx(5.5 * box / positives, rel=1e-4)


def test_smooth_l1_box_loss_is_zero_for_the_encoded_box() -> None:
    anchors, boxes = torch.tensor([[20.0, 20, 16, 16, 0]]), torch.tensor([[22.0, 19, 20, 9, 1.2]])
    assert smooth_l1_box_loss(encode(anchors, boxes), anchors, boxes).item() == 0
    loss = smooth_l1_box_loss(encode(anchors, boxes) + torch.tensor([0.5, 0, 0, 0, 2.0]), anchors, boxes)
    assert loss.item() == pytest.approx(0.125 + 1.5, rel=1e-5)


class CountingAssigner:
    def __init__(self, assigner: object) -> None:
        self.assigner, self.calls = assigner, 0

    def __call__(self, anchors: Tensor, targets: tuple[Targets, ...]) -> Assignment:
        self.calls += 1
        result: Assignment = self.assigner(anchors, targets)  # type: ignore[operator]
        return result


def test_assignment_is_computed_once_a_batch(build: Build, make_batch: MakeBatch) -> None:
    detector = build().eval()
    detector.assigner = counter = CountingAssigner(detector.assigner)  # type: ignore[assignment]
    labels = []
    for seed in (0, 1, 2):
        batch = make_batch(3, 1, seed=seed)
        outputs = detector(batch.images)
        detector.loss(outputs, batch)
        labels.append(detector.assign(outputs, batch).labels)
        detector.loss(outputs, batch)
        assert counter.calls == seed + 1
        del batch  # the next one may get the same address
    assert not torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[1], labels[2])


def test_a_copy_learns_for_itself(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build().eval(), make_batch(3)
    expected = detector.loss(detector(batch.images), batch)
    twin = copy.deepcopy(detector)
    for name, value in twin.loss(twin(batch.images), batch).items():
        assert torch.equal(value, expected[name])


def test_half_precision_losses_are_float32(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build().train(), make_batch(4, 0)
    exact = detector.loss(detector(batch.images), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = detector.loss(detector(batch.images), batch)
    assert {t.dtype for t in terms.values()} == {torch.float32}
    for name, value in terms.items():
        assert float(value.detach()) == pytest.approx(float(exact[name].detach()), rel=0.05)


def test_padding_and_neighbours_do_not_change_an_image(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build().eval(), make_batch(2, 3, 0)
    with torch.no_grad():
        together, alone = detector(batch.images), detector(batch.images[1:2])
    torch.testing.assert_close(flatten_levels(together.logits)[1:2], flatten_levels(alone.logits), atol=1e-5, rtol=1e-4)


def test_nan_is_not_hidden_by_the_loss(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build().eval(), make_batch(3)
    outputs = detector(batch.images)
    broken = replace(outputs, logits=tuple(x * float("nan") for x in outputs.logits))
    assert bool(detector.loss(broken, batch)["cls"].isnan())
    broken = replace(outputs, codes=tuple(x * float("nan") for x in outputs.codes))
    assert bool(detector.loss(broken, batch)["box"].isnan())


def test_ignored_objects_teach_nothing(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build().eval(), make_batch(2)
    hidden = replace(batch.targets[0], ignore=torch.ones(2, dtype=torch.bool))
    plain = Batch(batch.images, batch.sizes, (Targets.empty(),))
    outputs = detector(batch.images)
    terms = detector.loss(outputs, Batch(batch.images, batch.sizes, (hidden,)))
    assert float(terms["box"].detach()) == 0
    assert 0 < float(terms["cls"].detach()) < float(detector.loss(outputs, plain)["cls"].detach())
