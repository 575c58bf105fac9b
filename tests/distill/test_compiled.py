"""The law that a method computes compiled what it computes eagerly, values and gradients.

A graph may break where what follows depends on data; which methods break theirs is listed, and the others compile
whole. The compiler is the one of PyTorch without its code generator: what is traced and differentiated is tested, not
how it is fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.contracts.test_distillers import METHODS, detector, train_step
from tests.distill.test_properties import Case, case, leaf, mapped, tensors
from tests.geometry.apart import apart
from torch import Tensor, nn
from torch._dynamo.utils import counters

# What a method's name begins with -> why its graph breaks.
ASSIGNED = "which anchor learns what, and so how many do, depends on the objects"
CELLS = "how many cells an object covers depends on its box"
DRAWN = "it draws from a generator made anew in each step"
BROKEN: dict[str, str] = {
    "arsd": ASSIGNED,
    "crosskd": ASSIGNED,
    "fgd": CELLS,
    "hinton": ASSIGNED,
    "ifkd": DRAWN,
    "insdist": CELLS,
    "kd_rnet": ASSIGNED,
    "ld": ASSIGNED,
    "mgd": DRAWN,
}
WHOLE = {"ifkd_frs"}  # draws nothing


def breaks(method: str) -> bool:
    return method.startswith(tuple(BROKEN)) and method not in WHOLE


def steps(run: Callable[..., dict[str, Tensor]], distiller: nn.Module, one: Case) -> list[Tensor]:
    """Terms and gradients of two steps on images in another order, whose objects were not assigned before."""
    found: list[Tensor] = []
    for order in ([0, 1, 2], [2, 0, 1]):
        now = one.images(order)
        now = replace(now, student=mapped(now.student, leaf))
        distiller.zero_grad()
        terms = run(now.student, now.teacher, now.batch)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        gradients = [x.grad for x in (*tensors(now.student), *distiller.parameters())]
        found += [*terms.values(), *(x.clone() for x in gradients if x is not None)]
    return [x.detach() for x in found]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's, on what it does not follow
@pytest.mark.parametrize("method", METHODS)
@apart
def test_compiled_it_computes_the_same(method: str) -> None:
    distiller = train_step(method, detector(0, method), detector(1, method)).train().distiller
    assert distiller is not None
    start = {name: value.clone() for name, value in distiller.state_dict().items()}
    expected = steps(distiller, distiller, case(method))
    assert any(bool(x.any()) for x in expected)
    distiller.load_state_dict(start)  # what is drawn follows from how many steps were taken
    compiled = torch.compile(distiller, backend="aot_eager", fullgraph=not breaks(method))
    found = steps(compiled, distiller, case(method))
    assert bool(counters["graph_break"]) == breaks(method)
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())
