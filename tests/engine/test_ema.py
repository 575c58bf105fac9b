from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults import tiny
from torch import nn

from fledge import api
from fledge.engine.checkpoint import load_checkpoint
from fledge.engine.ema import Ema
from fledge.runs import load_detector


def model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_average_follows_its_recursion_and_buffers_are_copied() -> None:
    body = model()
    ema, expected = Ema(body, 0.9), body[0].weight.detach().double().clone()
    for step in range(1, 40):
        with torch.no_grad():
            for parameter in body.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        body[1].running_mean.fill_(step)
        body[1].num_batches_tracked.fill_(step)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * body[0].weight.detach().double()
    state = ema.state_dict()
    torch.testing.assert_close(state["0.weight"].double(), expected, rtol=1e-5, atol=1e-6)
    assert state["1.running_mean"].tolist() == [39, 39]
    assert int(state["1.num_batches_tracked"]) == 39
    assert state.keys() == body.state_dict().keys()


def test_the_average_is_no_view_of_the_model_and_is_restored() -> None:
    body = model()
    ema = Ema(body, 0.5)
    before = {k: v.clone() for k, v in ema.state_dict().items()}
    with torch.no_grad():
        body[0].weight.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in ema.state_dict().items())
    other = Ema(model(), 0.5)
    ema.update(1)
    other.load_state_dict(ema.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in ema.state_dict().items())


def test_a_run_with_an_average_is_evaluated_with_it(tmp_path: Path) -> None:
    """What ``load`` returns are the averaged weights, not the last ones."""
    run = api.train(tiny.recipe(tiny.tiles(tmp_path / "data")), tmp_path / "run")
    _, groups = load_checkpoint(tiny.checkpoint(run))
    loaded = load_detector(run)[0].state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in groups["ema"].items())
    assert any(not torch.equal(value, loaded[name]) for name, value in groups["model"].items())


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_without_an_average_there_is_none(tmp_path: Path, decay: float) -> None:
    run = api.train(tiny.recipe(tiny.tiles(tmp_path / "data"), ema_decay=decay, epochs=1), tmp_path / "run")
    names: Any = {path.stem for path in tiny.checkpoint(run).glob("*.safetensors")}
    assert ("ema" in names) == bool(decay)
