"""How long a training step takes, and which part of it is not the model.

    python benchmarks/training.py --out runs/training_speed.json

Renders aerial scenes and times, on one thread and interleaved round by round, for two students (ResNet-18 with a
256-channel pyramid and four convolutions, as in KD-RNet, and the same backbone with 64 channels and two): preparing a
batch without workers, forward, assignment, losses, backward, optimiser and logging; then a distillation step against a
student's step and a teacher's forward. Prints medians with the 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.data.datasets import open_dataset
from fledge.data.synthetic import write_dataset
from fledge.engine.metric_log import MetricLog
from fledge.engine.optim import make_optimizer
from fledge.engine.progress import progress
from fledge.models.detectors.dense import DenseDetector
from fledge.recipe import Recipe, make_recipe
from fledge.types import Batch

STUDENTS = {
    "ResNet-18, 256 channels, 4 convolutions": {"neck_channels": 256, "head_convs": 4},
    "ResNet-18, 64 channels, 2 convolutions": {"neck_channels": 64, "head_convs": 2},
}
MODEL = ("forward", "backward", "optimiser")
OTHER = ("data", "assignment", "losses", "logging")


class Clock:
    """Seconds by name, added up within a round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    def start(self) -> None:
        """Begin a round."""
        self.rounds.append({})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        before = time.perf_counter()
        yield
        self.rounds[-1][name] = self.rounds[-1].get(name, 0.0) + time.perf_counter() - before

    def values(self, pick: Callable[[dict[str, float]], float]) -> tuple[float, float, float]:
        """Median, 10th and 90th percentile of a figure of each round."""
        found = sorted(pick(r) for r in self.rounds)
        return statistics.median(found), found[len(found) // 10], found[-1 - len(found) // 10]


class Student:
    """A detector with what trains it, on a stream of batches."""

    def __init__(self, recipe: Recipe, teacher: DenseDetector | None, folder: Path) -> None:
        self.recipe = recipe
        self.dataset = open_dataset(Path(recipe.data), "train")
        self.detector = build_detector(recipe, self.dataset.classes)
        self.step = build_train_step(recipe, self.detector, teacher).train()
        self.optimizer = make_optimizer(self.step, "sgd", recipe.lr, recipe.weight_decay, recipe.momentum)
        self.batches = iter(api.training_batches(recipe, self.dataset, 0, 10_000))
        folder.mkdir()
        self.log = MetricLog(folder)
        self.count = 0

    def round(self, clock: Clock) -> None:
        """One step as the loop takes it, part by part."""
        clock.start()
        with clock.part("data"):
            batch = next(self.batches)
        with clock.part("forward"):
            outputs = self.detector(batch.images)
        with clock.part("assignment"):
            self.detector.assign(outputs, batch)
        with clock.part("losses"):
            terms = self.detector.loss(outputs, batch)
            total = torch.stack(list(terms.values())).sum()
        self._update(total, clock)
        with clock.part("logging"):
            self.count += 1
            self.log.write(self.count, {name: float(v.detach()) for name, v in terms.items()})

    def whole(self, batch: Batch, clock: Clock, name: str) -> None:
        """Forward, losses, backward and update on a given batch, as one figure."""
        with clock.part(name):
            terms: dict[str, Tensor] = self.step(batch)
            self._update(torch.stack(list(terms.values())).sum(), None)

    def _update(self, total: Tensor, clock: Clock | None) -> None:
        clock = clock or _unread()
        with clock.part("backward"):
            torch.autograd.backward(total)
        with clock.part("optimiser"):
            torch.nn.utils.clip_grad_norm_(self.step.parameters(), self.recipe.clip_norm, error_if_nonfinite=True)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def _unread() -> Clock:
    clock = Clock()
    clock.start()
    return clock


def settings(data: Path, size: int, batch: int, **changes: Any) -> dict[str, Any]:
    """A recipe at ``size`` pixels, everything computed in this process."""
    base = {"data": str(data), "image_size": size, "overlap": 0, "batch_size": batch, "workers": 0, "lr": 1e-4}
    return {**base, "backbone": "resnet18", "device": "cpu", **changes}


def main() -> None:
    """Run all rounds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON with every round")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_dataset(root / "data", "train", 4 * options.batch, options.size, 0)
        result = measure(root, options.size, options.batch, options.rounds)
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": 1,
    }
    print(table(result))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1))


def measure(root: Path, size: int, batch: int, rounds: int) -> dict[str, Any]:
    """All rounds of both students, and of their distillation by a ResNet-50 with the same pyramid and head."""
    clocks = {name: Clock() for name in STUDENTS}
    students = {
        name: Student(make_recipe(settings(root / "data", size, batch, **changes), "benchmark"), None, root / f"log{i}")
        for i, (name, changes) in enumerate(STUDENTS.items())
    }
    pairs = {name: distillation(root, size, batch, changes, i) for i, (name, changes) in enumerate(STUDENTS.items())}
    ratios = {name: Clock() for name in STUDENTS}
    with progress("training speed", rounds + 1) as advance:
        for number in range(rounds + 1):
            for name in STUDENTS:
                students[name].round(clocks[name])
                compare(*pairs[name], ratios[name], number % 2 == 0)
            advance(number + 1, "")
    for clock in (*clocks.values(), *ratios.values()):
        del clock.rounds[0]  # allocates and warms up
    return {
        "size": size,
        "batch": batch,
        "steps": {name: clock.rounds for name, clock in clocks.items()},
        "distillation": {name: clock.rounds for name, clock in ratios.items()},
    }


def distillation(
    root: Path, size: int, batch: int, changes: dict[str, Any], number: int
) -> tuple[Student, Student, DenseDetector]:
    """A student alone, the same with a teacher, and that teacher (ResNet-50 with the student's pyramid and head)."""
    base = settings(root / "data", size, batch, **changes)
    teacher_recipe = make_recipe({**base, "backbone": "resnet50"}, "benchmark")
    dataset = open_dataset(root / "data", "train")
    teacher = build_detector(teacher_recipe, dataset.classes).eval()
    taught = make_recipe({**base, "method": "kd_rnet"}, "benchmark")
    alone = Student(make_recipe(base, "benchmark"), None, root / f"alone{number}")
    return alone, Student(taught, teacher, root / f"taught{number}"), teacher


def compare(alone: Student, taught: Student, teacher: DenseDetector, clock: Clock, first: bool) -> None:
    """Both kinds of step on one batch, in alternating order."""
    clock.start()
    batch = next(alone.batches)

    def parts() -> None:
        alone.whole(batch, clock, "student step")
        with clock.part("teacher forward"), torch.no_grad():
            teacher(batch.images)

    if first:
        parts()
    # The assignment is kept by batch: a copy has to compute it anew.
    taught.whole(Batch(batch.images, batch.sizes, batch.targets), clock, "distillation step")
    if not first:
        parts()


def table(result: dict[str, Any]) -> str:
    """What ``measure`` found, as two tables in Markdown."""
    lines = ["| Student | images/s | not the model, % | data | assignment | losses | logging | ms a step |"]
    lines.append("|---|---" + "|---" * 6 + "|")
    for name, rounds in result["steps"].items():
        clock = Clock()
        clock.rounds = rounds
        speed = clock.values(lambda r: result["batch"] / sum(r.values()))
        shares = [clock.values(lambda r, p=part: 100 * r[p] / sum(r.values())) for part in OTHER]  # type: ignore[misc]
        other = clock.values(lambda r: 100 * sum(r[p] for p in OTHER) / sum(r.values()))
        total = clock.values(lambda r: 1000 * sum(r.values()))
        cells = [_cell(speed, 2), _cell(other, 1), *(f"{s[0]:.1f}" for s in shares), _cell(total, 0)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| Student | distillation step / (student step + teacher forward) | ms |", "|---|---|---|"]
    for name, rounds in result["distillation"].items():
        clock = Clock()
        clock.rounds = rounds
        ratio = clock.values(lambda r: r["distillation step"] / (r["student step"] + r["teacher forward"]))
        lines.append(
            f"| {name} | {_cell(ratio, 3)} | {_cell(clock.values(lambda r: 1000 * r['distillation step']), 0)} |"
        )
    return "\n".join(lines)


def _cell(values: tuple[float, float, float], digits: int) -> str:
    median, low, high = values
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
