"""Runs a quickstart: data, three trainings, evaluation, a scene, the report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fledge import api
from fledge.data.datasets import open_dataset
from fledge.data.synthetic import write_dataset
from fledge.engine.progress import progress, say
from fledge.errors import UsageError
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.summary import evaluation_record, gap, means
from fledge.files import write_json
from fledge.quickstart.parallel import Job, run_jobs
from fledge.quickstart.plan import Plan, estimate_seconds, plan_own, plan_synthetic
from fledge.quickstart.report import write_report
from fledge.quickstart.scene import SceneResult, run_scene

ROLES = ("teacher", "student", "distilled")
# Training images, spread evenly over the split, on which AP is measured beside that on the held-out ones.
SEEN_IMAGES = 100


@dataclass(frozen=True)
class Result:
    """What a quickstart made.

    Attributes:
        out: its folder: ``report.html``, ``results.json``, ``scene/`` and the run folders.
        evaluations: by role (``teacher``, ``student``, ``distilled``), one evaluation a seed.
        record: what ``results.json`` holds.
    """

    out: Path
    evaluations: dict[str, list[api.Evaluation]]
    record: dict[str, Any]


def quickstart(
    out: str | Path = "runs/quickstart",
    data: str | Path | None = None,
    size: str = "standard",
    seed: int = 2,
    image_size: int | None = None,
    epochs: int | None = None,
    teacher_weights: str | Path | None = None,
    device: str = "auto",
) -> Result:
    """Train a teacher, a student alone and the same student with KD-RNet, compare them, and use the student.

    An interrupted quickstart goes on where it was when it is called again with the same arguments.

    Args:
        out: folder for everything.
        data: a dataset in a supported form, with a training and a held-out split; None renders scenes.
        size: ``smallest`` (checks the installation), ``standard``, or ``full`` (several seeds).
        seed: of the first student, the teacher and the rendered scenes (0 and 1 served development, 1000 tuning).
        image_size: side of the network's input for own data, 320 by default.
        epochs: replaces the number of passes over the training images.
        teacher_weights: safetensors with ImageNet weights for a ResNet-18 teacher, which are frozen (own data only).
        device: where to compute.

    Raises:
        UsageError: arguments that do not go together.
        DataError: the data cannot be used.
    """
    start = time.monotonic()
    if data is None:
        if image_size is not None or teacher_weights is not None:
            raise UsageError("--image-size and --teacher-weights: quickstart: they need --data")
        plan = plan_synthetic(Path(out), size, seed, epochs, device)
    else:
        if size == "smallest":
            raise UsageError("--smallest: quickstart: it is for the rendered scenes: use --epochs 1 with --data")
        seeds = range(seed, seed + (5 if size == "full" else 1))
        weights = Path(teacher_weights) if teacher_weights else None
        plan = plan_own(Path(out), Path(data), seeds, image_size or 320, epochs, weights, device)
    return run(plan, start)


def run(plan: Plan, start: float) -> Result:
    """Carry a plan out; ``start`` is when the user's wait began (monotonic seconds)."""
    if plan.synthetic:
        _render(plan)
    for note in plan.notes:
        say(f"note: {note}")
    runs = 1 + 2 * len(plan.seeds)
    minutes = 1.15 * estimate_seconds(plan) / 60
    say(
        f"About {minutes + 0.5:.0f} min for {runs} trainings on this machine. "
        "Interrupt at any time: the same command goes on."
    )
    first = plan.seeds[0]
    api.train(plan.teacher, plan.run("teacher", first), title="1. teacher")
    run_jobs([job for seed in plan.seeds for job in _students(plan, seed)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the detectors are small: a second thread would mostly wait
    try:
        evaluations = {role: _evaluate(plan, role) for role in ROLES}
        seen = {role: _evaluate_seen(plan, role) for role in ROLES}
        scene = run_scene(plan, evaluations["teacher"][0].dataset)
    finally:
        torch.set_num_threads(threads)
    record = _record(plan, evaluations, seen, scene, time.monotonic() - start)
    write_json(plan.out / "results.json", record)
    write_report(plan, evaluations, scene, record)
    return Result(plan.out, evaluations, record)


def differences(alone: Sequence[float], distilled: Sequence[float]) -> dict[str, Any]:
    """Paired differences, distilled minus alone, in the unit given: each, their mean, sd (n - 1) and wins."""
    each = [b - a for a, b in zip(alone, distilled, strict=True)]
    mean = sum(each) / len(each)
    sd = math.sqrt(sum((d - mean) ** 2 for d in each) / (len(each) - 1)) if len(each) > 1 else None
    return {"each": each, "mean": mean, "sd": sd, "wins": sum(d > 0 for d in each)}


def _students(plan: Plan, seed: int) -> list[Job]:
    """The two trainings of one seed, the longer one first."""
    which = f", seed {seed}" if len(plan.seeds) > 1 else ""
    return [
        Job(f"2. student distilled{which}", plan.distilled_recipe(seed), plan.run("distilled", seed)),
        Job(f"2. student alone{which}", plan.student_recipe(seed), plan.run("student", seed)),
    ]


def _render(plan: Plan) -> None:
    """Write the synthetic splits; tiles that exist are kept."""
    size = plan.synthetic
    assert size is not None  # noqa: S101
    done = 0
    with progress("0. render scenes", size.train + size.test) as advance:

        def count(_: int) -> None:
            nonlocal done
            done += 1
            advance(done, "")

        for split, tiles in (("train", size.train), ("test", size.test)):
            write_dataset(plan.data, split, tiles, size.image_size, plan.seeds[0], count)


def _evaluate(plan: Plan, role: str) -> list[api.Evaluation]:
    return [api.evaluate(run, device=plan.student.device, title=f"3. evaluate {role}") for run in _runs(plan, role)]


def _evaluate_seen(plan: Plan, role: str) -> list[Metrics]:
    """Average precision on some of the images trained on."""
    device, split, title = plan.student.device, plan.student.train_split, f"3. evaluate {role} on training images"
    return [api.precision(run, split=split, device=device, title=title, limit=SEEN_IMAGES) for run in _runs(plan, role)]


def _runs(plan: Plan, role: str) -> list[Path]:
    return [plan.run(role, seed) for seed in (plan.seeds[:1] if role == "teacher" else plan.seeds)]


def _record(
    plan: Plan,
    evaluations: dict[str, list[api.Evaluation]],
    seen: dict[str, list[Metrics]],
    scene: SceneResult,
    seconds: float,
) -> dict[str, Any]:
    records = {
        role: [evaluation_record(e.metrics, e.cost, e.about) for e in runs] for role, runs in evaluations.items()
    }
    paired = {
        name: differences([r[name] or 0.0 for r in records["student"]], [r[name] or 0.0 for r in records["distilled"]])
        for name in ("AP50", "AP75", "AP50:95")
    }
    return {
        "command": plan.command,
        "seeds": list(plan.seeds),
        "seconds": round(seconds, 1),
        "cores": os.cpu_count(),
        "notes": list(plan.notes),
        "training_images": len(open_dataset(plan.data, plan.student.train_split)),
        "evaluations": records,
        "on_training_images": {
            role: [
                {**means(m), "images": m.images, "gap": gap(m, e.metrics)}
                for m, e in zip(runs, evaluations[role], strict=True)
            ]
            for role, runs in seen.items()
        },
        "distilled_minus_alone": paired,
        "scene": {"windows": scene.windows, "objects": len(scene.detections)},
    }
