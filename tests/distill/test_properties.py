"""Laws that every method in the contract's ``METHODS`` is held to, on outputs of tiny detectors.

The contract itself (``tests/contracts/test_distillers.py``) looks at whole training steps: a twin has nothing to teach,
nothing to find, the teacher left alone, the student's names. A method's own tests hold its values and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from tests.contracts.test_distillers import CLASSES, METHODS, OBJECTS, TINY, detector, make_batch, train_step
from tests.processes import together
from torch import Tensor, nn

from fledge.build import build_detector, build_train_step
from fledge.distributed import joined
from fledge.recipe import Recipe, make_recipe
from fledge.types import Batch, Outputs

# (law, method) -> why the method is not held to it.
STATISTICS = "the batch's own means and deviations enter"
LENGTHS = "its distances are lengths over the whole batch"
PAIRS = LENGTHS + ", its relations pairs of objects of all images"
CELLS = "it divides by the weights of the cells of a process's images, and one"
DRAWN = "each image's mask is drawn at random"
EXEMPT: dict[tuple[str, str], str] = {
    ("order", "mgd"): DRAWN,
    ("twice", "arsd"): CELLS,
    ("twice", "arsd_as_released"): CELLS,
    ("twice", "crosskd"): STATISTICS,
    ("twice", "cwd_standardised"): STATISTICS,
    ("twice", "insdist"): PAIRS,
    ("twice", "insdist_balanced"): PAIRS,
    ("twice", "mgd"): DRAWN,
    ("twice", "pkd"): STATISTICS,
    ("processes", "arsd"): CELLS,
    ("processes", "arsd_as_released"): CELLS,
    ("processes", "crosskd"): STATISTICS,
    ("processes", "cwd_standardised"): STATISTICS,
    ("processes", "fkd"): LENGTHS,
    ("processes", "insdist"): PAIRS,
    ("processes", "insdist_balanced"): PAIRS,
    ("processes", "mgd"): DRAWN,
    ("processes", "pkd"): STATISTICS,
}
# Method -> how its terms grow when every image comes twice; 1 for those not named.
GROWTH: dict[str, float] = {"fkd": 2**0.5}
# Method -> the share of its loss that must be left where only its own weights learn; a half for those not named.
LEFT: dict[str, float] = {}


@dataclass(frozen=True)
class Case:
    """A distiller in eval mode, and what it reads."""

    distiller: nn.Module
    student: Outputs
    teacher: Outputs
    batch: Batch

    def terms(self, seed: int = 0) -> dict[str, Tensor]:
        """The terms, with what is drawn at random drawn alike."""
        torch.manual_seed(seed)
        found: dict[str, Tensor] = self.distiller(self.student, self.teacher, self.batch)
        return found

    def values(self, seed: int = 0) -> dict[str, float]:
        return {name: value.item() for name, value in self.terms(seed).items()}

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Case:
        """Both networks' outputs changed, tensor by tensor."""
        return replace(self, student=mapped(self.student, change), teacher=mapped(self.teacher, change))

    def images(self, index: list[int]) -> Case:
        """Some images, or one again, with their targets."""
        some = Batch(self.batch.images[index], self.batch.sizes[index], tuple(self.batch.targets[i] for i in index))
        return replace(self.mapped(lambda x: x[index]), batch=some)


