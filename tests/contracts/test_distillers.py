"""What every distiller owes: add a method's recipe to ``METHODS`` and it is held to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from fledge.build import build_detector, build_train_step
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import DistillRecipe, Recipe, make_recipe
from fledge.types import Batch, Targets

CLASSES = ("plane", "ship", "tank")
IFKD = {"method": "ifkd", "ifkd_disturbance": "none", "ifkd_ramp_steps": 0}
METHODS: dict[str, dict[str, Any]] = {
    "crosskd": {"method": "crosskd", "head_convs": 2},
    "arsd": {"method": "arsd"},
    "arsd_as_released": {"method": "arsd", "arsd_area_weight": False},
    "at": {"method": "at"},
    "cwd": {"method": "cwd"},
    "cwd_standardised": {"method": "cwd", "cwd_standardised": True},
    "fgd": {"method": "fgd"},
    "fitnet": {"method": "fitnet"},
    "fkd": {"method": "fkd"},
    "hinton": {"method": "hinton"},
    "hinton_bernoulli": {"method": "hinton", "hinton_form": "bernoulli"},
    "hinton_softmax": {"method": "hinton", "hinton_form": "softmax"},
    "insdist": {"method": "insdist"},
    "insdist_balanced": {"method": "insdist", "insdist_balanced": True},
    "frs": {"method": "frs", "frs_ramp_steps": 0},
    "ifkd": IFKD,
    "ifkd_both": {**IFKD, "ifkd_frequency_on": "both", "ifkd_mask": "ones"},
    "ifkd_fixed": {**IFKD, "ifkd_train_filter": False},
    "ifkd_frs": {**IFKD, "ifkd_frequency": False, "ifkd_mask": "frs"},
    "ifkd_at": {**IFKD, "ifkd_on": "at"},
    "kd_rnet": {"method": "kd_rnet"},
    "kd_rnet_forward": {"method": "kd_rnet", "kd_direction": "teacher_student"},
    "kd_rnet_positive": {"method": "kd_rnet", "kd_anchors": "positive", "kd_squared_temperature": True},
    "kd_rnet_sigmoid": {"method": "kd_rnet", "kd_probability": "sigmoid", "kd_temperature": 1.0},
    "ld": {"method": "ld", "box_bins": 7},
    "mgd": {"method": "mgd"},
    "pkd": {"method": "pkd"},
}
# Compare anchor with anchor.
COMPARED = ("arsd", "crosskd", "frs", "hinton", "ifkd", "kd_rnet", "ld")
ON_ANCHORS = [name for name in METHODS if name.startswith(COMPARED) and name != "ifkd_at"]
ASSIGNING = [name for name in ON_ANCHORS if not name.startswith(("frs", "ifkd"))]  # ask which anchor learns what
# Methods whose terms are not exactly zero where student and teacher are equal -> the most they may be.
TWINS: dict[str, float] = {"crosskd": 1e-4}  # aligned with itself, a map is rounded
# A twin has nothing to teach once the convolutions between the two change nothing.
ADAPTED = {"arsd", "arsd_as_released", "fitnet", "fkd", "insdist", "insdist_balanced"}
SELDOM = {"kd_arsd_box"}  # only where the teacher's box is better than the student's, and this than the anchor
GENERATIVE = {"mgd"}  # guess the teacher's map from a part: a twin, too, gives them something to learn
# Terms that a twin of the student does not bring to 0, and why.
LEFT_BY_A_TWIN = {
    "frs": {"kd_feat": "a convolution lies between"},
    "ifkd": {"kd_feat": "a convolution lies between"},
    "ifkd_both": {"kd_feat": "a convolution lies between"},
    "ifkd_fixed": {"kd_feat": "a convolution lies between"},
    "ifkd_frs": {"kd_feat": "a convolution lies between"},
    "ifkd_at": {"kd_at": "the target is reconstructed"},
}
PENALTIES = {"kd_filter"}  # on the distiller's own weights, 0 at the start
TINY = {"backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "image_size": 64, "overlap": 0}


def detector(seed: int, method: str, classes: Sequence[str] = CLASSES) -> DenseDetector:
    """Student or teacher, with the head that a method needs."""
    needs = {key: value for key, value in METHODS[method].items() if key in Recipe.model_fields and key != "method"}
    return build_detector(make_recipe({**TINY, **needs, "seed": seed}, "test"), classes)


def train_step(method: str, student: DenseDetector, teacher: DenseDetector, **settings: Any) -> TrainStep:
    return build_train_step(make_recipe({**TINY, **METHODS[method], **settings}, "test"), student, teacher)


def make_batch(*rows: list[list[float]]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(rows), 3, 64, 64), generator=generator, dtype=torch.uint8)
    targets = []
    for boxes in rows:
        no = torch.zeros(len(boxes), dtype=torch.bool)
        labels = torch.arange(len(boxes)) % len(CLASSES)
        targets.append(Targets(torch.tensor(boxes).view(-1, 5), labels, ignore=no, difficult=no))
    return Batch(images, torch.full((len(rows), 2), 64), tuple(targets))


def change_nothing(distiller: torch.nn.Module | None) -> None:
    """Make every map between student and teacher the identity, or the same on both sides."""
    assert distiller is not None
    for module in distiller.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            (torch.nn.init.dirac_ if isinstance(module, torch.nn.Conv2d) else torch.nn.init.eye_)(module.weight)
            torch.nn.init.zeros_(module.bias)  # type: ignore[arg-type]


OBJECTS = [[30.0, 30, 34, 30, 0.2], [40.0, 40, 40, 20, -1.2]]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_terms(method: str) -> None:
    step, batch = train_step(method, detector(0, method), detector(1, method)).train(), make_batch(OBJECTS, [])
    task = set(step.student.loss(step.student(batch.images), batch))  # type: ignore[operator]
    terms = step(batch)
    extra = set(terms) - task
    assert task < set(terms)
    for name in extra:
        assert name.startswith("kd_")
        assert (terms[name].shape, terms[name].dtype) == ((), torch.float32)
        assert float(terms[name].detach()) > 0 or name in SELDOM | PENALTIES
    torch.stack([terms[name] for name in extra]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in step.student.parameters()]
    assert sum(g is not None and bool((g != 0).any()) for g in gradients) > len(gradients) / 3
    assert all(g is None or bool(g.isfinite().all()) for g in gradients)


@pytest.mark.parametrize("rows", [([],), ([], [])])
def test_nothing_to_find(method: str, rows: tuple[list[list[float]], ...]) -> None:
    step = train_step(method, detector(0, method), detector(1, method)).train()
    terms = step(make_batch(*rows))
    assert all(bool(v.isfinite()) and v.requires_grad for v in terms.values())
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in step.parameters())


def test_a_twin_has_nothing_to_teach(method: str) -> None:
    student, batch = detector(0, method).eval(), make_batch(OBJECTS, [])
    step = train_step(method, student, detector(0, method)).eval()
    if method in ADAPTED:
        change_nothing(step.distiller)
    alone = student.loss(student(batch.images), batch)
    terms = step(batch)
    for name, value in terms.items():
        left = LEFT_BY_A_TWIN.get(method, {}).get(name)
        if name in alone:
            assert float(value.detach()) == float(alone[name].detach())
        elif method in GENERATIVE:
            assert float(value.detach()) > 0
        else:
            assert 0 <= float(value.detach()) <= TWINS.get(method, 0) or left


def test_the_student_looks_like_a_plain_one(method: str) -> None:
    plain, student = detector(0, method), detector(0, method)
    step = train_step(method, student, detector(1, method))
    assert list(step.student.state_dict()) == list(plain.state_dict())
    own = {k.removeprefix("distiller.") for k in step.state_dict() if k.startswith("distiller.")}
    assert set(step.state_dict()) == {f"student.{k}" for k in plain.state_dict()} | {f"distiller.{k}" for k in own}


def test_the_teacher_is_left_alone(method: str) -> None:
    teacher = detector(1, method)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    step, batch = train_step(method, detector(0, method), teacher), make_batch(OBJECTS, OBJECTS[:1])
    optimizer = torch.optim.AdamW(step.parameters(), lr=1e-2)
    for _ in range(2):
        step.train()
        optimizer.zero_grad()
        torch.stack(list(step(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())


def test_zero_weights_keep_the_terms(method: str) -> None:
    """Parallel training needs every term in every step."""
    recipe = make_recipe({**TINY, **METHODS[method]}, "test")
    assert isinstance(recipe, DistillRecipe)
    fields = recipe.weight_fields()
    step = train_step(method, detector(0, method), detector(1, method), **dict.fromkeys(fields.values(), 0.0)).train()
    terms = step(make_batch(OBJECTS))
    assert {k: float(v.detach()) for k, v in terms.items() if k.startswith("kd_")} == dict.fromkeys(fields, 0.0)
    assert all(v.requires_grad for v in terms.values())


@pytest.mark.parametrize("method", ON_ANCHORS)
def test_another_grid_is_refused(method: str) -> None:
    four = detector(1, method, [*CLASSES, "car"])
    with pytest.raises(UsageError, match=r"student \[\(1, 9, 3, 8, 8\).*teacher \[\(1, 9, 4, 8, 8\)"):
        train_step(method, detector(0, method), four)(make_batch(OBJECTS))


@pytest.mark.parametrize("method", ASSIGNING)
def test_the_assignment_is_made_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, calls = detector(0, method), 0
    step, assigner = train_step(method, student, detector(1, method)), student.assigner

    def counting(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return assigner(*args)

    monkeypatch.setattr(student, "assigner", counting)
    step(make_batch(OBJECTS))
    assert calls == 1


def test_a_missing_teacher_is_named(method: str) -> None:
    recipe = make_recipe({**TINY, **METHODS[method]}, "test")
    with pytest.raises(UsageError, match="no teacher"):
        build_train_step(recipe, detector(0, method), None)


def test_without_a_method_there_is_only_the_student() -> None:
    step = build_train_step(make_recipe(TINY, "test"), detector(0, "pkd"), None)
    assert step.distiller is None
    assert set(step(make_batch(OBJECTS))) == {"cls", "box"}
