from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.faults.tiny import recipe, tiles
from torch import Tensor

from fledge.build import build_detector, build_train_step
from fledge.engine.balance import gradient_ratios, out_of_balance, raw_terms
from fledge.engine.metric_log import read_metrics
from fledge.engine.train_step import TrainStep
from fledge.errors import DataError, UsageError
from fledge.models.weights import inherit_head
from fledge.recipe import load_recipe
from fledge.runs import load_detector, load_teacher, open_split
from fledge.training import distill, train, training_batches
from fledge.types import Batch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiles(tmp_path_factory.mktemp("balance") / "data")


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe(data, epochs=1, ema_decay=0.0), tmp_path_factory.mktemp("balance") / "teacher")


def step_and_batches(data: Path, teacher: Path, **settings: object) -> tuple[TrainStep, list[Batch]]:
    student = recipe(data, method="kd_rnet", teacher=str(teacher), **settings)
    dataset = open_split(student, data, "train")
    detector = build_detector(student, dataset.classes)
    step = build_train_step(student, detector, load_teacher(student, dataset.classes)).train()
    return step, list(training_batches(student, dataset, 0, 3))


def by_hand(step: TrainStep, batch: Batch, term: str) -> tuple[float, float]:
    """Norms of the gradients of a term and of the task by the neck's maps, from a backward pass for each."""
    norms = []
    for task in (False, True):
        outputs = step.student(batch.images)
        maps = [x for name, x in outputs.features.items() if name.startswith("p")]
        for x in maps:
            x.retain_grad()
        own: dict[str, Tensor] = step.student.loss(outputs, batch)  # type: ignore[operator]
        torch.autograd.backward(torch.stack(list(own.values())).sum() if task else step.lessons(outputs, batch)[term])
        norms.append(math.sqrt(sum(float(x.grad.double().square().sum()) for x in maps if x.grad is not None)))
    return norms[0], norms[1]


def test_ratios_by_separate_backward_passes(data: Path, teacher: Path) -> None:
    step, batches = step_and_batches(data, teacher, kd_cls_weight=2.0)
    ratios = gradient_ratios(step, batches)
    for term in ("kd_cls", "kd_box"):
        pairs = [by_hand(step, batch, term) for batch in batches]
        assert ratios[term] == pytest.approx(sum(p[0] for p in pairs) / sum(p[1] for p in pairs), rel=1e-4)


def test_measuring_changes_nothing(data: Path, teacher: Path) -> None:
    step, batches = step_and_batches(data, teacher)
    before = {name: value.clone() for name, value in step.state_dict().items()}
    gradient_ratios(step, batches)
    assert all(torch.equal(value, before[name]) for name, value in step.state_dict().items())
    assert all(p.grad is None for p in step.parameters())


def test_a_term_that_outweighs_the_task_is_named() -> None:
    assert out_of_balance({"a": 0.02, "b": 5.0}) == []
    low, high = out_of_balance({"a": 0.01, "b": 6.0})
    assert "a is 0.01 times the task's, outside 0.02 to 5: raise its weight" in low
    assert "lower its weight" in high
    assert out_of_balance({"a": math.nan, "b": math.inf}) != []


def test_raw_values_are_before_the_weights(data: Path, teacher: Path) -> None:
    step, batches = step_and_batches(data, teacher, kd_cls_weight=0.5, kd_box_weight=0.0)
    assert raw_terms(step, {"kd_cls": 2.0, "kd_box": 0.0, "cls": 1.0}) == {"raw/kd_cls": 4.0}
    assert gradient_ratios(step, batches).keys() == {"kd_cls"}  # no warning of a term that was switched off


