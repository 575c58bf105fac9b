"""What every detector owes, over every backbone: add one to ``SETTINGS`` and it is held to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fledge.build import BACKBONES, build_detector
from fledge.errors import DataError, NumericError, UsageError
from fledge.models.detectors.dense import DenseDetector
from fledge.models.detectors.faster_rcnn import FasterRCNN
from fledge.recipe import make_recipe
from fledge.types import Batch, Detections, Outputs, Targets

CLASSES = ("plane", "ship", "tank")
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"detector": "rotated_retinanet", "backbone": name} for name in BACKBONES},
    "smooth_l1": {"backbone": "resnet18_quarter", "box_loss": "smooth_l1"},
    "frozen": {"backbone": "resnet18_quarter", "frozen_stages": 2, "freeze_norm": True},
    "retinanet": {"detector": "retinanet", "backbone": "resnet18_quarter"},
    "faster_rcnn": {"detector": "faster_rcnn", "backbone": "resnet18_quarter", "region_width": 32, "proposals": 100},
    "faster_rcnn, mobilenetv2": {
        "detector": "faster_rcnn", "backbone": "mobilenetv2_half", "region_width": 32, "proposals": 100,
        "box_loss": "smooth_l1", "head_norm": True,
    },
}  # fmt: skip


def make(name: str, **settings: Any) -> DenseDetector:
    tiny = {"neck_channels": 16, "head_convs": 1, "image_size": 64, "overlap": 0, **SETTINGS[name], **settings}
    return build_detector(make_recipe(tiny, "test"), CLASSES)


@pytest.fixture(params=SETTINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def batch() -> Batch:
    """One image of 64 × 96 with two objects, one smaller image in padding without any."""
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    boxes = torch.tensor([[30.0, 30, 34, 30, 0.2], [70, 40, 40, 20, -1.2]])
    no = torch.zeros(2, dtype=torch.bool)
    targets = Targets(boxes, torch.tensor([0, 2]), ignore=no, difficult=no, image_id="a")
    return Batch(images, torch.tensor([[64, 96], [50, 60]]), (targets, Targets.empty("b")))


def test_forward(name: str, batch: Batch) -> None:
    detector = make(name).eval()
    with torch.no_grad():
        outputs, again = detector(batch.images), detector(batch.images.float(), targets=batch.targets)
    assert isinstance(outputs, Outputs)
    assert dataclasses.is_dataclass(outputs)
    for ours, theirs in ((outputs.logits, again.logits), (outputs.codes, again.codes)):
        assert isinstance(ours, tuple)
        for x, y in zip(ours, theirs, strict=True):
            assert type(x) is Tensor
            assert (x.dtype, x.shape[0]) == (torch.float32, 2)
            assert bool(x.isfinite().all())
            assert torch.equal(x, y)
    two_stages, levels = isinstance(detector, FasterRCNN), len(outputs.logits)
    assert [x.shape[2] for x in outputs.logits] == [1 if two_stages else len(CLASSES)] * levels
    assert [x.shape[2] for x in outputs.codes] == [4 if detector.horizontal else 5] * levels
    first = 2 if two_stages else 3
    assert set(outputs.features) == {f"c{k}" for k in range(first, 6)} | {f"p{k}" for k in range(first, first + 5)}
    assert (outputs.regions is not None) == two_stages
    for level, x in zip(detector.neck.levels, outputs.logits, strict=True):  # type: ignore[arg-type]
        stride = 2 ** int(level[1:])
        assert x.shape[-2:] == outputs.features[level].shape[-2:] == (-(-64 // stride), -(-96 // stride))
    dense = detector.dense(batch.images)
    assert dense.regions is None
    assert all(torch.equal(x, y) for x, y in zip(dense.logits, outputs.logits, strict=True))
    assert all(type(x) is Tensor and x.ndim == 4 for x in outputs.features.values())


def test_loss_trains_what_may_learn(name: str, batch: Batch) -> None:
    detector = make(name).train()
    terms = detector.loss(detector(batch.images, batch.targets), batch)
    assert terms
    for term, value in terms.items():
        assert isinstance(term, str)
        assert (value.shape, value.dtype) == ((), torch.float32)
        assert bool(value.isfinite())
        assert float(value.detach()) > 0
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in detector.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())


def test_loss_calls_no_module_and_leaves_the_outputs(name: str, batch: Batch) -> None:
    detector = make(name).eval()
    outputs = detector(batch.images, batch.targets)
    copies = [x.clone() for x in (*outputs.logits, *outputs.codes)]
    calls: list[nn.Module] = []
    for module in detector.modules():
        module.register_forward_hook(lambda m, *_: calls.append(m))
    detector.loss(outputs, batch)
    detector.decode(outputs, batch.sizes)
    assert calls == []
    assert all(torch.equal(x, y) for x, y in zip((*outputs.logits, *outputs.codes), copies, strict=True))


def test_decode(name: str, batch: Batch) -> None:
    detector = make(name, score_threshold=0.009, max_detections=300).eval()
    with torch.no_grad():
        found = detector.decode(detector(batch.images), batch.sizes)
    assert len(found) == 2
    for detections, (height, width) in zip(found, batch.sizes.tolist(), strict=True):
        assert isinstance(detections, Detections)
        assert detections.classes == CLASSES
        assert 0 < len(detections) <= 300
        boxes, scores, labels = detections.boxes, detections.scores, detections.labels
        assert (boxes.dtype, scores.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
        assert not boxes.requires_grad
        assert bool((boxes[:, 2] >= boxes[:, 3]).all() & (boxes[:, 3] > 0).all())
        assert bool(((boxes[:, 4] >= -torch.pi / 2) & (boxes[:, 4] < torch.pi / 2)).all())
        assert bool(((boxes[:, 0] <= width) & (boxes[:, 1] <= height) & (boxes[:, :2] >= 0).all(dim=1)).all())
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert bool(((scores > 0.009) & (scores <= 1)).all())
        assert bool(((labels >= 0) & (labels < len(CLASSES))).all())
        if detector.horizontal:
            upright = torch.stack([boxes[:, 4].abs(), (boxes[:, 4] + torch.pi / 2).abs()]).amin(dim=0)
            assert float(upright.max()) < 1e-6
        assert detections.frame.size == (height, width)


def test_same_seed_same_weights(name: str) -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    first = make(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(100)
    again, other = make(name, seed=3).state_dict(), make(name, seed=4).state_dict()
    assert list(first) == list(again) == list(other)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["head.cls_out.weight"], other["head.cls_out.weight"])
    assert not any(torch.equal(first[k], other[k]) for k in first if k.startswith("backbone") and first[k].ndim == 4)


def test_weights_travel_by_state_dict(name: str, batch: Batch) -> None:
    first, second = make(name, seed=1).eval(), make(name, seed=2).eval()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        ours, theirs = first(batch.images), second(batch.images)
    assert all(torch.equal(x, y) for x, y in zip(ours.logits, theirs.logits, strict=True))


class Tuples(nn.Module):
    """An export takes tuples of tensors."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        outputs = self.detector(images)
        return outputs.logits, outputs.codes


