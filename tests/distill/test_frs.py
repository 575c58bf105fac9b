from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fledge.distill.frs import FRS, feature_loss, richness, score_excess, score_loss
from fledge.distill.parts.levels import logits_by_level
from fledge.types import Batch, Outputs

EMPTY = Batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([[8, 8]]), ())


def maps() -> tuple[Tensor, Tensor]:
    k = torch.arange(96, dtype=torch.float64)
    return (0.7 * k + 0.1).sin().view(2, 3, 4, 4), (0.31 * k + 0.5).cos().view(2, 3, 4, 4)


def scores() -> tuple[Tensor, Tensor]:
    k = torch.arange(160, dtype=torch.float64)
    return (0.37 * k - 1).sin().view(2, 5, 4, 4), (0.23 * k - 2).sin().view(2, 5, 4, 4)


def test_golden_values() -> None:
    (s, t), (zs, zt) = maps(), scores()
    mask = richness(zt)
    assert mask.sum().item() == pytest.approx(22.9609395837, abs=1e-9)
    assert feature_loss(s, t, mask).item() == pytest.approx(2.8913769265, abs=1e-9)
    assert score_loss(zs, zt, mask).item() == pytest.approx(3.8056281794, abs=1e-9)
    assert score_loss(zt, zt, mask).item() == pytest.approx(3.1774596614, abs=1e-9)


def test_by_loops() -> None:
    (s, t), (zs, zt) = maps(), scores()
    total, feat, cls = 0.0, 0.0, 0.0
    for b in range(2):
        for i in range(4):
            for j in range(4):
                weight = max(1 / (1 + math.exp(-float(z))) for z in zt[b, :, i, j])
                total += weight
                feat += weight * sum(float(p - q) ** 2 for p, q in zip(s[b, :, i, j], t[b, :, i, j], strict=True))
                for p, q in zip(zs[b, :, i, j].sigmoid().tolist(), zt[b, :, i, j].sigmoid().tolist(), strict=True):
                    cls -= weight * (q * math.log(p) + (1 - q) * math.log(1 - p))
    mask = richness(zt)
    assert feature_loss(s, t, mask).item() == pytest.approx(feat / total, rel=1e-12)
    assert score_loss(zs, zt, mask).item() == pytest.approx(cls / total, rel=1e-12)


def test_richness_is_the_best_score_over_anchors_and_classes() -> None:
    logits = torch.full((1, 2, 3, 1, 2), -100.0)
    logits[0, 1, 2, 0, 0] = 0.0
    assert richness(logits).tolist() == [[[[0.5, 0.0]]]]
    assert not richness(logits.requires_grad_()).requires_grad


@given(st.floats(-8, 8), st.floats(-8, 8))
def test_the_excess_is_zero_only_where_the_scores_agree(own: float, other: float) -> None:
    s, t = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (own, other))
    p, q = s.sigmoid().item(), t.sigmoid().item()
    divergence = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    assert score_excess(s, t, richness(t)).item() == pytest.approx(divergence, abs=1e-9)
    assert score_excess(t, t, richness(t)).item() == 0


def test_only_the_masks_proportions_count_and_a_doubled_batch_is_the_same() -> None:
    (s, t), (zs, zt) = maps(), scores()
    mask = richness(zt)
    torch.testing.assert_close(feature_loss(s, t, 7 * mask), feature_loss(s, t, mask))
    twice = [torch.cat([x, x]) for x in (s, t, zs, zt, mask)]
    torch.testing.assert_close(feature_loss(twice[0], twice[1], twice[4]), feature_loss(s, t, mask))
    torch.testing.assert_close(score_loss(twice[2], twice[3], twice[4]), score_loss(zs, zt, mask))


def test_gradient() -> None:
    (s, t), (zs, zt) = maps(), scores()
    small = (slice(None), slice(0, 2), slice(0, 2), slice(0, 2))
    mask = richness(zt[small])
    assert torch.autograd.gradcheck(lambda x: feature_loss(x, t[small], mask), (s[small].clone().requires_grad_(),))
    assert torch.autograd.gradcheck(lambda x: score_excess(x, zt[small], mask), (zs[small].clone().requires_grad_(),))


