from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fledge.distill.parts.levels import Adapters, Ramp, check_same_grid, shared_levels
from fledge.distributed import whole_step
from fledge.errors import UsageError
from fledge.types import Outputs


def network(levels: str, channels: int) -> Any:
    return SimpleNamespace(neck=SimpleNamespace(levels=tuple(levels.split()), channels=channels))


def outputs(**maps: torch.Tensor) -> Outputs:
    return Outputs((), (), maps)


def test_one_and_two_stages_share_what_they_have() -> None:
    shared = shared_levels(network("p3 p4 p5 p6 p7", 16), network("p2 p3 p4 p5 p6", 64))
    assert (shared.names, shared.student, shared.teacher) == (("p3", "p4", "p5", "p6"), 16, 64)
    assert shared.only(("p2", "p3", "p6")) == ("p3", "p6")
    with pytest.raises(UsageError, match="the method takes p7, student and teacher share p3, p4, p5, p6"):
        shared.only(("p7",))


def test_nothing_in_common_names_both() -> None:
    with pytest.raises(UsageError, match=r"student p3 \(16 channels\), teacher p2 \(64 channels\)"):
        shared_levels(network("p3", 16), network("p2", 64))


def test_equal_widths_pass_unchanged_unless_asked() -> None:
    x = torch.randn(2, 4, 3, 5)
    (own, other), *rest = Adapters(["p3"], 4, 4)(outputs(p3=x), outputs(p3=x)).values()
    assert rest == []
    assert torch.equal(own, x)
    assert torch.equal(other, x)
    always = Adapters(["p3"], 4, 4, kernel=3, always=True)
    conv = always.convs["p3"]
    assert isinstance(conv, nn.Conv2d)
    assert torch.equal(always(outputs(p3=x), outputs(p3=x))["p3"][0], conv(x))


def test_the_student_takes_the_teachers_shape() -> None:
    adapters = Adapters(["p3"], 4, 6)
    small, large = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 6, 9, requires_grad=True)
    own, other = adapters(outputs(p3=small.half()), outputs(p3=large))["p3"]
    assert own.shape == other.shape == (2, 6, 6, 9)
    assert own.dtype == torch.float32
    assert not other.requires_grad
    expected = F.interpolate(adapters.convs["p3"](small.half().float()), (6, 9), mode="bilinear", align_corners=False)
    assert torch.equal(own, expected)


def test_different_heads_are_refused_with_both_shapes() -> None:
    one, two = ((torch.zeros(1, 9, k, 2, 2),) for k in (3, 4))
    codes = (torch.zeros(1, 9, 5, 2, 2),)
    with pytest.raises(UsageError, match=r"LD needs .*student \[\(1, 9, 3, 2, 2\)\], teacher \[\(1, 9, 4, 2, 2\)\]"):
        check_same_grid("LD", Outputs(one, codes, {}), Outputs(two, codes, {}))
    check_same_grid("LD", Outputs(one, codes, {}), Outputs(one, (), {}), codes=False)


def test_a_ramp_counts_training_only_and_remembers() -> None:
    ramp = Ramp(4).train()
    assert [float(ramp()) for _ in range(3)] == [0, 0.25, 0.5]
    assert float(ramp.eval()()) == 1
    again = Ramp(4)
    again.load_state_dict(ramp.state_dict())
    assert [float(again()) for _ in range(3)] == [0.75, 1, 1]
    assert float(Ramp(0)()) == 1


def test_a_ramp_in_parts_takes_as_many_steps() -> None:
    ramp = Ramp(2).train()
    with whole_step(1, 4):
        assert [float(ramp()) for _ in range(9)] == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
