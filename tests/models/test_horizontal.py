"""Horizontal RetinaNet and Faster R-CNN: losses and decoding against plain loops, sampling that repeats."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from fledge.build import build_detector
from fledge.data.datasets import open_dataset
from fledge.data.labels import DetectionDataset
from fledge.data.sampling import TrainLoader
from fledge.data.synthetic import write_dataset
from fledge.data.transforms import Augment
from fledge.engine.optim import make_optimizer
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.geometry.boxes import corners
from fledge.models.detectors.faster_rcnn import FasterRCNN
from fledge.models.detectors.retinanet import RetinaNet
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets, flatten_levels

from .conftest import Build, MakeBatch

SMALL = {"detector": "faster_rcnn", "region_width": 16, "proposals": 60, "anchor_samples": 40, "region_samples": 24}


def faster(build: Build, **settings: object) -> FasterRCNN:
    detector = build(**{**SMALL, **settings})
    assert isinstance(detector, FasterRCNN)
    return detector


def hulls_of(targets: Targets) -> Tensor:
    points = corners(targets.boxes)
    return torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)


def xyxy(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], dim=1)


def slow_labels(anchors: Tensor, targets: Targets, high: float, low: float) -> list[int]:
    """Of each anchor the object it learns, -1 for background, -2 for neither, by the whole matrix of overlaps."""
    iou = box_iou(xyxy(anchors), hulls_of(targets)) if len(targets) else torch.zeros(len(anchors), 1)
    best, row = iou.max(dim=1)
    found = torch.where(best >= high, row, torch.where(best < low, -1, -2))
    for k in range(len(targets)):
        top = iou[:, k].max()
        if top > 0:
            found[(iou[:, k] >= top - 1e-6) & (found < 0)] = k
    return found.tolist()


def deltas(anchor: Tensor, box: Tensor) -> Tensor:
    """Of two extents."""
    wa, ha, w, h = anchor[2] - anchor[0], anchor[3] - anchor[1], box[2] - box[0], box[3] - box[1]
    dx, dy = ((box[:2] + box[2:]) - (anchor[:2] + anchor[2:])) / 2
    return torch.stack([dx / wa, dy / ha, (w / wa).log(), (h / ha).log()])


@pytest.mark.parametrize(("name", "high", "low"), [("retinanet", 0.5, 0.4), ("faster_rcnn", 0.7, 0.3)])
def test_assignment_by_the_hulls(build: Build, make_batch: MakeBatch, name: str, high: float, low: float) -> None:
    detector, batch = build(detector=name, region_width=16).eval(), make_batch(5, 0, 3)
    outputs = detector.dense(batch.images)
    assignment, anchors = detector.assign(outputs, batch), detector.anchor_boxes(outputs)
    for labels, targets in zip(assignment.labels, batch.targets, strict=True):
        expected = slow_labels(anchors, targets, high, low)
        classes = [0] * len(targets) if name == "faster_rcnn" else targets.labels.tolist()
        wanted = [classes[k] if k >= 0 else k for k in expected]
        different = sum(a != b for a, b in zip(labels.tolist(), wanted, strict=True))
        # An anchor that is the best of two objects goes to the first one here, to the last one there.
        assert different <= (2 if name == "retinanet" else 0)
        assert any(k >= 0 for k in wanted) == (len(targets) > 0)
    assert not assignment.boxes[:, 4].any()


@torch.no_grad()
def test_retinanet_loss_by_loops(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = build(detector="retinanet").train(), make_batch(4, 2)
    assert isinstance(detector, RetinaNet)
    outputs = detector(batch.images)
    assignment, anchors = detector.assign(outputs, batch), detector.anchor_boxes(outputs)
    logits, codes = flatten_levels(outputs.logits), flatten_levels(outputs.codes)
    cls, box, rank = 0.0, 0.0, 0
    for b in range(2):
        for a in range(len(anchors)):
            label = int(assignment.labels[b, a])
            if label == -2:
                continue
            target = torch.zeros(3)
            if label >= 0:
                target[label] = 1
                wanted = deltas(xyxy(anchors[a][None])[0], xyxy(assignment.boxes[rank][None])[0])
                box += float((codes[b, a] - wanted).abs().sum())
                rank += 1
            p = logits[b, a].sigmoid()
            p_t, alpha = torch.where(target > 0, p, 1 - p), torch.where(target > 0, 0.25, 0.75)
            cls += float((-alpha * (1 - p_t) ** 2 * p_t.log()).sum())
    terms = detector.loss(outputs, batch)
    assert float(terms["cls"]) == pytest.approx(cls / rank, rel=1e-4)
    assert float(terms["box"]) == pytest.approx(box / rank, rel=1e-4)


@torch.no_grad()
def test_faster_rcnn_losses_by_loops(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = faster(build, box_weight=0.5).train(), make_batch(4, 0, 2)
    outputs = detector(batch.images, batch.targets)
    assignment, anchors = detector.assign(outputs, batch), detector.anchor_boxes(outputs)
    image, anchor = detector._sampled(assignment, batch)
    assert torch.bincount(image).tolist() == [40, 40, 40]
    logits, codes = flatten_levels(outputs.logits), flatten_levels(outputs.codes)
    rpn_cls, rpn_box, positives = 0.0, 0.0, 0
    for b, a in zip(image.tolist(), anchor.tolist(), strict=True):
        z, positive = logits[b, a, 0], bool(assignment.labels[b, a] == 0)
        rpn_cls += float(-F.logsigmoid(z if positive else -z))
        if positive:
            hulls = hulls_of(batch.targets[b])
            best = box_iou(xyxy(anchors[a][None]), hulls)[0].argmax()
            rank = int(assignment.positive.flatten()[: b * len(anchors) + a].sum())
            mine = xyxy(assignment.boxes[rank][None])[0]
            assert float(box_iou(mine[None], hulls).max()) > 0.999
            assert torch.allclose(mine, hulls[best], atol=1e-3) or len(hulls) > 1
            rpn_box += float((codes[b, a] - deltas(xyxy(anchors[a][None])[0], mine)).abs().sum())
            positives += 1
    assert positives > 0
    terms = detector.loss(outputs, batch)
    assert float(terms["rpn_cls"]) == pytest.approx(rpn_cls / 120, rel=1e-4)
    assert float(terms["rpn_box"]) == pytest.approx(0.5 * rpn_box / 120, rel=1e-4)

    regions = outputs.regions
    assert regions is not None
    assert regions.labels is not None
    assert regions.image.tolist() == sorted(regions.image.tolist())
    assert torch.bincount(regions.image, minlength=3).amax() <= 24
    cls, box, shown = 0.0, 0.0, 0
    for row, (b, label) in enumerate(zip(regions.image.tolist(), regions.labels.tolist(), strict=True)):
        cls += float(-regions.logits[row].log_softmax(dim=0)[label])
        hulls = hulls_of(batch.targets[b])
        iou = box_iou(regions.corners[row][None], hulls)[0] if len(hulls) else torch.zeros(1)
        assert (label < 3) == bool(iou.max() >= 0.5)
        if label < 3:
            assert label == int(batch.targets[b].labels[iou.argmax()])
            wanted = deltas(regions.corners[row], hulls[iou.argmax()]) / torch.tensor([0.1, 0.1, 0.2, 0.2])
            box += float((regions.codes[row, label] - wanted).abs().sum())
            shown += 1
    assert shown >= 6  # each object is a region of its own
    assert float(terms["cls"]) == pytest.approx(cls / len(regions.labels), rel=1e-4)
    assert float(terms["box"]) == pytest.approx(0.5 * box / len(regions.labels), rel=1e-3)


def test_faster_rcnn_decodes_what_its_head_says(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = faster(build, score_threshold=0.02).eval(), make_batch(1, 1)
    with torch.no_grad():
        torch.nn.init.normal_(detector.region_head.cls_out.weight, std=2, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr, arg-type]
        torch.nn.init.normal_(detector.region_head.box_out.weight, std=0.3, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr, arg-type]
        outputs = detector(batch.images)
    found, regions = detector.decode(outputs, batch.sizes), outputs.regions
    assert regions is not None
    for b, detections in enumerate(found):
        rows = []
        for r in (regions.image == b).nonzero()[:, 0].tolist():
            x1, y1, x2, y2 = regions.corners[r].tolist()
            for k in range(3):
                score = float(regions.logits[r].softmax(dim=0)[k])
                dx, dy, dw, dh = (regions.codes[r, k] * torch.tensor([0.1, 0.1, 0.2, 0.2])).tolist()
                cx, cy = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
                w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
                if score > 0.02 and 0 <= cx <= 64 and 0 <= cy <= 64:
                    rows.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, k])
        table = torch.tensor(rows)
        table = table[batched_nms(table[:, :4], table[:, 4], table[:, 5].long(), 0.5)]
        assert len(detections) == len(table) > 3
        torch.testing.assert_close(detections.scores, table[:, 4], atol=1e-5, rtol=0)
        points = detections.corners
        torch.testing.assert_close(torch.cat([points.amin(1), points.amax(1)], dim=1), table[:, :4], atol=1e-3, rtol=0)
        assert detections.labels.tolist() == table[:, 5].long().tolist()


def test_the_loss_needs_the_targets(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = faster(build), make_batch(1)
    with pytest.raises(ValueError, match="call forward with the targets"):
        detector.loss(detector(batch.images), batch)


def test_no_proposal_at_all(build: Build, make_batch: MakeBatch) -> None:
    """Weights gone bad leave no proposal; an image without objects has then nothing to draw from."""
    detector, batch = faster(build).train(), make_batch(0)
    detector.head.box_out.bias.data[:] = torch.nan  # type: ignore[union-attr, operator]
    outputs = detector(batch.images, batch.targets)
    assert outputs.regions is not None
    assert outputs.regions.corners.shape == (0, 4)
    assert bool(detector.loss(outputs, batch)["cls"].isfinite())
    assert not bool(outputs.finite().any())


def test_a_draw_is_the_targets_own(build: Build, make_batch: MakeBatch) -> None:
    """Neither the global generator nor the other images of the batch change what is drawn."""
    detector, batch = faster(build).eval(), make_batch(4, 3)
    other = tuple(replace(t, draw=7) for t in batch.targets)

    def drawn(images: Tensor, targets: tuple[Targets, ...]) -> Tensor:
        outputs: Outputs = detector(images, targets)
        assert outputs.regions is not None
        return outputs.regions.corners

    torch.manual_seed(0)
    first = drawn(batch.images, batch.targets)
    torch.manual_seed(1)
    assert torch.equal(first, drawn(batch.images, batch.targets))
    alone = drawn(batch.images[:1], batch.targets[:1])
    torch.testing.assert_close(first[: len(alone)], alone, atol=1e-3, rtol=0)
    assert first.shape != drawn(batch.images, other).shape or not torch.equal(first, drawn(batch.images, other))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    root = tmp_path_factory.mktemp("scenes")
    write_dataset(root, "train", 4, 96, 0)
    return open_dataset(root, "train")


def steps(dataset: DetectionDataset, start: int, stop: int) -> TrainLoader:
    return TrainLoader(dataset, Augment(64, fit=False), 2, 5, start_step=start, total_steps=stop)


def test_a_resumed_run_draws_the_same(build: Build, dataset: DetectionDataset) -> None:
    """Bit for bit, whatever the global generator holds when it goes on."""
    whole = TrainStep(faster(build, classes=len(dataset.classes))).train()
    optimizer = make_optimizer(whole, "sgd", 0.01, 1e-4, 0.9)
    again = TrainStep(faster(build, classes=len(dataset.classes))).train()
    resumed = make_optimizer(again, "sgd", 0.01, 1e-4, 0.9)
    draws = set()
    for number, batch in enumerate(steps(dataset, 0, 4)):
        if number == 2:
            again.load_state_dict(whole.state_dict())
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        draws |= {t.draw for t in batch.targets}
        learn(whole, optimizer, batch)
    assert len(draws) == 8
    torch.manual_seed(99)
    for batch in steps(dataset, 2, 4):
        learn(again, resumed, batch)
    a, b = whole.state_dict(), again.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def learn(step: TrainStep, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    torch.stack(list(step(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def test_settings_follow_the_detector() -> None:
    plain, one, two = (make_recipe({"detector": d}, "t") for d in ("rotated_retinanet", "retinanet", "faster_rcnn"))
    assert (plain.box_loss, plain.box_weight, plain.nms_iou, plain.horizontal) == ("kld", 5.5, 0.1, False)
    assert (one.box_loss, one.box_weight, one.nms_iou, one.anchor_octaves, one.horizontal) == ("l1", 1.0, 0.5, 3, True)
    assert (two.positive_iou, two.negative_iou, two.anchor_scale, two.anchor_octaves) == (0.7, 0.3, 8.0, 1)
    assert (two.head_convs, two.box_loss, two.region_width) == (1, "l1", 1024)
    chosen = make_recipe({"detector": "faster_rcnn", "anchor_scale": 4.0, "box_loss": "smooth_l1"}, "t")
    assert (chosen.anchor_scale, chosen.box_loss, chosen.nms_iou) == (4.0, "smooth_l1", 0.5)
    assert make_recipe(two.model_dump(mode="json"), "t") == two
    for detector, loss in (("retinanet", "kld"), ("faster_rcnn", "rotated_iou"), ("rotated_retinanet", "l1")):
        with pytest.raises(UsageError, match=f"box_loss {loss} is not of a {detector}: use"):
            make_recipe({"detector": detector, "box_loss": loss}, "t")


@pytest.mark.parametrize(("name", "millions"), [("retinanet", 37.74), ("faster_rcnn", 41.53)])
def test_the_layout_has_the_known_number_of_parameters(name: str, millions: float) -> None:
    """ResNet-50 with 80 classes, stem and first stage frozen, counted layer by layer."""
    with torch.device("meta"):
        detector = build_detector(make_recipe({"detector": name, "frozen_stages": 2}, "t"), [str(k) for k in range(80)])
    learning = sum(p.numel() for p in detector.parameters() if p.requires_grad)
    assert learning / 1e6 == pytest.approx(millions, abs=0.005)
    body = 25_557_032 - 2048 * 1000 - 1000 - 64 * 3 * 49 - 128 - 215_808  # without classifier, stem and layer1
    wide = 256 * 256 * 9 + 256
    if name == "retinanet":
        lateral = sum((c + 1) * 256 for c in (512, 1024, 2048))
        neck = lateral + 3 * wide + (2048 * 9 + 1) * 256 + wide
        heads = 8 * wide + (256 * 9 + 1) * 9 * (80 + 4)
    else:
        neck = sum((c + 1) * 256 for c in (256, 512, 1024, 2048)) + 4 * wide
        heads = wide + 257 * 3 * 5 + (12544 + 1) * 1024 + 1025 * 1024 + 1025 * (81 + 320)
    assert learning == body + neck + heads


def test_outputs_of_half_precision_become_whole(build: Build, make_batch: MakeBatch) -> None:
    detector, batch = faster(build).train(), make_batch(2, 1)
    step = TrainStep(detector, precision="bf16").train()
    terms = step(batch)
    assert {v.dtype for v in terms.values()} == {torch.float32}
    outputs: Outputs = detector(batch.images, batch.targets).float()
    assert outputs.regions is not None
    assert outputs.regions.logits.dtype == torch.float32
