from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fledge.build import BACKBONES
from fledge.models.backbones import Backbone, normalise

STAGES = {
    "resnet18_quarter": (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    "mobilenetv2_half": (("conv_stem", "bn1", "blocks.0"), ("blocks.1",), ("blocks.2",), ("blocks.3", "blocks.4")),
}


def make(name: str, frozen_stages: int = 0, freeze_norm: bool = False) -> Backbone:
    model, options = BACKBONES[name]
    torch.manual_seed(0)
    backbone = Backbone(model, frozen_stages, freeze_norm, **options)
    for module in backbone.modules():  # timm starts the last norm of a residual branch at zero, which blocks gradients
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 0.1)
    return backbone


def images(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def step(backbone: Backbone) -> None:
    """One optimiser step in train mode, with weight decay."""
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1, weight_decay=0.1)
    torch.stack([x.square().mean() for x in backbone.train()(images()).values()]).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def snapshot(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in backbone.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("name", BACKBONES)
def test_strides_and_channels(name: str) -> None:
    backbone = make(name).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 96))
    assert list(features) == ["c3", "c4", "c5"]
    for (key, x), channels in zip(features.items(), backbone.channels, strict=True):
        stride = {"c3": 8, "c4": 16, "c5": 32}[key]
        assert x.shape == (1, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["resnet18_quarter", "mobilenetv2_half"])
def test_frozen_stages_neither_learn_nor_count(name: str, frozen: int) -> None:
    backbone = make(name, frozen)
    before = snapshot(backbone)
    step(backbone)
    still = set(before) - moved(before, snapshot(backbone))
    stages = tuple(f"body.{part}." for stage in STAGES[name][:frozen] for part in stage)
    assert still == {n for n in before if n.startswith(stages)}
    learning = {n for n, p in backbone.named_parameters() if p.grad is not None}
    assert learning == {n for n, _ in backbone.named_parameters() if n not in still}


@pytest.mark.parametrize("name", ["resnet18_quarter", "mobilenetv2_half"])
def test_freeze_norm_keeps_every_statistic(name: str) -> None:
    backbone = make(name, freeze_norm=True)
    before = snapshot(backbone)
    step(backbone)
    changed = moved(before, snapshot(backbone))
    assert changed == {n for n, _ in backbone.named_parameters()}


def test_modes_come_and_go() -> None:
    backbone = make("resnet18_quarter", frozen_stages=2)
    norms = {n: m for n, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert not any(m.training for m in backbone.eval().modules())
    training = {n for n, m in norms.items() if backbone.train() and m.training}
    assert training == {n for n in norms if n.startswith(("body.layer2", "body.layer3", "body.layer4"))}


@pytest.mark.parametrize("name", ["resnet18", "resnet18_quarter", "mobilenetv2_half"])
@pytest.mark.parametrize("channels", [1, 12])
def test_images_may_have_any_number_of_channels(name: str, channels: int) -> None:
    model, options = BACKBONES[name]
    backbone = Backbone(model, in_channels=channels, **options).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, channels, 64, 64))
    assert [x.shape[1] for x in features.values()] == list(make(name).channels)
    with pytest.raises(RuntimeError, match="channels"):
        backbone(torch.zeros(1, channels + 1, 64, 64))


def test_normalise() -> None:
    mean, std = torch.tensor([10.0, 20, 30]), torch.tensor([1.0, 2, 4])
    pixels = torch.tensor([12, 24, 38], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    result = normalise(pixels, mean, std)
    assert torch.equal(result, torch.full((2, 3, 4, 5), 2.0))
    assert torch.equal(normalise(pixels.float(), mean, std), result)
    assert result.is_contiguous(memory_format=torch.channels_last)