@pytest.mark.parametrize("backbone", ["resnet18_quarter", "mobilenetv2_half"])
def test_forward_exports_without_targets(backbone: str) -> None:
    detector = Tuples(make(backbone).eval())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    program = torch.export.export(detector, (images,))
    with torch.no_grad():
        for ours, theirs in zip(program.module()(images), detector(images), strict=True):
            for x, y in zip(ours, theirs, strict=True):
                torch.testing.assert_close(x, y)


@pytest.mark.parametrize("name", ["resnet18_quarter", "retinanet", "faster_rcnn"])
def test_ignored_objects_teach_nothing(name: str, batch: Batch) -> None:
    """Beside no object at all, an ignored one only hides anchors and regions: no box is learnt from it."""
    detector = make(name).train()
    hidden = dataclasses.replace(batch.targets[0], ignore=torch.ones(2, dtype=torch.bool))
    nothing = dataclasses.replace(batch, targets=(hidden, batch.targets[1]))
    terms = detector.loss(detector(nothing.images, nothing.targets), nothing)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert all(float(value.detach()) == 0 for term, value in terms.items() if term.endswith("box"))
    assert detector.assign(detector.dense(batch.images), nothing).positives == 0


@pytest.mark.parametrize("name", ["resnet18_quarter", "retinanet", "faster_rcnn"])
def test_bad_targets_are_named(name: str, batch: Batch) -> None:
    detector = make(name).train()
    good = batch.targets[0]
    for bad in (
        dataclasses.replace(good, labels=torch.tensor([0, 3])),
        dataclasses.replace(good, boxes=good.boxes * torch.tensor([1, 1, 1, 0, 1])),
    ):
        wrong = dataclasses.replace(batch, targets=(bad, batch.targets[1]))
        with pytest.raises(DataError, match="bad target: image a, object"):
            detector.loss(detector(wrong.images, wrong.targets), wrong)


@pytest.mark.parametrize("name", ["resnet18_quarter", "retinanet", "faster_rcnn"])
def test_weights_that_are_not_finite_are_told(name: str, batch: Batch) -> None:
    detector = make(name).eval()
    last = detector.get_parameter(f"{detector.class_layers[-1]}bias")
    with torch.no_grad():
        last[0] = torch.nan
        outputs = detector(batch.images)
    with pytest.raises(NumericError, match="not finite: outputs of the detector"):
        detector.decode(outputs, batch.sizes)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(UsageError, match="unknown backbone 'resnet19'"):
        build_detector(make_recipe({"backbone": "resnet19"}, "test"), CLASSES)
