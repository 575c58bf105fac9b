from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fledge.assign.max_iou import Assignment
from fledge.build import build_detector, build_train_step
from fledge.distill.kd_rnet import Direction, KDRNet, Probability, box_difference, class_divergence
from fledge.engine.train_step import TrainStep
from fledge.errors import UsageError
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs, Targets

PROBABILITIES: tuple[Probability, ...] = ("softmax", "sigmoid")
DIRECTIONS: tuple[Direction, ...] = ("student_teacher", "teacher_student")
STUDENT, TEACHER = torch.tensor([[0.7, 0.2, 0.1]]).double(), torch.tensor([[0.5, 0.3, 0.2]]).double()


def random_logits(seed: int, rows: int = 12, classes: int = 4, size: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def slow_divergence(s: list[float], t: list[float], temperature: float, probability: str) -> float:
    """KL(s || t) of one anchor from the definition."""
    if probability == "softmax":
        ps, pt = ([math.exp(z / temperature) for z in row] for row in (s, t))
        pairs = [(p / sum(ps), q / sum(pt)) for p, q in zip(ps, pt, strict=True)]
    else:
        ps, pt = ([1 / (1 + math.exp(-z / temperature)) for z in row] for row in (s, t))
        pairs = [pair for p, q in zip(ps, pt, strict=True) for pair in ((p, q), (1 - p, 1 - q))]
    return sum(p * math.log(p / q) for p, q in pairs)


class TestClassDivergence:
    @pytest.mark.parametrize(
        ("direction", "expected"), [("student_teacher", 0.0851228258), ("teacher_student", 0.0920328502)]
    )
    def test_the_two_directions(self, direction: Direction, expected: float) -> None:
        value = class_divergence(STUDENT.log(), TEACHER.log(), 1.0, "softmax", direction)
        assert value.item() == pytest.approx(expected, abs=1e-9)

    def test_hinton_on_known_logits(self) -> None:
        s, t = torch.tensor([[2, 1, 0], [0, 0.5, -0.5]]).double(), torch.tensor([[1, 2, 0.5], [0.3, 0.1, -1]]).double()
        for temperature, expected in ((1.0, 0.2374314953), (4.0, 0.2239185522 / 16)):
            value = class_divergence(s, t, temperature, "softmax", "teacher_student").mean()
            assert value.item() == pytest.approx(expected, abs=1e-9)

    def test_defaults_are_the_printed_ones(self) -> None:
        s, t = random_logits(0), random_logits(1)
        assert torch.equal(class_divergence(s, t), class_divergence(s, t, 8.0, "softmax", "student_teacher"))

    @pytest.mark.parametrize("temperature", [1.0, 8.0])
    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_matches_the_definition(self, probability: Probability, direction: Direction, temperature: float) -> None:
        s, t = random_logits(2), random_logits(3)
        first, second = (s, t) if direction == "student_teacher" else (t, s)
        expected = [
            slow_divergence(a, b, temperature, probability)
            for a, b in zip(first.tolist(), second.tolist(), strict=True)
        ]
        value = class_divergence(s, t, temperature, probability, direction)
        torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_zero_for_equals_and_never_below(self, probability: Probability, direction: Direction) -> None:
        logits = random_logits(4).float()
        assert bool((class_divergence(logits, logits, 8.0, probability, direction) == 0).all())
        near = logits + 1e-3 * random_logits(5).float()
        assert bool((class_divergence(logits, near, 1.0, probability, direction) > -1e-6).all())

    @given(st.floats(-20, 20), st.floats(-20, 20))
    def test_only_the_softmax_form_is_blind_to_shifts(self, shift: float, other: float) -> None:
        s, t = random_logits(6), random_logits(7)
        moved = class_divergence(s + shift, t + other)
        torch.testing.assert_close(moved, class_divergence(s, t), rtol=1e-6, atol=1e-9)
        if abs(shift) > 1e-3:
            assert bool((class_divergence(s + shift, s, probability="sigmoid") > 1e-12).all())

    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_permuting_classes_changes_nothing(self, probability: Probability) -> None:
        s, t, order = random_logits(8), random_logits(9), torch.tensor([3, 1, 0, 2])
        expected = class_divergence(s, t, probability=probability)
        torch.testing.assert_close(class_divergence(s[:, order], t[:, order], probability=probability), expected)
        assert not torch.allclose(class_divergence(s[:, order], t, probability=probability), expected)

    def test_one_class(self) -> None:
        s, t = random_logits(0, classes=1), random_logits(1, classes=1)
        assert bool((class_divergence(s, t) == 0).all())
        assert bool((class_divergence(s, t, probability="sigmoid") > 0).all())

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_gradient(self, probability: Probability, direction: Direction, seed: int) -> None:
        s, t = random_logits(seed, 4).requires_grad_(), random_logits(seed + 20, 4)
        assert torch.autograd.gradcheck(lambda x: class_divergence(x, t, 2.0, probability, direction), s)

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_extreme_logits_stay_finite(self, probability: Probability, direction: Direction) -> None:
        s = torch.tensor([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [0, 0, 0]], requires_grad=True)
        t = torch.tensor([[-1e4, 1e4, 0], [1e4, 1e4, 1e4], [1e4, 0, -1e4]])
        value = class_divergence(s, t, 1.0, probability, direction)
        (gradient,) = torch.autograd.grad(value.sum(), s)
        assert bool(value.isfinite().all())
        assert bool(gradient.isfinite().all())

    def test_no_anchors(self) -> None:
        for probability in PROBABILITIES:
            assert class_divergence(torch.zeros(0, 3), torch.zeros(0, 3), 8.0, probability).shape == (0,)


class TestBoxDifference:
    @pytest.mark.parametrize(("difference", "expected"), [(0.05, 0.00125), (0.5, 0.125), (2.0, 1.5)])
    @pytest.mark.parametrize("column", range(4))
    def test_known_values(self, column: int, difference: float, expected: float) -> None:
        student, teacher = torch.zeros(1, 5).double(), torch.zeros(1, 5).double()
        student[0, column] = difference
        assert box_difference(student, teacher, 1.0).item() == pytest.approx(expected, abs=1e-12)
        assert box_difference(teacher, student, 1.0).item() == pytest.approx(expected, abs=1e-12)
        quadratic = 0.5 * (difference / 10) ** 2
        assert box_difference(student, teacher).item() == pytest.approx(quadratic, abs=1e-12)

    @pytest.mark.parametrize(
        ("student", "teacher", "wrapped"),
        [
            (-math.pi, math.pi, 0.0),
            (math.pi, 0.0, 0.0),
            (1.5, -1.5, 3.0 - math.pi),
            (0.3, 0.1, 0.2),
            (0.1, 0.3, -0.2),
            (7.0, 0.0, 7.0 - 2 * math.pi),
            (math.pi / 2, 0.0, math.pi / 2),
        ],
    )
    @pytest.mark.parametrize("temperature", [1.0, 10.0])
    def test_angles_are_wrapped(self, student: float, teacher: float, wrapped: float, temperature: float) -> None:
        rows = torch.tensor([[0, 0, 0, 0, student], [0, 0, 0, 0, teacher]], dtype=torch.float64)
        value = box_difference(rows[:1], rows[1:], temperature).item()
        x = abs(wrapped) / temperature
        assert value == pytest.approx(0.5 * x**2 if x < 1 else x - 0.5, abs=1e-9)

    def test_only_the_angle_is_wrapped(self) -> None:
        student = torch.tensor([[math.pi, 0, 0, 0, 0]])
        assert box_difference(student, torch.zeros(1, 5), 1.0).item() == pytest.approx(math.pi - 0.5)

    def test_sum_over_the_deltas(self) -> None:
        student = torch.tensor([[0.05, 0.5, 2.0, -2.0, 0.5], [0, 0, 0, 0, 0]], dtype=torch.float64)
        value = box_difference(student, torch.zeros_like(student), 1.0)
        torch.testing.assert_close(value, torch.tensor([0.00125 + 0.125 + 3 + 0.125, 0], dtype=torch.float64))

    @pytest.mark.parametrize("seed", range(3))
    def test_gradient(self, seed: int) -> None:
        s, t = random_logits(seed, 6, 5).requires_grad_(), random_logits(seed + 20, 6, 5)
        assert torch.autograd.gradcheck(lambda x: box_difference(x, t, 2.0), s)

    def test_a_wrapped_angle_is_pulled_the_short_way(self) -> None:
        student = torch.tensor([[0, 0, 0, 0, 1.5]], requires_grad=True)
        (gradient,) = torch.autograd.grad(
            box_difference(student, torch.tensor([[0, 0, 0, 0, -1.5]]), 1.0).sum(), student
        )
        assert gradient[0, 4] < 0  # downhill is up, past pi/2 to the teacher's direction


SHAPES = ((2, 2), (1, 1))


def outputs(seed: int, images: int = 2, classes: int = 3, anchors: int = 2, grad: bool = False) -> Outputs:
    generator = torch.Generator().manual_seed(seed)

    def maps(depth: int) -> tuple[Tensor, ...]:
        return tuple(torch.randn(images, anchors, depth, *s, generator=generator).requires_grad_(grad) for s in SHAPES)

    return Outputs(maps(classes), maps(5), {})


def fixed(labels: list[list[int]]) -> Callable[[Outputs, Batch], Assignment]:
    """An assignment by hand; -1 background, -2 ignored."""
    table = torch.tensor(labels)
    assignment = Assignment(table, table >= 0, table != -2, torch.zeros(int((table >= 0).sum()), 5))
    return lambda *_: assignment


BATCH = Batch(torch.zeros(2, 3, 8, 8), torch.full((2, 2), 8), (Targets.empty(), Targets.empty()))
# Anchors in order: level 0 cells (0,0), (0,1), (1,0), (1,1), level 1 cell (0,0); two anchors each.
LABELS = [[-1, -2, -1, -1, -1, 2, -1, -1, -1, -1], [-1] * 8 + [-2, 0]]


def at(maps: tuple[Tensor, ...], image: int, index: int) -> Tensor:
    """The values of one anchor, looked up cell by cell."""
    cell, anchor = divmod(index, 2)
    level, row, column = (0, *divmod(cell, 2)) if cell < 4 else (1, 0, 0)
    return maps[level][image, anchor, :, row, column]


class TestKDRNet:
    @pytest.mark.parametrize("probability", PROBABILITIES)
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_terms_by_hand(self, probability: Probability, direction: Direction) -> None:
        student, teacher = outputs(0), outputs(1)
        options = {"probability": probability, "direction": direction}
        distiller = KDRNet(fixed(LABELS), 3, 0.5, 2.0, 4.0, 5.0, **options)  # type: ignore[arg-type]
        cls, box = 0.0, 0.0
        for b, row in enumerate(LABELS):
            for i, label in enumerate(row):
                s, t = at(student.logits, b, i).tolist(), at(teacher.logits, b, i).tolist()
                first, second = (s, t) if direction == "student_teacher" else (t, s)
                cls += 0 if label == -2 else slow_divergence(first, second, 4.0, probability)
                if label >= 0:
                    box += float(box_difference(at(student.codes, b, i)[None], at(teacher.codes, b, i)[None], 5.0))
        terms = distiller(student, teacher, BATCH)
        assert list(terms) == ["kd_cls", "kd_box"]
        assert float(terms["kd_cls"]) == pytest.approx(0.5 * cls / 2, rel=1e-4)
        assert float(terms["kd_box"]) == pytest.approx(2.0 * box / 2, rel=1e-4)

    def test_squared_temperature_on_known_logits(self) -> None:
        """Hinton's form with T = 4: the mean over two anchors is 0.2239185522 with the factor of 16."""
        logits = torch.tensor([[[2.0, 1, 0], [0, 0.5, -0.5]], [[1, 2, 0.5], [0.3, 0.1, -1]]], dtype=torch.float64)
        student, teacher = (Outputs((x.T.reshape(1, 1, 3, 1, 2),), (torch.zeros(1, 1, 5, 1, 2),), {}) for x in logits)
        for squared, expected in ((False, 0.2239185522 / 16), (True, 0.2239185522)):
            distiller = KDRNet(
                fixed([[0, 1]]), 3, temperature=4, direction="teacher_student", squared_temperature=squared
            )
            assert distiller(student, teacher, BATCH)["kd_cls"].item() == pytest.approx(expected, abs=1e-9)

    def test_squared_temperature_leaves_the_box_term_alone(self) -> None:
        plain, squared = (
            KDRNet(fixed(LABELS), 3, squared_temperature=on)(outputs(0), outputs(1), BATCH) for on in (False, True)
        )
        assert float(squared["kd_cls"]) == pytest.approx(64 * float(plain["kd_cls"]), rel=1e-6)
        assert torch.equal(squared["kd_box"], plain["kd_box"])

    def test_classes_on_positive_anchors_only(self) -> None:
        student, teacher = outputs(0, grad=True), outputs(1)
        terms = KDRNet(fixed(LABELS), 3, anchors="positive")(student, teacher, BATCH)
        positives = [(b, i) for b, row in enumerate(LABELS) for i, label in enumerate(row) if label >= 0]
        pairs = [[at(o.logits, b, i).tolist() for o in (student, teacher)] for b, i in positives]
        expected = sum(slow_divergence(s, t, 8.0, "softmax") for s, t in pairs) / len(positives)
        assert float(terms["kd_cls"].detach()) == pytest.approx(expected, rel=1e-4)
        terms["kd_cls"].backward()
        for b, row in enumerate(LABELS):
            for i, label in enumerate(row):
                gradient = tuple(x.grad for x in student.logits)
                assert bool(at(gradient, b, i).any()) == (label >= 0)  # type: ignore[arg-type]

    def test_temperature_one_leaves_the_box_deltas_as_they_are(self) -> None:
        student, teacher = outputs(0), outputs(1)
        terms = KDRNet(fixed(LABELS), 3, box_temperature=1.0)(student, teacher, BATCH)
        expected = 0.0
        for b, i in ((0, 5), (1, 9)):
            for k, (s, t) in enumerate(zip(at(student.codes, b, i), at(teacher.codes, b, i), strict=True)):
                gap = abs(float(s - t))
                gap = min(gap % math.pi, math.pi - gap % math.pi) if k == 4 else gap
                expected += 0.5 * gap**2 if gap <= 1 else gap - 0.5
        assert float(terms["kd_box"]) == pytest.approx(expected / 2, rel=1e-5)

    @pytest.mark.parametrize("probability", PROBABILITIES)
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_identity_is_exactly_zero(self, probability: Probability, direction: Direction) -> None:
        same = outputs(3)
        terms = KDRNet(fixed(LABELS), 3, probability=probability, direction=direction)(same, same, BATCH)
        assert [float(v) for v in terms.values()] == [0, 0]

    def test_gradient_goes_where_it_should(self) -> None:
        student, teacher = outputs(0, grad=True), outputs(1, grad=True)
        lesson = Outputs(tuple(x.detach() for x in teacher.logits), tuple(x.detach() for x in teacher.codes), {})
        torch.stack(list(KDRNet(fixed(LABELS), 3)(student, lesson, BATCH).values())).sum().backward()  # type: ignore[no-untyped-call]
        for b, row in enumerate(LABELS):
            for i, label in enumerate(row):
                gradients = tuple(x.grad for x in student.logits), tuple(x.grad for x in student.codes)
                assert bool(at(gradients[0], b, i).any()) == (label != -2)  # type: ignore[arg-type]
                assert bool(at(gradients[1], b, i).any()) == (label >= 0)  # type: ignore[arg-type]

    def test_without_positives_there_is_a_zero_with_a_gradient(self) -> None:
        student, nothing = outputs(0, grad=True), [[-1] * 10] * 2
        terms = KDRNet(fixed(nothing), 3)(student, outputs(1), BATCH)
        assert float(terms["kd_box"].detach()) == 0
        assert float(terms["kd_cls"].detach()) > 0
        ignored = KDRNet(fixed([[-2] * 10] * 2), 3)(student, outputs(1), BATCH)
        assert [float(v.detach()) for v in ignored.values()] == [0, 0]
        for term in (*terms.values(), *ignored.values()):
            assert term.requires_grad
            term.backward()
        assert all(bool(x.grad.isfinite().all()) for x in student.logits if x.grad is not None)

    def test_batch_law(self) -> None:
        """Twice the images, with twice the positives, is the same loss; permuted images as well."""
        distiller, student, teacher = KDRNet(fixed(LABELS), 3), outputs(0), outputs(1)
        terms = distiller(student, teacher, BATCH)

        def pick(out: Outputs, order: list[int]) -> Outputs:
            return Outputs(tuple(x[order] for x in out.logits), tuple(x[order] for x in out.codes), {})

        for order in ([1, 0], [0, 1, 0, 1]):
            again = KDRNet(fixed([LABELS[i] for i in order]), 3)(pick(student, order), pick(teacher, order), BATCH)
            for name, value in terms.items():
                assert float(again[name]) == pytest.approx(float(value), rel=1e-5)

    @pytest.mark.parametrize("probability", PROBABILITIES)
    def test_a_joint_permutation_of_classes_changes_nothing(self, probability: Probability) -> None:
        student, teacher, order = outputs(0), outputs(1), [2, 0, 1]
        distiller = KDRNet(fixed(LABELS), 3, probability=probability)
        renamed = [Outputs(tuple(x[:, :, order] for x in o.logits), o.codes, {}) for o in (student, teacher)]
        expected = distiller(student, teacher, BATCH)
        for name, value in distiller(*renamed, BATCH).items():
            assert float(value) == pytest.approx(float(expected[name]), rel=1e-5)

    def test_half_precision_is_computed_in_float32(self) -> None:
        student, teacher = outputs(0), outputs(1)
        halves = [
            Outputs(tuple(x.bfloat16() for x in o.logits), tuple(x.bfloat16() for x in o.codes), {})
            for o in (student, teacher)
        ]
        exact = KDRNet(fixed(LABELS), 3)(student, teacher, BATCH)
        for name, value in KDRNet(fixed(LABELS), 3)(*halves, BATCH).items():
            assert value.dtype == torch.float32
            assert float(value) == pytest.approx(float(exact[name]), rel=0.05)

    def test_other_grids_and_classes_are_refused(self) -> None:
        distiller, student = KDRNet(fixed(LABELS), 3), outputs(0)
        for other in (outputs(1, classes=4), outputs(1, anchors=3), outputs(1, images=3)):
            with pytest.raises(UsageError, match="same levels, anchors and classes") as error:
                distiller(student, other, BATCH)
            assert str(tuple(student.logits[0].shape)) in str(error.value)
            assert str(tuple(other.logits[0].shape)) in str(error.value)
        fewer = Outputs(student.logits[:1], student.codes[:1], {})
        with pytest.raises(UsageError, match="same levels"):
            distiller(student, fewer, BATCH)

    def test_one_class_needs_the_sigmoid_form(self) -> None:
        with pytest.raises(ValueError, match="sigmoid"):
            KDRNet(fixed(LABELS), 1)
        terms = KDRNet(fixed(LABELS), 1, probability="sigmoid")(outputs(0, classes=1), outputs(1, classes=1), BATCH)
        assert float(terms["kd_cls"]) > 0

    def test_it_has_nothing_to_learn_or_save(self) -> None:
        distiller = KDRNet(fixed(LABELS), 3)
        assert list(distiller.parameters()) == []
        assert distiller.state_dict() == {}


def test_every_setting_of_a_recipe_arrives() -> None:
    settings = {
        "method": "kd_rnet",
        "backbone": "resnet18_quarter",
        "neck_channels": 8,
        "head_convs": 1,
        "kd_cls_weight": 2.0,
        "kd_box_weight": 3.0,
        "kd_temperature": 4.0,
        "kd_box_temperature": 5.0,
        "kd_probability": "sigmoid",
        "kd_direction": "teacher_student",
        "kd_squared_temperature": True,
        "kd_anchors": "positive",
    }
    recipe = make_recipe(settings, "test")
    assert set(settings) >= {name for name in type(recipe).model_fields if name.startswith("kd_")}
    student, teacher = build_detector(recipe, "abc"), build_detector(recipe, "abc")
    distiller = build_train_step(recipe, student, teacher).distiller
    assert isinstance(distiller, KDRNet)
    assert (distiller.cls_weight, distiller.box_weight) == (2, 3)
    assert (distiller.temperature, distiller.box_temperature, distiller.cls_scale) == (4, 5, 16)
    assert (distiller.probability, distiller.direction, distiller.anchors) == ("sigmoid", "teacher_student", "positive")


class Net(nn.Module):
    """The smallest thing with a teacher's dangers: weights, and a norm whose buffers move in train mode."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2 * 8, 1)

    def forward(self, images: Tensor, targets: Any = None) -> Outputs:
        x = self.body(images)
        maps = [self.head(y).unflatten(1, (2, 8)) for y in (x, x.mean((2, 3), keepdim=True))]
        return Outputs(tuple(m[:, :, :3] for m in maps), tuple(m[:, :, 3:] for m in maps), {})

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        return {"task": torch.stack([x.square().mean() for x in outputs.logits]).sum()}


def random_batch() -> Batch:
    return Batch(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5)), BATCH.sizes, BATCH.targets)


class TestTrainStep:
    def test_the_teacher_never_moves(self) -> None:
        student, teacher = Net(0), Net(1).train()
        before = {k: v.clone() for k, v in teacher.state_dict().items()}
        own = {k: v.clone() for k, v in student.state_dict().items()}
        step = TrainStep(student, teacher, KDRNet(fixed(LABELS), 3)).train()
        optimizer = torch.optim.SGD(step.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            step.train()
            optimizer.zero_grad()
            torch.stack(list(step(random_batch()).values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert student.training
        assert not any(m.training for m in teacher.modules())
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
        assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
        assert not any(torch.equal(v, own[k]) for k, v in student.state_dict().items() if "num_batches" not in k)

    def test_the_teacher_is_hidden(self) -> None:
        student, teacher = Net(0), Net(1)
        step = TrainStep(student, teacher, KDRNet(fixed(LABELS), 3))
        assert set(step.state_dict()) == {f"student.{k}" for k in student.state_dict()}
        assert [id(p) for p in step.parameters()] == [id(p) for p in student.parameters()]
        assert not any(m is teacher for m in step.modules())

    def test_the_teacher_moves_along(self) -> None:
        teacher = Net(1)
        step = TrainStep(Net(0), teacher, KDRNet(fixed(LABELS), 3)).double()
        assert {p.dtype for p in teacher.parameters()} == {torch.float64}
        step.to("meta")
        assert {p.device.type for p in teacher.parameters()} == {"meta"}

    def test_terms_are_those_of_both(self) -> None:
        student, teacher, batch = Net(0).eval(), Net(1), random_batch()
        alone = TrainStep(student)(batch)
        assert list(alone) == ["task"]
        terms = TrainStep(student, teacher, KDRNet(fixed(LABELS), 3)).eval()(batch)
        assert list(terms) == ["task", "kd_cls", "kd_box"]
        assert torch.equal(terms["task"], alone["task"])
        expected = KDRNet(fixed(LABELS), 3)(student(batch.images), teacher(batch.images), batch)
        assert all(torch.equal(terms[k], v) for k, v in expected.items())

    def test_a_copy_teaches_nothing_new(self) -> None:
        student = Net(0)
        twin = Net(0)
        terms = TrainStep(student.eval(), twin, KDRNet(fixed(LABELS), 3)).eval()(random_batch())
        assert (float(terms["kd_cls"].detach()), float(terms["kd_box"].detach())) == (0, 0)

    def test_under_autocast_the_terms_are_float32(self) -> None:
        step = TrainStep(Net(0), Net(1), KDRNet(fixed(LABELS), 3))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = step(random_batch())
        assert {terms[k].dtype for k in ("kd_cls", "kd_box")} == {torch.float32}

    def test_teacher_and_distiller_come_together(self) -> None:
        for options in ({"teacher": Net(1)}, {"distiller": KDRNet(fixed(LABELS), 3)}):
            with pytest.raises(ValueError, match="together"):
                TrainStep(Net(0), **options)
