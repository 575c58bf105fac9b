"""What each distillation method adds to a training step.

    python -m benchmarks.distillation --out runs/distillation_speed.json

Renders aerial scenes and times, on one thread, a student's step, a teacher's forward and the distillation step of every
method, all on the same batches: the methods in turn, in the opposite order every other round, and with every three of
them the student and the teacher alone once more. Figures are seconds of the processor, which other processes disturb
less than those of the clock; the target is at most 1.10 times student step + teacher forward. Then the peak memory of
one step in a fresh process, and what a teacher costs whose outputs are kept in memory, or read from disk. Prints
medians with the 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.training import Clock, settings
from torch import Tensor, nn

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.data.datasets import open_dataset
from fledge.data.synthetic import write_dataset
from fledge.distillers import DISTILLERS
from fledge.engine.optim import make_optimizer
from fledge.engine.progress import progress
from fledge.engine.train_step import TrainStep
from fledge.recipe import make_recipe
from fledge.types import Batch, Outputs

STUDENT = {"neck_channels": 256, "head_convs": 4}
TEACHER = "resnet50"
GROUP = 3  # methods between two measurements of student and teacher alone
CACHED = "pkd"


class Cost(Clock):
    """Seconds of the processor by name."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        before = time.process_time()
        yield
        self.rounds[-1][name] = self.rounds[-1].get(name, 0.0) + time.process_time() - before


class Stored(nn.Module):
    """A teacher whose outputs for one batch are there already.

    Args:
        read: where they come from.
    """

    def __init__(self, read: Callable[[], Outputs]) -> None:
        super().__init__()
        self.read = read

    def forward(self, images: Tensor) -> Outputs:  # noqa: ARG002
        """The same for all images."""
        return self.read()


@dataclass(frozen=True)
class Work:
    """What is timed: ``batch`` images of ``size`` pixels, a student's settings, the teacher's backbone."""

    root: Path
    size: int
    batch: int
    student: dict[str, Any]
    teacher: str


