from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.distill.samples import NOTHING
from torch import Tensor

from fledge.assign.max_iou import Assignment
from fledge.distill.hinton import Form, Hinton
from fledge.distill.kd_rnet import class_divergence
from fledge.distill.parts.quality_focal import quality_focal
from fledge.errors import UsageError
from fledge.method_settings import HintonRecipe
from fledge.recipe import for_classes, make_recipe
from fledge.types import Outputs

FORMS: tuple[Form, ...] = ("softmax", "bernoulli", "quality_focal")
S = torch.tensor([[2.0, 1, 0], [0, 0.5, -0.5]], dtype=torch.float64)
T = torch.tensor([[1, 2, 0.5], [0.3, 0.1, -1]], dtype=torch.float64)


def outputs(logits: Tensor) -> Outputs:
    """(B, A, K) logits of A anchors in one column of a map."""
    maps = logits.permute(0, 2, 1)[:, None, :, :, None]
    return Outputs((maps,), (maps.new_zeros(len(logits), 1, 5, logits.shape[1], 1),), {})


def distil(
    form: Form, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 2.0, **more: Any
) -> Tensor:
    """With an assignment of ``labels`` (B, A): -1 background, -2 ignored."""
    positive = labels >= 0
    assignment = Assignment(labels, positive, labels != -2, torch.zeros(int(positive.sum()), 5))
    method = Hinton(lambda *_: assignment, student.shape[-1], form=form, temperature=temperature, **more)
    term: Tensor = method(outputs(student), outputs(teacher), NOTHING)["kd_hinton"]
    return term


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.2374314953), (4.0, 0.2239185522)])
def test_golden_value_of_the_softmax_form(temperature: float, expected: float) -> None:
    """The two rows are the anchors, both positive: their mean."""
    found = distil("softmax", S[None], T[None], torch.zeros(1, 2, dtype=torch.int64), temperature)
    assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, (0.4340170582, -0.3838032482, -0.0502138100)), (4.0, (0.4137003301, -0.3160174352, -0.0976828948))],
)
def test_golden_gradient(temperature: float, expected: tuple[float, ...]) -> None:
    student = S[None, :1].clone().requires_grad_()
    torch.autograd.backward(distil("softmax", student, T[None, :1], torch.zeros(1, 1, dtype=torch.int64), temperature))
    assert student.grad is not None
    assert student.grad.flatten().tolist() == pytest.approx(expected, abs=1e-9)


def test_at_a_high_temperature_logits_are_compared() -> None:
    found = distil("softmax", S[None], T[None], torch.zeros(1, 2, dtype=torch.int64), 1000.0)
    difference = (S - S.mean(1, keepdim=True)) - (T - T.mean(1, keepdim=True))
    assert found.item() == pytest.approx(float(difference.square().sum()) / 2 / (2 * 3), rel=1e-3)


def test_golden_values_of_the_quality_focal_form() -> None:
    k = torch.arange(160, dtype=torch.float64)
    teacher, student = (0.23 * k - 2).sin(), (0.37 * k - 1).sin()
    assert quality_focal(student, teacher).sum().item() == pytest.approx(26.9750757946, abs=1e-9)
    one = quality_focal(torch.tensor(0.3).double(), torch.tensor(0.8).double())
    assert one.item() == pytest.approx(0.0747911075, abs=1e-9)
    assert (quality_focal(student, student) == 0).all()


def slow(form: Form, student: list[float], teacher: list[float], temperature: float) -> float:
    """One anchor, in plain Python."""

    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    pairs = list(zip(student, teacher, strict=True))
    if form == "quality_focal":
        terms = []
        for s, t in pairs:
            p, q = sigmoid(s), sigmoid(t)
            terms.append(abs(p - q) * -(q * math.log(p) + (1 - q) * math.log(1 - p)))
        return sum(terms)
    if form == "bernoulli":
        terms = []
        for s, t in pairs:
            p, q = sigmoid(s / temperature), sigmoid(t / temperature)
            terms.append(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))
        return temperature**2 * sum(terms)
    own, other = ([math.exp(v / temperature) for v in row] for row in (student, teacher))
    shares = zip([v / sum(own) for v in own], [v / sum(other) for v in other], strict=True)
    return temperature**2 * sum(q * math.log(q / p) for p, q in shares)


