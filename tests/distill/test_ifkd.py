from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from tests.distill.doubles import Means
from torch import Tensor, nn
from torch.nn import functional as F

from fledge.distill.at import activity, attention_loss
from fledge.distill.frs import FRS, richness, score_loss
from fledge.distill.ifkd import IFKD, AttentionIFKD, Mask, Parts, masked_attention_loss
from fledge.distill.parts.embedding import Disturbance
from fledge.distill.parts.frequency import FrequencyReconstruction, reconstructed
from fledge.distill.parts.hyperbolic import hyperbolic_mask
from fledge.distill.parts.levels import logits_by_level
from fledge.models.embedders.orthogonal import orthogonal_map
from fledge.types import Batch, Outputs

LEVELS = ("p3", "p4")
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
BATCH = Batch(IMAGES, torch.full((2, 2), 64), ())


def outputs(seed: int, channels: int = 3, side: int = 64, images: int = 2, scale: float = 1.0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features, logits = {}, []
    for k in (3, 4):
        features[f"p{k}"] = torch.randn(images, channels, side >> k, side >> k, generator=generator) * scale
        logits.append(torch.randn(images, 2, 3, side >> k, side >> k, generator=generator) * scale - 2)
    return Outputs(tuple(logits), (), {"c3": features["p3"], **features})


def parts(ede: bool = True, fdr: bool = True, mask: Mask = "hyperbolic", channels: int = 3, **settings: Any) -> Parts:
    projection = None if channels == 3 else orthogonal_map(3, channels, 0)
    return Parts(
        Disturbance(Means(), channels, projection) if ede else None,
        FrequencyReconstruction(LEVELS, channels, **settings) if fdr else None,
        mask,
    )


def method(chosen: Parts, channels: int = 3, **settings: Any) -> IFKD:
    torch.manual_seed(0)
    return IFKD(LEVELS, channels, channels, chosen, ramp_steps=0, **settings)


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in terms.items()}


def test_with_all_parts_off_it_is_frs() -> None:
    student, teacher = outputs(0), outputs(1)
    ifkd = method(parts(ede=False, fdr=False, mask="frs"), feat_weight=0.3, head_weight=0.7)
    frs = FRS(LEVELS, 3, 3, 0.3, 0.7, ramp_steps=0)
    frs.adapters.load_state_dict(ifkd.adapters.state_dict())
    expected, found = frs(student, teacher, BATCH), ifkd(student, teacher, BATCH)
    torch.testing.assert_close(list(found.values()), list(expected.values()))
    assert list(found) == ["kd_feat", "kd_head"]


@torch.no_grad()
@pytest.mark.parametrize("on", ["teacher", "both"])
def test_equations_12_and_13_by_loops(on: str) -> None:
    """All parts on, in eval mode where the radius is 0.25, place by place."""
    student, teacher = outputs(0), outputs(1)
    ifkd = method(parts(student=on == "both"), feat_weight=1.0, head_weight=1.0).eval()
    for filter_ in ifkd.parts.reconstruction.filters.values():  # type: ignore[union-attr]
        nn.init.normal_(filter_.deviation, std=0.2)  # type: ignore[arg-type]
    feat, head, names = 0.0, 0.0, logits_by_level(teacher)
    view = torch.sigmoid(F.avg_pool2d(IMAGES.float(), 8) / 128 - 1)
    for name in LEVELS:
        own, target = ifkd.adapters.convs[name](student.features[name]), teacher.features[name]
        height, width = target.shape[2:]
        target = target + F.interpolate(view, (height, width), mode="bilinear")
        weight = ifkd.parts.reconstruction.filters[name]((height, width))  # type: ignore[union-attr]
        target = reconstructed(target, richness(names[name]), 0.25, weight)
        own = reconstructed(own, richness(names[name]), 0.25, weight) if on == "both" else own
        mask = hyperbolic_mask(own, target)
        total = sum(mask.flatten().tolist())
        for b in range(2):
            for i in range(height):
                for j in range(width):
                    squares = (own[b, :, i, j] - target[b, :, i, j]).square().sum()
                    feat += float(mask[b, 0, i, j] * squares) / total
                    s, t = (logits_by_level(x)[name][b, :, :, i, j].flatten().sigmoid() for x in (student, teacher))
                    entropies = -(t * (s / t).log() + (1 - t) * ((1 - s) / (1 - t)).log())
                    head += float(mask[b, 0, i, j] * entropies.sum()) / total
    found = values(ifkd(student, teacher, BATCH))
    assert found["kd_feat"] == pytest.approx(feat, rel=1e-4)
    assert found["kd_head"] == pytest.approx(head, rel=1e-4)
    assert found["kd_filter"] == pytest.approx(0.1 * float(ifkd.parts.penalty()), rel=1e-5)  # type: ignore[arg-type]


