"""What each distillation method adds to a training step.

    python -m benchmarks.distillation --out runs/distillation_speed.json

Renders aerial scenes and times, on one thread, a student's step, a teacher's forward and the distillation step of every
method, all on the same batches: the methods in turn, in the opposite order every other round, and with every three of
them the student and the teacher alone once more. Figures are seconds of the processor, which other processes disturb
less than those of the clock; the target is at most 1.10 times student step + teacher forward. LD is compared with a
student and a teacher that have its heads. IFKD comes with edges and with MobileSAM, each computed and found in a cache;
MobileSAM's weights are random, which takes as long. Then the peak memory of one step in a fresh process, and what a
teacher costs whose outputs are kept in memory, or read from disk. Prints medians with the 10th and 90th percentile.
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
from fledge.build import DETECTORS, build_detector, build_train_step
from fledge.data.datasets import open_dataset
from fledge.data.synthetic import write_dataset
from fledge.distillers import DISTILLERS
from fledge.engine.optim import make_optimizer
from fledge.engine.progress import progress
from fledge.engine.train_step import TrainStep
from fledge.models.detectors.dense import DenseDetector
from fledge.models.sam.checkpoints import official_names
from fledge.models.sam.sam import Sam
from fledge.models.sam.tiny_vit import TinyViT
from fledge.recipe import for_classes, make_recipe
from fledge.types import Batch, Outputs

STUDENT = {"neck_channels": 256, "head_convs": 4}
TEACHER = "resnet50"
GROUP = 3  # methods between two measurements of student and teacher alone
CACHED = "pkd"
MOBILE_SAM, EMBEDDINGS = "mobile_sam.pt", "embeddings"  # in the folder of the data
_IFKD: dict[str, Any] = {"method": "ifkd", "ifkd_disturbance": "edges"}
_MOBILE_SAM = {**_IFKD, "ifkd_disturbance": "mobilesam", "ifkd_embedder_weights": MOBILE_SAM}
_CACHED = {"ifkd_embedding_cache": EMBEDDINGS}
# A row's name -> the settings of its recipe.
ROWS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in DISTILLERS if name != "ifkd"},
    "ifkd_edges": _IFKD,
    "ifkd_edges_cached": {**_IFKD, **_CACHED},
    "ifkd_mobilesam": _MOBILE_SAM,
    "ifkd_mobilesam_cached": {**_MOBILE_SAM, **_CACHED},
    "ld": {"method": "ld", "box_bins": 17},
}
ONE_STAGE = {"crosskd", "ld"}  # read inside RetinaNet's head


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
    """A student and a teacher for each kind of head, and a training step for each method."""

    def __init__(self, work: Work, methods: Sequence[str]) -> None:
        self.work = work
        self.base = settings(work.root / "data", work.size, work.batch, **work.student)
        dataset = open_dataset(work.root / "data", "train")
        self.classes = dataset.classes
        self.batches = iter(api.training_batches(make_recipe(self.base, "benchmark"), dataset, 0, 1_000_000))
        self.pairs: dict[int, tuple[DenseDetector, DenseDetector]] = {}
        self.alone: dict[int, tuple[TrainStep, torch.optim.Optimizer]] = {}
        for bins in sorted({0, *map(bins_of, methods)}):
            base = {**self.base, "box_bins": bins}
            student, teacher = (
                build_detector(make_recipe({**base, **changes}, "benchmark"), self.classes)
                for changes in ({}, {"backbone": work.teacher})
            )
            self.pairs[bins] = student, teacher.eval()
            self.alone[bins] = self._step({"method": "none", "box_bins": bins})
        self.steps = {name: self._step(ROWS[name]) for name in methods}

    def _step(self, changes: dict[str, Any]) -> tuple[TrainStep, torch.optim.Optimizer]:
        here = {k: str(self.work.root / v) for k, v in changes.items() if v in (MOBILE_SAM, EMBEDDINGS)}
        recipe = for_classes(make_recipe({**self.base, **changes, **here}, "benchmark"), len(self.classes))
        step = build_train_step(recipe, *self.pairs[recipe.box_bins]).train()
        return step, make_optimizer(step, "sgd", recipe.lr, recipe.weight_decay, recipe.momentum)

    def learn_alone(self, batch: Batch, bins: int = 0) -> None:
        """One step of the student without a teacher."""
        _train(*self.alone[bins], batch)

    def train(self, method: str, batch: Batch) -> None:
        """One step on a batch, with an assignment of its own."""
        _train(*self.steps[method], batch)

    @torch.no_grad()
    def teach(self, batch: Batch, bins: int = 0) -> Outputs:
        """The teacher's forward, of a two-stage one that of its first stage."""
        return self.pairs[bins][1].dense(batch.images)

    def embed(self, method: str, batch: Batch) -> None:
        """Put the embeddings of a batch into the cache of a method that has one."""
        if "ifkd_embedding_cache" in ROWS[method]:
            self.steps[method][0].distiller.parts.disturbance(batch)  # type: ignore[union-attr, operator]


