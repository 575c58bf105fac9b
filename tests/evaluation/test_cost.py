from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fledge.build import build_detector
from fledge.evaluation.cost import measure_cost
from fledge.recipe import make_recipe


class Tiny(nn.Module):
    """One 3×3 convolution, with stride 2, from 3 to 8 channels, and a linear layer that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.frozen = nn.Linear(8, 5).requires_grad_(False)
        self.calls: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        self.calls.append(self.training)
        out: Tensor = self.frozen(self.conv(images.float()).mean(dim=(2, 3)))
        return out

    def decode(self, outputs: Tensor, sizes: Tensor) -> list[Any]:
        assert sizes.shape == (1, 2)
        return []


def test_noise_has_the_channels_asked_for() -> None:
    five = nn.Sequential(nn.Flatten(), nn.Linear(5 * 32 * 32, 2))
    five.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    five.decode = lambda outputs, sizes: []  # type: ignore[assignment]
    assert measure_cost(five, (32, 32), repeats=1, channels=5).flops == 2 * 2 * 5 * 32 * 32


def test_parameters_and_flops_by_hand() -> None:
    cost = measure_cost(Tiny(), (32, 64), repeats=1)
    assert cost.parameters == 8 * 3 * 9 + 8 + 8 * 5 + 5
    assert cost.flops == 2 * 8 * 3 * 9 * 16 * 32 + 2 * 8 * 5
    assert (cost.size, cost.threads) == ((32, 64), torch.get_num_threads())
    assert cost.milliseconds > 0


@pytest.mark.parametrize("training", [True, False])
def test_it_measures_in_eval_mode_and_restores_the_mode(training: bool) -> None:
    model = Tiny().train(training)
    measure_cost(model, (32, 32), repeats=1)
    assert model.training is training
    assert not any(model.calls)


def test_batch_norm_statistics_and_the_global_generator_stay() -> None:
    recipe = make_recipe(
        {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "image_size": 64, "overlap": 0}, "test"
    )
    detector = build_detector(recipe, ["a"]).train()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    state = torch.random.get_rng_state()
    cost = measure_cost(detector, (64, 64), repeats=1)
    assert all(torch.equal(before[k], v) for k, v in detector.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert cost.parameters == sum(p.numel() for p in detector.parameters())
    four_times = measure_cost(detector, (128, 128), repeats=1).flops / cost.flops
    assert 3.5 < four_times <= 4.0