def test_each_part_alone_makes_a_difference() -> None:
    student, teacher = outputs(0), outputs(1)
    chosen = {
        "none": parts(False, False, "frs"),
        "ede": parts(True, False, "frs"),
        "fdr": parts(False, True, "frs"),
        "hsm": parts(False, False, "hyperbolic"),
        "ones": parts(False, False, "ones"),
        "all": parts(),
    }
    found = {name: values(method(own).eval()(student, teacher, BATCH))["kd_feat"] for name, own in chosen.items()}
    assert len(set(found.values())) == len(found)
    assert method(chosen["ede"]).describe() == "disturbance means: a stand-in; frequency reconstruction off; mask frs"
    assert method(chosen["fdr"]).describe() == "disturbance none; frequency reconstruction on; mask frs"


def test_a_twin_behind_an_identity() -> None:
    """Nothing to teach without parts; with all of them, the documented rest: features that are not the teacher's."""
    student = outputs(0)
    for chosen, nothing in ((parts(False, False), True), (parts(), False)):
        ifkd = method(chosen).eval()
        ifkd.adapters.convs = nn.ModuleDict({name: nn.Identity() for name in LEVELS})
        terms = values(ifkd(student, student, BATCH))
        assert terms["kd_head"] == 0
        assert (terms["kd_feat"] == 0) == nothing


def batch_of(order: Sequence[int]) -> Batch:
    return Batch(IMAGES[list(order)], torch.full((len(order), 2), 64), ())


def picked(x: Outputs, order: Sequence[int]) -> Outputs:
    rows = list(order)
    return Outputs(tuple(z[rows] for z in x.logits), (), {k: v[rows] for k, v in x.features.items()})


