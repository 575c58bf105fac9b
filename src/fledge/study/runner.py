"""Runs jobs as processes of one thread each, here or on a Ray cluster, and keeps the record of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fledge.build import pick_device
from fledge.engine.checkpoint import newest_checkpoint
from fledge.engine.loop import Interrupted
from fledge.engine.progress import progress, say
from fledge.errors import UsageError
from fledge.files import write_json
from fledge.study.jobs import FORMAT, Identities, Job, prepare, read_record

Record = dict[str, Any]
Start = Callable[[Path], "Future[int]"]


class Runner:
    """Runs jobs into ``folder/runs`` and keeps their records in ``folder/records``.

    A job whose record is there is not run again, whatever study it was made for; one that failed is.

    Args:
        folder: of the study.
        workers: processes at once; None takes as many as there are cores, and one on a GPU.
        ray: address of a Ray cluster that sees the same folders, "auto", or "local" to start one here; None: processes.
    """

    def __init__(self, folder: Path, workers: int | None = None, ray: str | None = None) -> None:
        self.runs, self.records = folder / "runs", folder / "records"
        self.workers, self.ray = workers, ray
        self.identities = Identities()

    def run(self, title: str, jobs: Sequence[Job]) -> list[Record]:
        """The records of some jobs, in their order; what they need is run before.

        Raises:
            Interrupted: the user stopped; what runs has saved its state and goes on next time.
        """
        for what, name in (("start", "pre-training"), ("teacher", "teachers")):
            needed = [job.needs[what] for job in jobs if what in job.needs]
            if needed:
                self._run(f"{title}: {name}", needed, kept=True)
        self._run(title, jobs, kept=False)
        return [self.record(job) for job in jobs]

    def teacher(self, job: Job) -> Record:
        """The record of a job whose run folder is needed, too."""
        self._run(job.title, [job], kept=True)
        return self.record(job)

    def key(self, job: Job) -> str:
        """The identity of a job."""
        return self.identities.key(job)

    def record(self, job: Job) -> Record:
        """The record of a finished job, under the name it has in this study."""
        return {**read_record(self._path(self.key(job))), "arm": job.arm, "phase": job.phase, "point": job.point}

    def run_folder(self, job: Job) -> Path:
        """Where a job's run is."""
        return self.runs / self.key(job) / "run"

    def _path(self, key: str) -> Path:
        return self.records / f"{key}.json"

    def _run(self, title: str, jobs: Sequence[Job], kept: bool) -> None:
        todo = {self.key(job): job for job in jobs if not self._done(job, kept)}
        if not todo:
            return
        with self._starter(len(todo)) as start, progress(title, len(todo)) as advance:
            waiting: dict[Future[int], str] = {}
            for key, job in todo.items():
                keys = {what: self.key(needed) for what, needed in job.needs.items()}
                waiting[start(prepare(job, key, self.runs, keys))] = key
            done = 0
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    key = waiting.pop(future)
                    self._keep(key, todo[key], future.result())
                    done += 1
                    advance(done, todo[key].title)

    def _done(self, job: Job, kept: bool) -> bool:
        path = self._path(self.key(job))
        if not path.exists() or "failed" in read_record(path):
            return False
        return not kept or newest_checkpoint(self.run_folder(job) / "checkpoints") is not None

    def _keep(self, key: str, job: Job, code: int) -> None:
        """Put a job's record where it stays; a process that left none has failed."""
        result, path = self.runs / key / "result.json", self._path(key)
        if result.exists() and code == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            shutil.copyfile(result, part)
            part.replace(path)
        elif code in (128 + 2, 128 + 15, -2, -15):
            raise Interrupted("stopped; run the same command again to go on")
        else:
            log = self.runs / key / "log.txt"
            last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1] if log.exists() else ""
            message = f"exit code {code}: {last}"
            about = {"format": FORMAT, "key": key, "title": job.title, "seed": job.recipe.seed, "failed": message}
            write_json(path, about)
        if "failed" in (record := read_record(path)):
            say(f"failed: {job.title}: {record['failed']}")

    @contextmanager
    def _starter(self, count: int) -> Iterator[Start]:
        """A function that starts the process of a job and gives its exit code later."""
        if self.ray is not None:
            with _on_ray(self.ray) as start:
                yield start
            return
        pool = ThreadPoolExecutor(min(self.workers or _at_once(), count))
        try:
            yield lambda spec: pool.submit(_process, spec)
        except KeyboardInterrupt:
            # The terminal sent the signal to every process: wait until each has saved.
            raise Interrupted("stopped; run the same command again to go on") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _at_once() -> int:
    if pick_device("auto").type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _process(spec: Path) -> int:
    """Run one job in a process of its own; its exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fledge.study.jobs", str(spec)]
    with (spec.parent / "log.txt").open("ab") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode


@contextmanager
def _on_ray(address: str) -> Iterator[Start]:
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed: --ray: pip install 'fledge[ray]'") from None
    if not ray.is_initialized():
        ray.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1, max_retries=3)(_process)
    try:
        yield lambda spec: remote.remote(spec.resolve()).future()
    finally:
        ray.shutdown()
