"""Several trainings at once on a CPU: one process and one thread each.

Small networks gain little from a second thread (a training step of the quickstart's student takes as long on two as on
one), so independent runs side by side are faster than one after the other. Each process is an ordinary ``fledge train``
or ``fledge distill``, which could be started by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fledge import api
from fledge.build import pick_device
from fledge.engine.loop import Interrupted
from fledge.engine.progress import say
from fledge.errors import FledgeError
from fledge.recipe import Recipe, write_recipe


@dataclass(frozen=True)
class Job:
    """One training: its title, recipe and run folder."""

    title: str
    recipe: Recipe
    run: Path


class JobFailedError(FledgeError):
    """A training that ran in a process of its own failed; it has said why, and its exit code is passed on."""

    def __init__(self, title: str, exit_code: int) -> None:
        super().__init__(f"a training failed: {title}: its message is above")
        self.exit_code = exit_code


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(jobs: Sequence[Job]) -> None:
    """Train all jobs: on a GPU one after the other here, on a CPU as many at once as there are cores.

    Raises:
        JobFailedError: a job failed; those that run are finished first, those that wait are not begun.
        Interrupted: the user stopped; every job has saved its state.
    """
    if pick_device(jobs[0].recipe.device).type != "cpu":
        for job in jobs:
            api.train(job.recipe, job.run, title=job.title)
        return
    failed = threading.Event()
    pool = ThreadPoolExecutor(min(cores(), len(jobs)))
    try:
        for job, code in zip(jobs, pool.map(lambda job: _run(job, failed), jobs), strict=True):
            if code:
                raise JobFailedError(job.title, code)
    except KeyboardInterrupt:
        failed.set()
        # The terminal sent the signal to every process: wait until each has saved.
        raise Interrupted("stopped; run the same command again to go on") from None
    finally:
        pool.shutdown()


def _run(job: Job, failed: threading.Event) -> int:
    """Run one job in a process, passing its messages on; its exit code."""
    if failed.is_set():
        return 0
    job.run.parent.mkdir(parents=True, exist_ok=True)
    recipe = job.run.with_suffix(".toml")
    write_recipe(job.recipe, recipe)
    verb = "train" if job.recipe.method == "none" else "distill"
    command = [sys.executable, "-m", "fledge", verb, str(recipe), "--out", str(job.run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None  # noqa: S101
        for line in process.stderr:
            say(f"{job.title} | {line.rstrip()}")
    recipe.unlink()
    if process.returncode:
        failed.set()
    return process.returncode