def bins_of(method: str) -> int:
    """The ``box_bins`` of the heads that a method needs."""
    return int(ROWS[method].get("box_bins", 0))


def _train(step: TrainStep, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    terms: dict[str, Tensor] = step(Batch(batch.images, batch.sizes, batch.targets))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    torch.nn.utils.clip_grad_norm_(step.parameters(), 10.0, error_if_nonfinite=True)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def write_random_mobile_sam(path: Path) -> None:
    """A file like MobileSAM's own, with fresh weights."""
    sam = Sam(TinyViT())
    names = official_names(sam)
    torch.save({names[key]: value for key, value in sam.state_dict().items()}, path)


def compare(bench: Bench, methods: Sequence[str], costs: dict[str, Cost], turned: bool) -> None:
    """A few methods with like heads and their parts on one batch; each method's round gets all three figures."""
    batch = next(bench.batches)
    bins = bins_of(methods[0])
    alone = Cost()
    alone.start()

    def parts() -> None:
        with alone.part("student step"):
            bench.learn_alone(batch, bins)
        with alone.part("teacher forward"):
            bench.teach(batch, bins)

    if not turned:
        parts()
    for method in reversed(methods) if turned else methods:
        bench.embed(method, batch)
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
    teacher = bench.pairs[0][1]
    sources: dict[str, nn.Module] = {
        "computed": teacher,
        "in memory": Stored(lambda: kept),
        "from disk": Stored(lambda: Outputs(*torch.load(path))),
    }
    cost.start()
    cost.rounds[-1]["megabytes an image"] = path.stat().st_size / 1e6 / len(batch.images)
    for name, source in sources.items():
        object.__setattr__(step, "_teacher", source)
        with cost.part(name):
            bench.train(CACHED, batch)
    object.__setattr__(step, "_teacher", teacher)


def peak(work: Work, method: str) -> float:
    """Megabytes that this process has held at most, after two steps of a method (Linux)."""
    torch.set_num_threads(1)
    bench = Bench(work, [method] if method != "none" else [])
    for _ in range(2):
        found = next(bench.batches)
        if method != "none":
            bench.train(method, found)
        else:
            bench.learn_alone(found)
            bench.teach(found)
    # Not getrusage, whose figure a new process takes over from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(work: Work, rounds: int, methods: Sequence[str]) -> dict[str, Any]:
    """All rounds, the first of which only warms up; then the memory of each method."""
    write_random_mobile_sam(work.root / MOBILE_SAM)
    bench = Bench(work, sorted({*methods, CACHED}))
    costs = {name: Cost() for name in methods}
    cache = Cost()
    by_head = [[name for name in methods if bins_of(name) == bins] for bins in bench.pairs]
    groups = [names[k : k + GROUP] for names in by_head for k in range(0, len(names), GROUP)]
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
    parser.add_argument("--detector", default="rotated_retinanet", choices=list(DETECTORS))
    parser.add_argument("--methods", nargs="+", choices=list(ROWS), help="all that the detector allows unless named")
    options = parser.parse_args()
    two_stage = options.detector == "faster_rcnn"
    methods = options.methods or [name for name in ROWS if not (two_stage and name in ONE_STAGE)]
    student = {**STUDENT, "detector": options.detector}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_dataset(root / "data", "train", 4 * options.batch, options.size, 0)
        result = measure(Work(root, options.size, options.batch, student, TEACHER), options.rounds, methods)
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
