from __future__ import annotations

import math

import pytest
import torch
from tests.distill.samples import (
    LEVELS,
    NOTHING,
    check_extremes,
    descend,
    doubled,
    fixed,
    leaves,
    pyramid,
    shortcut,
    total,
)

from fledge.distill.fkd import FKD, NonLocal, attention_mask, distance
from fledge.distill.parts.attention import spatial_attention


def test_golden_values() -> None:
    student, teacher = fixed()
    mask = attention_mask(student, teacher, 0.1)
    spatial = (spatial_attention(student.abs(), 0.1) + spatial_attention(teacher.abs(), 0.1)) / 2
    assert distance(student, teacher, spatial).item() == pytest.approx(9.6916957896, abs=1e-9)
    assert distance(student, teacher, mask).item() == pytest.approx(9.7102489193, abs=1e-9)
    means = [(x.mean(dim=(2, 3)), x.mean(dim=1)) for x in (student, teacher)]
    assert distance(means[0][0], means[1][0]).item() == pytest.approx(0.6246069119, abs=1e-9)
    assert distance(means[0][1], means[1][1]).item() == pytest.approx(2.9081324320, abs=1e-9)


def test_golden_total_of_the_port() -> None:
    """At temperature 0.5, without attention over the channels, with blocks and adapters that change nothing."""
    student, teacher = fixed()
    mask = (spatial_attention(student.abs(), 0.5) + spatial_attention(teacher.abs(), 0.5)) / 2
    found = 7e-5 * (distance(student, teacher, mask) + distance(student, teacher))
    found += 4e-3 * distance(student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3)))
    found += 4e-3 * distance(student.mean(dim=1), teacher.mean(dim=1))
    assert found.item() == pytest.approx(0.0154775306, abs=1e-9)


def test_gradient_of_the_distance() -> None:
    student, teacher = (x[:, :2, :2, :2].clone() for x in fixed())
    mask = attention_mask(student, teacher, 0.5)
    assert torch.autograd.gradcheck(lambda s: distance(s, teacher, mask), (student.requires_grad_(),))
    assert not attention_mask(student, teacher, 0.5).requires_grad
    torch.autograd.backward(distance(student, student.detach(), mask))
    assert student.grad is not None
    assert (student.grad == 0).all()


def slow_non_local(block: NonLocal, x: torch.Tensor) -> torch.Tensor:
    """With the matrix of places by places."""
    query, seen = block.query(x), torch.nn.functional.max_pool2d(x, block.every)
    key, value = block.key(seen), block.value(seen)
    result = torch.zeros_like(query)
    for b in range(len(x)):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                for k in range(key.shape[2]):
                    for m in range(key.shape[3]):
                        weight = (query[b, :, i, j] * key[b, :, k, m]).sum() / key[0, 0].numel()
                        result[b, :, i, j] += weight * value[b, :, k, m]
    added: torch.Tensor = block.output(result)
    return x + added


def test_non_local_block() -> None:
    x, block = fixed()[0], NonLocal(3, 2).double()
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.output.weight)
    with torch.no_grad():
        torch.testing.assert_close(block(x), slow_non_local(block, x))
    assert (block(x) - x).abs().max() > 0.01


def test_terms_of_one_level() -> None:
    student, teacher, method = pyramid(3, 0), pyramid(5, 1), FKD(3, 5, ["p3"])
    own, other = student.features["p3"], teacher.features["p3"]
    adapted = method.adapters.convs["p3"](own)
    mask = attention_mask(adapted, other, 0.1)
    squares = ((adapted - other) ** 2 * mask).sum()
    terms = method(student, teacher, NOTHING)
    torch.testing.assert_close(terms["kd_fkd_attention"], 7e-5 * squares.sqrt())
    channel = own.mean(dim=(2, 3)) @ method.channel["p3"].weight.T + method.channel["p3"].bias  # type: ignore[operator]
    torch.testing.assert_close(terms["kd_fkd_channel"], 4e-3 * ((channel - other.mean(dim=(2, 3))) ** 2).sum().sqrt())
    spatial = method.spatial["p3"](own.mean(dim=1, keepdim=True)) - other.mean(dim=1, keepdim=True)
    torch.testing.assert_close(terms["kd_fkd_spatial"], 4e-3 * (spatial**2).sum().sqrt())
    relation = method.relation.convs["p3"](own) - other
    torch.testing.assert_close(terms["kd_fkd_relation"], 7e-5 * (relation**2).sum().sqrt())


def test_twice_the_images_are_the_root_of_two() -> None:
    student, teacher, method = pyramid(4, 0), pyramid(4, 1), FKD(4, 4, LEVELS)
    torch.testing.assert_close(
        total(method, doubled(student), doubled(teacher), NOTHING),
        math.sqrt(2) * total(method, student, teacher, NOTHING),
    )


def test_other_widths_and_sizes() -> None:
    student, method = leaves(pyramid(4, 0)), FKD(4, 6, LEVELS)
    torch.autograd.backward(total(method, student, pyramid(6, 1, side=256), NOTHING))
    assert all(x.grad is not None for x in (*method.parameters(), *student.features.values()))


def test_extremes() -> None:
    check_extremes(FKD(4, 6, LEVELS), (4, 6))


def test_a_student_learns_the_maps() -> None:
    assert descend(FKD(4, 4, LEVELS[:2]), pyramid(4, 0), pyramid(4, 1), NOTHING, 100, 0.2) < 0.4


def test_no_shortcut() -> None:
    """The figure in the header."""
    maps = pyramid(8, 0, side=256), pyramid(8, 1, side=256)
    weights = {"kd_fkd_attention": 0.0, "kd_fkd_channel": 0.0, "kd_fkd_spatial": 0.0, "kd_fkd_relation": 1.0}
    assert shortcut(FKD(8, 8, LEVELS[:1], weights), *maps, NOTHING) == pytest.approx(0.65, abs=0.05)