@pytest.mark.parametrize("order", [(1, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize("on", ["frs", "at"])
def test_images_do_not_mix_and_a_doubled_batch_is_the_same(order: tuple[int, ...], on: str) -> None:
    student, teacher = outputs(0), outputs(1)
    module = (method(parts()) if on == "frs" else AttentionIFKD(LEVELS, parts())).eval()
    expected = module(student, teacher, BATCH)
    found = module(picked(student, order), picked(teacher, order), batch_of(order))
    torch.testing.assert_close(list(found.values()), list(expected.values()))


def leaves(x: Outputs, dtype: torch.dtype = torch.float32) -> Outputs:
    features = {k: v.to(dtype).requires_grad_() for k, v in x.features.items()}
    return Outputs(tuple(z.to(dtype).requires_grad_() for z in x.logits), (), features)


@pytest.mark.parametrize("on", ["teacher", "both"])
def test_where_gradients_go(on: str) -> None:
    """To the student as if the target were a constant, to the filter from the target alone, to the teacher never."""
    student, teacher = leaves(outputs(0)), leaves(outputs(1))
    ifkd = method(parts(student=on == "both")).eval()
    terms = ifkd(student, teacher, BATCH)
    torch.autograd.backward(terms["kd_feat"] + terms["kd_head"])
    assert all(x.grad is None for x in [*teacher.features.values(), *teacher.logits])
    filters = list(ifkd.parts.parameters())
    assert all(f.grad is not None and bool(f.grad.any()) for f in filters)
    learnt = {name: student.features[name].grad for name in LEVELS}
    again = leaves(outputs(0))
    for f in filters:
        f.requires_grad_(False)
    terms = ifkd(again, teacher, BATCH)
    torch.autograd.backward(terms["kd_feat"] + terms["kd_head"])
    for name in LEVELS:
        torch.testing.assert_close(learnt[name], again.features[name].grad)
    assert all(x.grad is not None and bool(x.grad.any()) for x in again.logits)


def collapse(price: float, filters: bool = True) -> float:
    """What adapters and filters without a student make of the feature term, as a part of its start."""
    student, teacher = outputs(0, 4, 128, 4), outputs(1, 4, 128, 4)
    batch = Batch(torch.zeros(4, 3, 128, 128, dtype=torch.uint8), torch.full((4, 2), 128), ())
    ifkd = method(parts(ede=False, channels=4), 4, filter_penalty=price)
    adapters, own = list(ifkd.adapters.parameters()), list(ifkd.parts.parameters())
    groups = [{"params": adapters, "lr": 0.01}, {"params": own if filters else [], "lr": 0.05}]
    optimizer = torch.optim.Adam(groups)
    start = values(ifkd.eval()(student, teacher, batch))["kd_feat"]
    ifkd.train()
    for _ in range(200):
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(ifkd(student, teacher, batch).values())).sum())
        optimizer.step()
    return values(ifkd.eval()(student, teacher, batch))["kd_feat"] / start


def test_the_filter_is_no_shortcut() -> None:
    kept, without = collapse(0.1), collapse(0.1, filters=False)
    assert kept > 0.5
    assert kept > 0.95 * without
    assert collapse(0.0) < 0.1  # what the price is for


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
@pytest.mark.parametrize("on", ["frs", "at"])
def test_finite(side: int, scale: float, on: str) -> None:
    """All-zero maps, maps of one cell, large activations in half precision; and a teacher that finds nothing."""
    batch = Batch(IMAGES[:, :, :side, :side], torch.full((2, 2), side), ())
    teacher = outputs(1, side=side, scale=scale)
    blind = Outputs(tuple(torch.full_like(x, -1e4) for x in teacher.logits), (), teacher.features)
    for other in (teacher, blind):
        for chosen in (parts(student=True), parts(ede=False, mask="frs")):
            module = method(chosen) if on == "frs" else AttentionIFKD(LEVELS, chosen)
            student = leaves(outputs(0, side=side, scale=scale), torch.bfloat16)
            terms = module(student, leaves(other, torch.bfloat16), batch)
            assert all(bool(v.isfinite()) and v.dtype == torch.float32 for v in terms.values())
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
            learners = [*(student.features[n] for n in LEVELS), *module.parameters()]
            assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in learners)


def test_nothing_of_the_parts_is_in_the_state_but_filters_and_counts() -> None:
    state = method(parts(channels=5), 5).state_dict()
    others = {name for name in state if not name.startswith("adapters.")}
    assert others == {
        "ramp.count",
        "parts.reconstruction.count",
        *(f"parts.reconstruction.filters.{name}.deviation" for name in LEVELS),
    }


@pytest.mark.parametrize("on", ["frs", "at"])
def test_a_student_learns(on: str) -> None:
    teacher, start = outputs(1), leaves(outputs(0))
    module = method(parts(), feat_weight=1.0, head_weight=1.0) if on == "frs" else AttentionIFKD(LEVELS, parts())
    learners = [*(start.features[n] for n in LEVELS), *start.logits, *module.parameters()]
    optimizer = torch.optim.Adam(learners, lr=0.05)
    first = values(module.eval()(start, teacher, BATCH))
    module.train()
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(module(start, teacher, BATCH).values())).sum())
        optimizer.step()
    last = values(module.eval()(start, teacher, BATCH))
    assert all(last[name] < 0.2 * first[name] for name in first if name != "kd_filter")