class Bench:
    """One student and one teacher, and a training step for each method; ``none`` is the student alone."""

    def __init__(self, work: Work, methods: Sequence[str]) -> None:
        base = settings(work.root / "data", work.size, work.batch, **work.student)
        dataset = open_dataset(work.root / "data", "train")
        self.student = build_detector(make_recipe(base, "benchmark"), dataset.classes)
        self.teacher = build_detector(
            make_recipe({**base, "backbone": work.teacher}, "benchmark"), dataset.classes
        ).eval()
        self.batches = iter(api.training_batches(make_recipe(base, "benchmark"), dataset, 0, 1_000_000))
        self.steps = {name: self._step({**base, "method": name}) for name in ("none", *methods)}

    def _step(self, changes: dict[str, Any]) -> tuple[TrainStep, torch.optim.Optimizer]:
        recipe = make_recipe(changes, "benchmark")
        step = build_train_step(recipe, self.student, self.teacher).train()
        return step, make_optimizer(step, "sgd", recipe.lr, recipe.weight_decay, recipe.momentum)

    def train(self, method: str, batch: Batch) -> None:
        """One step on a batch, with an assignment of its own."""
        step, optimizer = self.steps[method]
        terms: dict[str, Tensor] = step(Batch(batch.images, batch.sizes, batch.targets))
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        torch.nn.utils.clip_grad_norm_(step.parameters(), 10.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def teach(self, batch: Batch) -> Outputs:
        """The teacher's forward."""
        outputs: Outputs = self.teacher(batch.images)
        return outputs


def compare(bench: Bench, methods: Sequence[str], costs: dict[str, Cost], turned: bool) -> None:
    """A few methods and their sum of parts on one batch, each method's round getting all three figures."""
    batch = next(bench.batches)
    alone = Cost()
    alone.start()

    def parts() -> None:
        with alone.part("student step"):
            bench.train("none", batch)
        with alone.part("teacher forward"):
            bench.teach(batch)

    if not turned:
        parts()
    for method in reversed(methods) if turned else methods:
        costs[method].start()
        with costs[method].part("distillation step"):
            bench.train(method, batch)
    if turned:
        parts()
    for method in methods:
        costs[method].rounds[-1].update(alone.rounds[-1])


def caching(bench: Bench, folder: Path, cost: Cost) -> None:
    """A step of one method with the teacher computed, kept in memory, and read from disk."""
    batch, path = next(bench.batches), folder / "outputs.pt"
    lesson = bench.teach(batch)
    needed = {name: x for name, x in lesson.features.items() if name.startswith("p")}
    kept = Outputs(lesson.logits, lesson.codes, needed)
    torch.save((kept.logits, kept.codes, kept.features), path)
    step = bench.steps[CACHED][0]
    sources = {
        "computed": bench.teacher,
        "in memory": Stored(lambda: kept),
        "from disk": Stored(lambda: Outputs(*torch.load(path))),
    }
    cost.start()
    cost.rounds[-1]["megabytes an image"] = path.stat().st_size / 1e6 / len(batch.images)
    for name, teacher in sources.items():
        object.__setattr__(step, "_teacher", teacher)
        with cost.part(name):
            bench.train(CACHED, batch)
    object.__setattr__(step, "_teacher", bench.teacher)


def peak(work: Work, method: str) -> float:
    """Megabytes that this process has held at most, after two steps of a method (Linux)."""
    torch.set_num_threads(1)
    bench = Bench(work, [method] if method != "none" else [])
    for _ in range(2):
        found = next(bench.batches)
        bench.train(method, found)
        if method == "none":
            bench.teach(found)
    # Not getrusage, whose figure a new process takes over from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(work: Work, rounds: int, methods: Sequence[str]) -> dict[str, Any]:
    """All rounds, the first of which only warms up; then the memory of each method."""
    bench = Bench(work, sorted({*methods, CACHED}))
    costs = {name: Cost() for name in methods}
    cache = Cost()
    groups = [methods[k : k + GROUP] for k in range(0, len(methods), GROUP)]
    with progress("distillation speed", rounds + 1) as advance:
        for number in range(rounds + 1):
            turned = number % 2 == 1
            for group in reversed(groups) if turned else groups:
                compare(bench, group, costs, turned)
            caching(bench, work.root, cache)
            advance(number + 1, "")
    for cost in (*costs.values(), cache):
        del cost.rounds[0]
    del bench
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        memory = {name: pool.submit(peak, work, name).result() for name in ("none", *methods)}
    return {
        "size": work.size,
        "batch": work.batch,
        "methods": {name: cost.rounds for name, cost in costs.items()},
        "memory": memory,
        "caching": cache.rounds,
    }


def table(result: dict[str, Any]) -> str:
    """What ``measure`` found, as two tables in Markdown."""
    lines = [
        "| Method | step / (student step + teacher forward) | ms added | peak MB | MB added |",
        "|---|---|---|---|---|",
    ]
    base = result["memory"]["none"]
    for name, rounds in result["methods"].items():
        cost = Cost()
        cost.rounds = rounds
        ratio = cost.values(lambda r: r["distillation step"] / (r["student step"] + r["teacher forward"]))
        added = cost.values(lambda r: 1000 * (r["distillation step"] - r["student step"] - r["teacher forward"]))
        peak_mb = result["memory"][name]
        cells = [_cell(ratio, 3), _cell(added, 0), f"{peak_mb:.0f}", f"{peak_mb - base:+.0f}"]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    cost = Cost()
    cost.rounds = [r for rounds in result["methods"].values() for r in rounds]
    for part in ("student step", "teacher forward"):
        lines.append(f"\n{part}: {_cell(cost.values(lambda r, p=part: 1000 * r[p]), 0)} ms")  # type: ignore[misc]
    cost.rounds = result["caching"]
    lines += ["", f"| Teacher of `{CACHED}` | ms a step | of the step with a computed teacher |", "|---|---|---|"]
    for name in ("computed", "in memory", "from disk"):
        ms = cost.values(lambda r, n=name: 1000 * r[n])  # type: ignore[misc]
        share = cost.values(lambda r, n=name: r[n] / r["computed"])  # type: ignore[misc]
        lines.append(f"| {name} | {_cell(ms, 0)} | {_cell(share, 3)} |")
    lines.append(f"\non disk: {cost.values(lambda r: r['megabytes an image'])[0]:.1f} MB an image")
    return "\n".join(lines)


def _cell(values: tuple[float, float, float], digits: int) -> str:
    median, low, high = values
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Run all rounds, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON with every round")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(DISTILLERS), choices=list(DISTILLERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_dataset(root / "data", "train", 4 * options.batch, options.size, 0)
        result = measure(Work(root, options.size, options.batch, STUDENT, TEACHER), options.rounds, options.methods)
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": 1,
    }
    print(table(result))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