def test_they_are_logged(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = distill(recipe(data, method="kd_rnet", teacher=str(teacher), balance_every=4), tmp_path / "run")
    rows = read_metrics(run / "metrics.csv")
    assert {step for step, name, _ in rows if name == "ratio/kd_cls"} == {1, 5}
    assert any(name == "raw/kd_box" for _, name, _ in rows)


def test_a_weight_from_the_ratio(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = distill(recipe(data, method="kd_rnet", teacher=str(teacher), kd_cls_weight="auto:0.3"), tmp_path / "run")
    weight = load_recipe(run / "recipe.toml").model_dump()["kd_cls_weight"]
    step, _ = step_and_batches(data, teacher, kd_cls_weight=weight)
    dataset = open_split(recipe(data), data, "train")
    batches = list(training_batches(recipe(data), dataset, 0, 8))
    assert gradient_ratios(step, batches)["kd_cls"] == pytest.approx(0.3, rel=0.01)
    again = distill(recipe(data, method="kd_rnet", teacher=str(teacher), kd_cls_weight="auto:0.3"), run)
    assert again == run  # the number is the same, so the finished run is recognised


@pytest.mark.parametrize("weight", ["auto", "auto:", "auto:-1", "0.3", "auto:x"])
def test_weights_that_are_none(data: Path, weight: str) -> None:
    with pytest.raises(UsageError, match="kd_cls_weight"):
        recipe(data, method="kd_rnet", kd_cls_weight=weight)


def test_a_term_without_a_gradient_gets_no_weight(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fledge.training.gradient_ratios", lambda *_: {"kd_cls": 0.0, "kd_box": 1.0})
    with pytest.raises(UsageError, match=r"the gradient of kd_cls is 0\.0 times the task's: set a number"):
        distill(recipe(data, method="kd_rnet", teacher=str(teacher), kd_cls_weight="auto:0.3"), tmp_path / "run")


def outputs_of(step: TrainStep, batch: Batch) -> dict[str, Tensor]:
    return step.lessons(step.student(batch.images), batch)


def test_the_teacher_sees_another_image(data: Path, teacher: Path) -> None:
    paired, batches = step_and_batches(data, teacher)
    shuffled, _ = step_and_batches(data, teacher, teacher_control="shuffled")
    batch = batches[0]
    other = Batch(batch.images.roll(1, 0), batch.sizes, batch.targets)
    seen = paired._teacher(other.images)  # type: ignore[misc]
    student = paired.student(batch.images)
    expected = paired.distiller(student, seen, batch)  # type: ignore[misc]
    got = shuffled.lessons(student, batch)
    assert {k: v.item() for k, v in got.items()} == pytest.approx({k: v.item() for k, v in expected.items()})
    assert outputs_of(paired, batch)["kd_cls"] != got["kd_cls"]
    with pytest.raises(UsageError, match="batch of one image"):
        shuffled.lessons(student, Batch(batch.images[:1], batch.sizes[:1], batch.targets[:1]))


def test_a_distiller_looks_at_the_images_that_the_teacher_sees(data: Path, teacher: Path) -> None:
    """So that what it makes of them tells as little about the student's as the teacher does."""
    for control, rolled in (("", 0), ("shuffled", 1)):
        step, batches = step_and_batches(data, teacher, teacher_control=control)
        batch = batches[0]
        seen: list[Batch] = []
        step.distiller.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[2]))  # type: ignore[union-attr]
        outputs_of(step, batch)
        assert torch.equal(seen[0].images, batch.images.roll(rolled, 0))
        assert torch.equal(seen[0].sizes, batch.sizes.roll(rolled, 0))
        assert seen[0].targets is batch.targets


def test_a_random_teacher_was_never_trained(data: Path, teacher: Path) -> None:
    step, batches = step_and_batches(data, teacher, teacher_control="random")
    control = step._teacher
    _, theirs, meta = load_detector(teacher)
    student = recipe(data, method="kd_rnet", teacher=str(teacher))
    trained, start = load_teacher(student, meta["classes"]), build_detector(theirs, meta["classes"])
    assert control is not None
    assert trained is not None
    # Neither what the teacher became, nor what it began with, nor the student: no matrix of weights is the same.
    matrices = {name: p for name, p in control.named_parameters() if p.ndim > 1}
    for other in (trained, start, build_detector(student, meta["classes"])):
        weights = dict(other.named_parameters())
        assert not [name for name, p in matrices.items() if torch.equal(p, weights[name])]
    # No step has left a trace: means and variances are those of a new network, which the trained one's are not.
    new, seen = dict(start.named_buffers()), dict(trained.named_buffers())
    assert all(torch.equal(value, new[name]) for name, value in control.named_buffers())
    assert not all(torch.equal(value, new[name]) for name, value in seen.items())
    outputs = step.student(batches[0].images)
    taught: dict[str, Tensor] = step.distiller(outputs, control(batches[0].images), batches[0])  # type: ignore[misc]
    got = step.lessons(outputs, batches[0])
    assert {k: v.item() for k, v in got.items()} == pytest.approx({k: v.item() for k, v in taught.items()})


def test_neck_and_head_are_inherited_and_nothing_else() -> None:
    own, source = (build_detector(recipe(Path("none"), seed=seed), ["a", "b"]) for seed in (1, 2))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    inherit_head(own, source, "x")
    given = source.state_dict()
    for name, value in own.state_dict().items():
        assert torch.equal(value, (given if name.startswith(("neck.", "head.")) else before)[name]), name
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], own.state_dict()[name])}
    assert changed == {"neck", "head"}


def test_a_head_is_inherited(data: Path, teacher: Path, tmp_path: Path) -> None:
    run = train(
        recipe(
            data, epochs=1, lr=1e-9, weight_decay=0.0, ema_decay=0.0, inherit=str(teacher), backbone="resnet18_half"
        ),
        tmp_path / "run",
    )
    own, source = (load_detector(r)[0].state_dict() for r in (run, teacher))
    assert [k for k in own if k.startswith("backbone.") and own[k].shape != source[k].shape]
    fitting = [k for k in own if k.startswith(("neck.", "head.")) and own[k].shape == source[k].shape]
    assert {k.partition(".")[0] for k in fitting} == {"neck", "head"}
    # A layer that does not fit is the student's own as a whole, its biases as well.
    misfits = {k.rpartition(".")[0] for k in own if k in source and own[k].shape != source[k].shape}
    fitting = [k for k in fitting if k.rpartition(".")[0] not in misfits]
    assert all(torch.allclose(own[k], source[k], atol=1e-5) for k in fitting)
    other = recipe(data, epochs=1, neck_channels=16, inherit=str(teacher))
    with pytest.raises(DataError, match="nothing to inherit"):
        inherit_head(build_detector(other, ["a"]), build_detector(recipe(data), ["a"]), "x")


def test_a_weight_that_rises_from_zero_counts_in_full(data: Path, teacher: Path) -> None:
    """At the start of a ramp the term itself is 0, which says nothing about its weight."""
    settings = {"method": "frs", "teacher": str(teacher)}
    ratios = []
    for steps in (0, 500):
        student = recipe(data, **settings, frs_ramp_steps=steps)
        dataset = open_split(student, data, "train")
        step = build_train_step(
            student, build_detector(student, dataset.classes), load_teacher(student, dataset.classes)
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for parameter in step.distiller.parameters():  # type: ignore[union-attr]
                torch.nn.init.normal_(parameter, std=0.1)
        step.train()
        ratios.append(gradient_ratios(step, [next(iter(training_batches(student, dataset, 0, 1)))]))
        assert step.distiller is not None
        assert step.distiller.training
    assert ratios[0] == ratios[1]
    assert ratios[0]["kd_feat"] > 0