@pytest.mark.parametrize("form", FORMS)
def test_anchor_by_anchor(form: Form) -> None:
    """Positives only, or all that count; divided by the three positives."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([[0, -1, -2, 2], [-1, -1, 1, -2]])
    counted = labels != -2 if form == "quality_focal" else labels >= 0
    expected = sum(
        slow(form, s, t, 2.0) for s, t in zip(student[counted].tolist(), teacher[counted].tolist(), strict=True)
    )
    assert distil(form, student, teacher, labels, weight=5.0).item() == pytest.approx(5 * expected / 3)


@given(st.floats(-50, 50))
def test_a_constant_added_to_an_anchor_does_not_matter_to_the_softmax(shift: float) -> None:
    labels = torch.zeros(1, 2, dtype=torch.int64)
    moved = distil("softmax", S[None] + shift, T[None], labels)
    torch.testing.assert_close(moved, distil("softmax", S[None], T[None], labels))


@pytest.mark.parametrize("form", FORMS)
def test_gradient(form: Form) -> None:
    if form == "quality_focal":
        assert torch.autograd.gradcheck(lambda s: quality_focal(s, T), (S.clone().requires_grad_(),))
    labels = torch.tensor([[0, 1]])
    assert torch.autograd.gradcheck(lambda s: distil(form, s, T[None], labels), (S[None].clone().requires_grad_(),))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_to_learn_from(form: Form) -> None:
    """No positive: nothing to imitate, but for the quality-focal form, which knows background. None that counts."""
    student = S[None].clone().requires_grad_()
    background = distil(form, student, T[None], torch.tensor([[-1, -1]]))
    assert (background.item() > 0) == (form == "quality_focal")
    ignored = distil(form, student, T[None], torch.tensor([[-2, -2]]))
    torch.autograd.backward(ignored + background)
    assert ignored.item() == 0
    assert student.grad is not None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_huge_logits_in_half_precision(form: Form, dtype: torch.dtype) -> None:
    student = (1e3 * S[None]).to(dtype).requires_grad_()
    loss = distil(form, student, (-1e3 * T[None]).to(dtype), torch.tensor([[0, 1]]))
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_batch_may_be_turned_round() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 3, generator=generator) for _ in range(2))
    labels = torch.tensor([[0, -1, -2, 2], [-1, -1, 1, -2]])
    for form in FORMS:
        turned = distil(form, student.flip(0), teacher.flip(0), labels.flip(0))
        torch.testing.assert_close(turned, distil(form, student, teacher, labels))


def test_one_class_has_no_softmax() -> None:
    with pytest.raises(ValueError, match="constant"):
        distil("softmax", S[None, :, :1], T[None, :, :1], torch.tensor([[0, 0]]))
    assert distil("bernoulli", S[None, :, :1], T[None, :, :1], torch.tensor([[0, 0]])).item() > 0


def test_a_recipe_for_one_class_has_the_form_that_works() -> None:
    recipe = make_recipe({"method": "hinton", "hinton_form": "softmax"}, "test")
    assert for_classes(recipe, 2) == recipe
    fitted = for_classes(recipe, 1)
    assert isinstance(fitted, HintonRecipe)
    assert fitted.hinton_form == "bernoulli"


def test_other_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="Hinton KD needs the same"):
        distil("bernoulli", S[None], T[None, :, :2], torch.tensor([[0, 0]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_student_learns_the_scores(form: Form) -> None:
    student = S[None].clone().requires_grad_()
    optimizer = torch.optim.Adam([student], 0.1)
    labels = torch.tensor([[0, 1]])
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(distil(form, student, T[None], labels))
        optimizer.step()
    close = class_divergence(student.detach()[0], T, 1.0, "softmax")
    assert close.max().item() < 1e-3
