from __future__ import annotations

import math

import pytest
import torch
from torch import nn, optim

from fledge.engine.optim import Schedule, make_optimizer


def model() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.Linear(2, 2))
    body[3].requires_grad_(False)
    return body


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_kernels_decay_and_the_rest_does_not(name: str) -> None:
    body = model()
    optimizer = make_optimizer(body, name, 0.1, 0.01, 0.8)
    assert isinstance(optimizer, {"sgd": optim.SGD, "adamw": optim.AdamW}[name])
    decayed, others = optimizer.param_groups
    assert {id(p) for p in decayed["params"]} == {id(body[0].weight), id(body[2].weight)}  # type: ignore[index]
    assert {p.ndim for p in others["params"]} == {1}
    assert len(others["params"]) == 4
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert {g["lr"] for g in optimizer.param_groups} == {0.1}
    if name == "sgd":
        assert {g["momentum"] for g in optimizer.param_groups} == {0.8}
    else:
        assert {g["betas"] for g in optimizer.param_groups} == {(0.9, 0.999)}


def test_cosine_falls_from_the_rate_to_nearly_nothing() -> None:
    rate = Schedule(2.0, 100)
    assert rate(0) == 2.0
    assert rate(50) == pytest.approx(1.0)
    assert rate(100) == pytest.approx(0.0)
    assert rate(99) == pytest.approx(1 + math.cos(math.pi * 0.99))
    values = [rate(i) for i in range(100)]
    assert values == sorted(values, reverse=True)


def test_warm_up_starts_at_a_third() -> None:
    rate = Schedule(3.0, 1000, "step", warmup=10, milestones=(500,))
    assert rate(0) == pytest.approx(1.0)
    assert rate(5) == pytest.approx(2.0)
    assert rate(10) == 3.0
    cosine = Schedule(3.0, 1000, "cosine", warmup=10)
    assert cosine(5) == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.005)))
    assert cosine(10) == Schedule(3.0, 1000, "cosine")(10)


def test_steps_drop_to_a_tenth_at_each_milestone() -> None:
    rate = Schedule(1.0, 30, "step", milestones=(10, 20))
    assert [rate(i) for i in (0, 9)] == [1.0, 1.0]
    assert [rate(i) for i in (10, 19)] == pytest.approx([0.1, 0.1])
    assert [rate(i) for i in (20, 29)] == pytest.approx([0.01, 0.01])


def test_without_milestones_a_step_schedule_is_constant() -> None:
    assert {Schedule(0.3, 5, "step")(i) for i in range(5)} == {0.3}


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)


def test_the_backbone_may_learn_at_a_rate_of_its_own() -> None:
    body = nn.ModuleDict({"student": Detector()})
    optimizer = make_optimizer(body, "adamw", 0.1, 0.01, 0.9, backbone_lr=0.25)
    rates = {id(p): (g["lr"], g["lr_factor"]) for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in body.named_parameters():
        assert rates[id(parameter)] == ((0.025, 0.25) if "backbone" in name else (0.1, 1.0))
    assert len(rates) == 4
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.01, 0.0}


def test_a_factor_of_one_leaves_the_groups_alone() -> None:
    """So that the state of older checkpoints still belongs to the same parameters."""
    body = nn.ModuleDict({"student": Detector()})
    optimizer = make_optimizer(body, "sgd", 0.1, 0.01, 0.9, backbone_lr=1.0)
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 2]


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lr_factor = 0.1
        self.filter, self.inner = nn.Parameter(torch.zeros(3, 4, 5)), nn.Linear(2, 2)


@pytest.mark.parametrize("backbone_lr", [1.0, 0.25, 0.1])
def test_a_module_may_name_a_rate_of_its_own(backbone_lr: float) -> None:
    body = nn.ModuleDict({"student": Detector(), "distiller": Slow()})
    optimizer = make_optimizer(body, "sgd", 0.5, 0.01, 0.9, backbone_lr=backbone_lr)
    rates = {id(p): (g["lr"], g["lr_factor"]) for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in body.named_parameters():
        factor = 0.1 if name.startswith("distiller") else backbone_lr if "backbone" in name else 1.0
        assert rates[id(parameter)] == (0.5 * factor, factor)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(rates) == 7
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.01, 0.0}


def test_other_parameters_keep_their_places_beside_such_a_module() -> None:
    """So that checkpoints are read as they were written."""
    plain = make_optimizer(nn.ModuleDict({"a": Detector()}), "sgd", 0.1, 0.01, 0.9, backbone_lr=0.25)
    both = make_optimizer(nn.ModuleDict({"a": Detector(), "b": Slow()}), "sgd", 0.1, 0.01, 0.9, backbone_lr=0.25)
    shapes = [[[p.shape for p in g["params"]] for g in o.param_groups] for o in (plain, both)]
    assert shapes[1][: len(shapes[0])] == shapes[0]


def test_the_innermost_rate_counts() -> None:
    outer = Slow()
    outer.inner.lr_factor = 2.0  # type: ignore[assignment]
    optimizer = make_optimizer(outer, "adamw", 1.0, 0.0, 0.9)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert (rates[id(outer.filter)], rates[id(outer.inner.weight)]) == (0.1, 2.0)
