"""Many scenes on a Ray cluster (extra ``ray``): the jobs of ``fledge.scenes``, each on any machine of it.

Every machine must see the model, the scenes and the folder of the results under the same paths, and have fledge
installed. A job whose worker or machine dies is done again elsewhere, from its journal.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from fledge.engine.progress import progress
from fledge.errors import DataError, FledgeError, ResourceError, UsageError
from fledge.scenes import Job, Outcome, Runner, do_job

LOCAL = "local"
RETRIES = 3  # of a job whose worker died


def on_ray(address: str = LOCAL, workers: int | None = None) -> Runner:
    """What does jobs on a Ray cluster.

    Args:
        address: ``local`` starts one on this machine alone and ends it afterwards; ``auto`` takes the one that runs
            here; anything else is where its head is, such as ``10.0.0.1:6379`` or ``ray://10.0.0.1:10001``.
        workers: processors of a cluster that is started; None: all of this machine.

    Raises:
        UsageError: Ray is not installed.
        ResourceError: the cluster cannot be reached, or a job's workers died again and again.
    """
    if find_spec("ray") is None:
        raise UsageError("not installed: ray: --ray needs it: pip install 'fledge[ray]'")

    def run(jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome | DataError]]:
        with _connected(address, workers) as ray:
            yield from _spread(ray, [_anywhere(job) for job in jobs])

    return run


def _spread(ray: Any, jobs: Sequence[Job]) -> Iterator[tuple[int, Outcome | DataError]]:
    """All jobs at once; Ray keeps those that find no processor waiting."""
    task = ray.remote(num_cpus=1, num_gpus=_gpus(ray, jobs), max_retries=RETRIES)(_attempt)
    waiting = {task.remote(job): k for k, job in enumerate(jobs)}
    try:
        with progress("scenes", len(jobs)) as advance:
            while waiting:
                for reference in _ready(ray, list(waiting)):
                    k = waiting.pop(reference)
                    yield k, _outcome(ray, reference, jobs[k])
                    advance(len(jobs) - len(waiting), jobs[k].scene.name)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _ready(ray: Any, waiting: list[Any]) -> list[Any]:
    """One that has ended, or after a second none."""
    try:
        ready: list[Any] = ray.wait(waiting, num_returns=1, timeout=1)[0]
    except SystemError as error:  # what Ray makes of an exception that a signal's handler raised inside of it
        raise (error.__cause__ or error) from None
    return ready


def _anywhere(job: Job) -> Job:
    """The job with paths that do not depend on the folder a process runs in."""
    scene, out, journal = (path.absolute() for path in (job.scene, job.out, job.journal))
    return replace(job, model=os.path.abspath(job.model), scene=scene, out=out, journal=journal)  # noqa: PTH100


def _attempt(job: Job) -> Outcome | FledgeError:
    """A job with one thread, as in the other runners; an error of ours is a result, not a reason to try again."""
    import torch

    torch.set_num_threads(1)
    try:
        return do_job(job)
    except FledgeError as error:
        return error


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome | DataError:
    try:
        result: Outcome | FledgeError = ray.get(reference)
    except (ray.exceptions.RaySystemError, ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError, ray.exceptions.LocalRayletDiedError) as error:  # fmt: skip
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ResourceError(
            f"a worker died {RETRIES + 1} times: {job.scene}: {reason}: see that its machine has the memory, and run "
            "the same command again; it goes on"
        ) from error
    if isinstance(result, FledgeError) and not isinstance(result, DataError):
        raise result
    return result


def _gpus(ray: Any, jobs: Sequence[Job]) -> int:
    """GPUs of a job: with ``auto`` one if the cluster has any. Without, Ray hides them from its workers."""
    device = jobs[0].device if jobs else "cpu"
    wanted = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)
    return int(wanted)


@contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray

    where: dict[str, Any] = {"address": address}
    if address == LOCAL:  # it has no password: nobody else may reach it
        where |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": workers}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")
        raise ResourceError(f"no Ray cluster: {address}: {reason}: start one with `ray start --head`") from error
    for number, handler in handlers.items():  # Ray puts its own in their place
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()