def mapped(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    logits, codes = (tuple(map(change, x)) for x in (outputs.logits, outputs.codes))
    return replace(outputs, logits=logits, codes=codes, features={k: change(v) for k, v in outputs.features.items()})


def tensors(outputs: Outputs) -> Iterator[Tensor]:
    yield from (*outputs.logits, *outputs.codes, *outputs.features.values())


@cache
def case(method: str, side: int = 64) -> Case:
    """Three images, the second without an object."""
    student, teacher = detector(0, method).eval(), detector(1, method).eval()
    step = train_step(method, student, teacher).eval()
    assert step.distiller is not None
    whole = make_batch(OBJECTS, [], OBJECTS[:1])
    batch = Batch(whole.images[:, :, :side, :side], whole.sizes.clamp(max=side), whole.targets)
    with torch.no_grad():
        return Case(step.distiller, student(batch.images), teacher(batch.images), batch)


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def held(law: str, method: str) -> None:
    """Skip a method that is exempt."""
    if (law, method) in EXEMPT:
        pytest.skip(EXEMPT[law, method])


def test_the_exceptions_are_methods() -> None:
    assert {method for _, method in EXEMPT} | set(GROWTH) | set(LEFT) <= set(METHODS)
    assert {law for law, _ in EXEMPT} <= {"order", "twice", "processes"}


def test_the_order_of_images_does_not_matter(method: str) -> None:
    """A mask of one image on another would show."""
    held("order", method)
    assert case(method).images([2, 0, 1]).values() == pytest.approx(case(method).values(), rel=1e-4)


def test_every_image_twice(method: str) -> None:
    held("twice", method)
    expected = {name: GROWTH.get(method, 1) * value for name, value in case(method).values().items()}
    assert case(method).images([0, 1, 2, 0, 1, 2]).values() == pytest.approx(expected, rel=1e-4)


def calls(module: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """How often each layer runs."""
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            counts[name] = counts.get(name, 0) + 1

        return hook

    handles = [m.register_forward_hook(count(name)) for name, m in module.named_modules()]
    run()
    for handle in handles:
        handle.remove()
    return counts


def test_no_layer_of_the_student_runs_for_the_distiller(method: str) -> None:
    """What a distiller reads of the student comes out of the one forward pass that its own loss needs."""
    plain, student = detector(0, method), detector(0, method)
    step, batch = train_step(method, student, detector(1, method)), case(method).batch
    layers = {name for name, m in plain.named_modules() if sum(p.numel() for p in m.parameters(recurse=False))}
    alone, with_it = calls(plain, lambda: plain(batch.images)), calls(student, lambda: step(batch))
    assert {n: alone[n] for n in layers} == {n: with_it[n] for n in layers}


def test_no_gradient_reaches_the_teacher(method: str) -> None:
    one = case(method).mapped(leaf)
    torch.autograd.backward(torch.stack(list(one.terms().values())).sum())
    assert all(x.grad is None for x in tensors(one.teacher))
    assert any(x.grad is not None and bool(x.grad.any()) for x in tensors(one.student))


def finite(one: Case) -> None:
    """Terms, and gradients of the student's outputs and the distiller's own weights."""
    one = replace(one, student=mapped(one.student, leaf))
    one.distiller.zero_grad()
    terms = one.terms()
    assert all(v.dtype == torch.float32 and bool(v.isfinite()) and v.requires_grad for v in terms.values()), terms
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for x in (*tensors(one.student), *one.distiller.parameters()):
        assert x.grad is None or bool(x.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_outputs_in_half_precision_are_finite(method: str, dtype: torch.dtype) -> None:
    finite(case(method).mapped(lambda x: (1e3 * x).clamp(-6e4, 6e4).to(dtype)))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_outputs_are_finite(method: str, value: float) -> None:
    finite(case(method).mapped(lambda x: torch.full_like(x, value)))


@pytest.mark.parametrize("index", [[0], [1], [0, 1, 2]])
def test_maps_of_one_cell_are_finite(method: str, index: list[int]) -> None:
    """Of images of 32 pixels, also alone, with and without an object."""
    small = case(method, 32)
    assert small.student.features["p5"].shape[2:] == (1, 1)
    finite(small.images(index))


def run(distiller: nn.Module, one: Case, optimizer: torch.optim.Optimizer | None, steps: range) -> list[list[float]]:
    """The terms of some training steps of the distiller alone, on outputs that differ from step to step."""
    seen = []
    for step in steps:
        scaled = mapped(one.student, lambda x, step=step: (1 + 0.1 * step) * x.detach())  # type: ignore[misc]
        terms = distiller(mapped(scaled, leaf), one.teacher, one.batch)
        seen.append([float(value.detach()) for value in terms.values()])
        if optimizer is not None:
            optimizer.zero_grad()
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
            optimizer.step()
    return seen


def test_resumed_it_goes_on_to_the_bit(method: str) -> None:
    """Weights, counters, queues and what is drawn: all of it is in the state dict and the generator."""
    one, made = case(method), []
    for _ in range(2):
        distiller = train_step(method, detector(0, method), detector(1, method)).train().distiller
        assert distiller is not None
        weights = list(distiller.parameters())
        made.append((distiller, torch.optim.AdamW(weights, lr=1e-2) if weights else None))
    (first, optimizer), (second, other) = made
    torch.manual_seed(0)
    run(first, one, optimizer, range(2))
    state, drawn = {k: v.clone() for k, v in first.state_dict().items()}, torch.get_rng_state()
    if optimizer is not None and other is not None:
        other.load_state_dict(deepcopy(optimizer.state_dict()))
    expected = run(first, one, optimizer, range(2, 5))
    second.load_state_dict(state)
    torch.set_rng_state(drawn)
    assert run(second, one, other, range(2, 5)) == expected


def per_process(methods: list[str]) -> dict[str, dict[str, float]]:
    """What this process computes on its image of two."""
    with joined(torch.device("cpu")):
        rank = torch.distributed.get_rank()
        return {method: case(method).images([2 * rank]).values() for method in methods}


def test_two_processes_average_to_one() -> None:
    """As their gradients do: a divisor that counts positives counts those of both."""
    whole = {m: case(m).images([0, 2]).values() for m in METHODS if ("processes", m) not in EXEMPT}
    assert {"kd_rnet", "ld"} <= set(whole)
    one, two = together(2, per_process, list(whole))
    for m, expected in whole.items():
        assert {k: (v + two[m][k]) / 2 for k, v in one[m].items()} == pytest.approx(expected, rel=1e-4), m


@pytest.mark.slow
def test_its_own_weights_are_no_shortcut(method: str) -> None:
    """Maps of noise, many more cells than weights: adapters and whatever stands at the teacher's side fit little."""
    narrow = {**TINY, **METHODS[method], "neck_channels": 8}
    own = {k: v for k, v in narrow.items() if k in Recipe.model_fields and k != "method"}
    student, teacher = build_detector(make_recipe(own, "test"), CLASSES), detector(1, method)
    distiller = build_train_step(make_recipe(narrow, "test"), student, teacher).train().distiller
    assert distiller is not None
    weights = list(distiller.parameters())
    if not weights:
        pytest.skip("has no weights of its own")
    batch = make_batch(OBJECTS)
    batch = replace(batch, images=torch.zeros(1, 3, 512, 512, dtype=torch.uint8), sizes=8 * batch.sizes)
    torch.manual_seed(0)
    with torch.no_grad():
        noise = [mapped(d(batch.images), torch.randn_like) for d in (student, teacher)]
    optimizer, losses = torch.optim.Adam(weights, lr=2e-2), []
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.stack(list(distiller(*noise, batch).values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1])
    assert sum(losses[-10:]) / 10 >= LEFT.get(method, 0.5) * losses[0]