def attention(x: Tensor) -> list[list[float]]:
    """Of each image: mean squares over the channels, of length 1."""
    rows = [[sum(float(v) ** 2 for v in column) / len(column) for column in image.flatten(1).T] for image in x]
    return [[v / math.hypot(*row) for v in row] for row in rows]


def test_attention_transfer_by_loops() -> None:
    k = torch.arange(96, dtype=torch.float64)
    s, t = (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)
    own, other = attention(s), attention(t)
    plain = sum(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for a, b in zip(own, other, strict=True)) / 4
    ones = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    assert masked_attention_loss(s, t, ones).item() == pytest.approx(plain, rel=1e-12)
    # The published code's mean over places as well.
    assert 2 * plain / 16 == pytest.approx(0.004235781940, abs=1e-12)
    torch.testing.assert_close(masked_attention_loss(s, t, ones), attention_loss(activity(s), activity(t)))
    mask = richness(torch.sin(k[:32]).view(2, 1, 4, 4))
    mean, rows = float(mask.mean()), mask.flatten(1).tolist()
    places = zip(chain(*own), chain(*other), chain(*rows), strict=True)
    by_hand = sum(w * (p - q) ** 2 / mean for p, q, w in places)
    assert masked_attention_loss(s, t, mask).item() == pytest.approx(by_hand / 4, rel=1e-12)
    assert masked_attention_loss(3 * s, 5 * t, 7 * mask).item() == pytest.approx(by_hand / 4, rel=1e-12)
    small = (slice(None), slice(0, 2), slice(0, 2), slice(0, 2))
    inputs = (s[small].clone().requires_grad_(),)
    assert torch.autograd.gradcheck(lambda x: masked_attention_loss(x, t[small], mask[:, :, :2, :2]), inputs)


def test_the_parts_on_attention_transfer() -> None:
    student, teacher = outputs(0), outputs(1)
    plain = AttentionIFKD(LEVELS, parts(False, False, "ones"), 2.0)(student, teacher, BATCH)
    ones = {name: torch.ones_like(richness(z)) for name, z in logits_by_level(teacher).items()}
    expected = sum(masked_attention_loss(student.features[n], teacher.features[n], ones[n]) for n in LEVELS)
    torch.testing.assert_close(plain["kd_at"], 2 * expected)
    assert list(plain) == ["kd_at"]
    chosen = [parts(True, False, "ones"), parts(False, True, "ones"), parts(False, False), parts()]
    found = [values(AttentionIFKD(LEVELS, own, 2.0).eval()(student, teacher, BATCH))["kd_at"] for own in chosen]
    assert len({*found, float(plain["kd_at"])}) == 5
    # An orthogonal map to a wider neck changes no activity.
    narrow = AttentionIFKD(LEVELS, parts(False, False, "ones"), 2.0, projection=orthogonal_map(3, 5, 0))
    twin = outputs(0)
    wide = {n: F.conv2d(teacher.features[n], orthogonal_map(3, 5, 1)) for n in LEVELS}
    torch.testing.assert_close(narrow(twin, Outputs(teacher.logits, (), wide), BATCH)["kd_at"], plain["kd_at"])


def test_the_head_keeps_its_floor_out() -> None:
    """``kd_head`` is the cross entropy less the teacher's own."""
    student, teacher = outputs(0), outputs(1)
    ifkd = method(parts(False, False, "ones"), head_weight=1.0)
    own, other = logits_by_level(student), logits_by_level(teacher)
    expected = 0.0
    for n in LEVELS:
        mask = torch.ones_like(richness(other[n]))
        expected += float(score_loss(own[n], other[n], mask) - score_loss(other[n], other[n], mask))
    assert values(ifkd(student, teacher, BATCH))["kd_head"] == pytest.approx(expected, rel=1e-5)