def outputs(channels: int, side: int, seed: int, anchors: int = 2, scale: float = 1.0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features, logits = {}, []
    for k in (3, 4):
        features[f"p{k}"] = torch.randn(2, channels, side >> k, side >> k, generator=generator) * scale
        logits.append(torch.randn(2, anchors, 3, side >> k, side >> k, generator=generator) * scale - 2)
    return Outputs(tuple(logits), (), {"c3": features["p3"], **features})


def method(channels: int = 4, ramp: int = 0, **weights: float) -> FRS:
    torch.manual_seed(0)
    return FRS(("p3", "p4"), channels, channels, ramp_steps=ramp, **weights)


def test_sum_over_the_levels() -> None:
    student, teacher, frs = outputs(4, 64, 0), outputs(4, 64, 1), method(feat_weight=2.0, cls_weight=3.0)
    terms = frs(student, teacher, EMPTY)
    own, other = logits_by_level(student), logits_by_level(teacher)
    masks = {name: richness(other[name]) for name in ("p3", "p4")}
    feat = sum(
        feature_loss(frs.adapters.convs[n](student.features[n]), teacher.features[n], m) for n, m in masks.items()
    )
    torch.testing.assert_close(terms["kd_feat"], 2 * feat)
    torch.testing.assert_close(terms["kd_cls"], 3 * sum(score_excess(own[n], other[n], m) for n, m in masks.items()))


def test_a_twin_behind_an_identity_has_nothing_to_teach() -> None:
    student, frs = outputs(4, 64, 0), method()
    frs.adapters.convs = nn.ModuleDict({name: nn.Identity() for name in ("p3", "p4")})
    assert {name: float(value) for name, value in frs(student, student, EMPTY).items()} == {"kd_feat": 0, "kd_cls": 0}


def test_images_do_not_mix_and_their_order_does_not_matter() -> None:
    student, teacher, frs = outputs(4, 64, 0), outputs(4, 64, 1), method()

    def turned(x: Outputs) -> Outputs:
        return Outputs(tuple(z.flip(0) for z in x.logits), (), {k: v.flip(0) for k, v in x.features.items()})

    expected, found = frs(student, teacher, EMPTY), frs(turned(student), turned(teacher), EMPTY)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_weights_rise_over_the_first_steps() -> None:
    student, teacher, frs = outputs(4, 64, 0), outputs(4, 64, 1), method(ramp=4)
    values = [float(frs(student, teacher, EMPTY)["kd_feat"].detach()) for _ in range(6)]
    full = float(frs.eval()(student, teacher, EMPTY)["kd_feat"].detach())
    assert values == pytest.approx([full * f for f in (0, 0.25, 0.5, 0.75, 1, 1)])


@pytest.mark.parametrize("side", [16, 64])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
def test_finite(side: int, scale: float) -> None:
    """All-zero maps, maps of one cell, large activations in half precision; and a teacher that finds nothing."""
    student, teacher, frs = outputs(4, side, 0, scale=scale), outputs(4, side, 1, scale=scale), method()
    blind = Outputs(tuple(torch.full_like(x, -1e4) for x in teacher.logits), (), teacher.features)
    for other in (teacher, blind):
        half = [
            Outputs(
                tuple(z.bfloat16().requires_grad_() for z in x.logits),
                (),
                {k: v.bfloat16().requires_grad_() for k, v in x.features.items()},
            )
            for x in (student, other)
        ]
        terms = frs(*half, EMPTY)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        assert all(bool(v.isfinite()) and v.dtype == torch.float32 for v in terms.values())
        learners = [half[0].features["p3"], *half[0].logits, *frs.parameters()]
        assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in learners)
        assert all(x.grad is None for x in [*half[1].features.values(), *half[1].logits])


def test_a_student_learns_features_and_scores() -> None:
    teacher, frs = outputs(4, 64, 1), method(feat_weight=1.0, cls_weight=1.0)
    start = outputs(4, 64, 0)
    features = {k: v.clone().requires_grad_() for k, v in start.features.items()}
    logits = tuple(x.clone().requires_grad_() for x in start.logits)
    optimizer = torch.optim.Adam([*features.values(), *logits, *frs.parameters()], lr=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        terms = frs(Outputs(logits, (), features), teacher, EMPTY)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        optimizer.step()
        losses.append({k: float(v.detach()) for k, v in terms.items()})
    assert all(losses[-1][k] < 0.05 * losses[0][k] for k in ("kd_feat", "kd_cls"))
