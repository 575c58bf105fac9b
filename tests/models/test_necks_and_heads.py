from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fledge.models.heads import RetinaHead
from fledge.models.necks import FPN


def features(side: int = 64, width: int = 96) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"c3": (8, 8), "c4": (16, 16), "c5": (32, 32)}
    return {k: torch.randn(2, c, side // s, width // s, generator=generator) for k, (c, s) in shapes.items()}


def test_levels() -> None:
    levels = FPN((8, 16, 32), 12)(features())
    assert list(levels) == ["p3", "p4", "p5", "p6", "p7"]
    sides = [tuple(x.shape) for x in levels.values()]
    assert sides == [(2, 12, 8, 12), (2, 12, 4, 6), (2, 12, 2, 3), (2, 12, 1, 2), (2, 12, 1, 1)]


def test_top_down_path_by_hand() -> None:
    fpn, maps = FPN((8, 16, 32), 4), features()
    with torch.no_grad():
        levels = fpn(maps)
        c3, c4, c5 = (conv(maps[name]) for conv, name in zip(fpn.lateral, maps, strict=True))
        c4 = c4 + c5.repeat_interleave(2, -1).repeat_interleave(2, -2)
        c3 = c3 + c4.repeat_interleave(2, -1).repeat_interleave(2, -2)
        for name, conv, x in zip(("p3", "p4", "p5"), fpn.output, (c3, c4, c5), strict=True):
            torch.testing.assert_close(levels[name], conv(x))
        p6 = F.conv2d(maps["c5"], fpn.p6.weight, fpn.p6.bias, stride=2, padding=1)
        torch.testing.assert_close(levels["p6"], p6)  # from C5, not from P5
        torch.testing.assert_close(levels["p7"], F.conv2d(p6, fpn.p7.weight, fpn.p7.bias, stride=2, padding=1))


def test_odd_sizes_still_add_up() -> None:
    maps = {"c3": torch.zeros(1, 8, 9, 11), "c4": torch.zeros(1, 16, 5, 6), "c5": torch.zeros(1, 32, 3, 3)}
    assert FPN((8, 16, 32), 4)(maps)["p3"].shape == (1, 4, 9, 11)


@pytest.mark.parametrize("prior", [0.01, 0.2])
def test_initial_probability_is_the_prior(prior: float) -> None:
    torch.manual_seed(0)
    head = RetinaHead(classes=5, anchors=9, channels=16, convs=2, prior=prior)
    with torch.no_grad():
        logits, codes, named = head({"p3": torch.randn(2, 16, 4, 4), "p4": torch.randn(2, 16, 2, 2)})
    assert not named
    assert [tuple(x.shape) for x in logits] == [(2, 9, 5, 4, 4), (2, 9, 5, 2, 2)]
    assert [tuple(x.shape) for x in codes] == [(2, 9, 5, 4, 4), (2, 9, 5, 2, 2)]
    scores = torch.cat([x.flatten() for x in logits]).sigmoid()
    assert float(scores.mean()) == pytest.approx(prior, rel=0.02)
    assert bool(((scores > 0.7 * prior) & (scores < 1.4 * prior)).all())
    assert float(torch.cat([x.flatten() for x in codes]).std()) < 0.3


def test_one_head_for_all_levels_and_two_stacks() -> None:
    head = RetinaHead(classes=2, anchors=3, channels=8, convs=4)
    assert sum(p.ndim == 4 for p in head.parameters()) == 2 * 4 + 2
    x = torch.randn(1, 8, 3, 3)
    with torch.no_grad():
        logits, codes, _ = head({"p3": x, "p4": x})
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(codes[0], codes[1])


def test_gradients_of_maps_one_pixel_wide_in_half_precision() -> None:
    """A CPU's bfloat16 kernels return uninitialised memory for a padded stride of two over such maps."""
    torch.manual_seed(0)
    neck = FPN((8, 8, 8), 16)
    features = {name: torch.randn(4, 8, size, size) for name, size in (("c3", 8), ("c4", 4), ("c5", 2))}
    exact = torch.autograd.grad(neck(features)["p7"].square().sum(), neck.p7.weight)[0]
    for size in range(50):
        litter = [torch.full((1000 + 77 * size + i,), float("inf")) for i in range(20)]
        del litter
        with torch.autocast("cpu", dtype=torch.bfloat16):
            level = neck(features)["p7"]
        half = torch.autograd.grad(level.float().square().sum(), neck.p7.weight)[0]
        torch.testing.assert_close(half, exact, rtol=0.1, atol=0.05 * float(exact.abs().max()))
