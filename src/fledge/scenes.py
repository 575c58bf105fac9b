"""Many scenes: which files they are, and each of them a job, one after another or in several processes."""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from fledge.data.raster import IMAGE_SUFFIXES
from fledge.data.scene_file import local_file
from fledge.engine.loop import Interrupted
from fledge.engine.progress import Advance, progress
from fledge.errors import DataError, ResourceError, UsageError
from fledge.inference.model import WindowModel
from fledge.inference.scan import Scan, scan_scene
from fledge.inference.scene import SceneResult, check_free, finish, journal_of, prepare
from fledge.inference.settings import DEFAULT, SceneSettings
from fledge.inference.writers import FORMS, targets
from fledge.runs import load_model


@dataclass(frozen=True)
class Job:
    """One scene of several, which any process can do: all in it are plain values.

    Attributes:
        model: run folder or checkpoint.
        device: where to compute.
        scene: the image or raster.
        out: file or folder of the results of all scenes.
        journal: of this scene.
        settings: the same for all.
    """

    model: str
    device: str
    scene: Path
    out: Path
    journal: Path
    settings: SceneSettings


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the scan of its windows, and the result if the format has a file for each scene."""

    scan: Scan
    result: SceneResult | None


# Does jobs in any order: the place of each in the list, and its outcome or why the scene was refused.
Runner = Callable[[Sequence[Job]], Iterator[tuple[int, Outcome | DataError]]]


def do_job(job: Job) -> Outcome:
    """Do one job in this process, which keeps the model for the next one.

    Raises:
        DataError: the scene is refused, or cannot be read in parts.
        NumericError, ResourceError: see ``fledge.inference.scene.detect_scene``.
    """
    return _do(_kept_model(job.model, job.device), job)


@lru_cache(maxsize=1)
def _kept_model(model: str, device: str) -> WindowModel:
    return load_model(Path(model), device)


def _do(model: WindowModel, job: Job, advance: Callable[[int, int], None] | None = None) -> Outcome:
    scan = scan_scene(model, job.scene, job.journal, job.settings, advance)
    if FORMS[job.settings.format].joint:
        return Outcome(scan, None)
    return Outcome(scan, finish(model, [(job.scene, job.journal, scan)], job.out, job.settings)[0])


def detect_scenes(
    model: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    settings: SceneSettings = DEFAULT,
    workers: int = 1,
    device: str = "auto",
    runner: Runner | None = None,
) -> list[SceneResult]:
    """Find the objects of images and rasters of any size and write them to ``out``.

    Interrupted and called again with the same arguments, it goes on where it was; a scene that is refused does not keep
    the others from being done.

    Args:
        model: run folder or checkpoint.
        paths: files, folders (not their subfolders) and patterns such as ``tiles/*.tif``.
        out: a file, or a folder: one file a scene for gpkg and geojson, one for all scenes for csv and coco.
        settings: see there.
        workers: processes, each on a scene of its own with one thread.
        device: where to compute.
        runner: what does the jobs; by default this process or ``workers`` of this machine.

    Returns:
        One result a scene, in the order of the files.

    Raises:
        UsageError: the result exists, or the format cannot hold the scenes.
        DataError: scenes were refused, or could not be read in parts; the others are done.
        NumericError, ResourceError: see ``fledge.inference.scene.detect_scene``.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    scenes, out = scene_files(paths), Path(out)
    loaded = load_model(Path(model), device)
    journals = [journal_of(out, scene.stem, len(scenes)) for scene in scenes]
    check_free(targets(out, settings.format, [s.stem for s in scenes], loaded.classes), journals, settings)
    prepare(journals, settings)
    jobs = [
        Job(str(model), device, scene, out, journal, settings) for scene, journal in zip(scenes, journals, strict=True)
    ]
    if runner is None:
        many = min(workers, len(jobs)) > 1
        runner = (lambda jobs: _in_processes(jobs, workers)) if many else (lambda jobs: _one_by_one(jobs, loaded))
    with _stoppable():
        results = _results(loaded, jobs, runner)
        for journal in journals:
            journal.unlink(missing_ok=True)
    return results


def scene_files(paths: Sequence[str | Path]) -> list[Path]:
    """The scenes among files, folders (not their subfolders) and patterns, sorted within each.

    Raises:
        DataError: a path does not exist, or there is no image at all.
        UsageError: two share a stem, so that their results would overwrite each other.
    """
    files: list[Path] = []
    for given in paths:
        path = local_file(given)
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists() or not glob.has_magic(str(path)):
            files.append(path)
        else:
            matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 (absolute ones too)
            files += [p for p in matches if p.suffix.lower() in IMAGE_SUFFIXES]
    if missing := [path for path in files if not path.exists()]:
        raise DataError(f"no such image: {missing[0]}: check the path")
    if not files:
        raise DataError(f"no images: {', '.join(map(str, paths))}: give {', '.join(sorted(IMAGE_SUFFIXES))} files")
    by_stem: dict[str, Path] = {}
    for file in files:
        if by_stem.setdefault(file.stem, file) != file:
            raise UsageError(f"two images named {file.stem}: {by_stem[file.stem]} and {file}: run them apart")
    return list(by_stem.values())


def _results(model: WindowModel, jobs: Sequence[Job], runner: Runner) -> list[SceneResult]:
    outcomes: dict[int, Outcome] = {}
    errors: dict[int, DataError] = {}
    for k, outcome in runner(jobs):
        if isinstance(outcome, Outcome):
            outcomes[k] = outcome
        else:
            errors[k] = outcome
    if errors:
        first = errors[min(errors)]
        many = f"{len(errors)} of {len(jobs)} scenes were refused; the first: " if len(jobs) > 1 else ""
        raise DataError(f"{many}{first}")
    ready = [outcomes[k] for k in range(len(jobs))]
    done = [outcome.result for outcome in ready if outcome.result is not None]
    if len(done) == len(jobs):
        return done
    scans = [(job.scene, job.journal, outcome.scan) for job, outcome in zip(jobs, ready, strict=True)]
    return finish(model, scans, jobs[0].out, jobs[0].settings)


def _one_by_one(jobs: Sequence[Job], model: WindowModel) -> Iterator[tuple[int, Outcome | DataError]]:
    for k, job in enumerate(jobs):
        title = job.scene.name if len(jobs) == 1 else f"{k + 1}/{len(jobs)} {job.scene.name}"
        try:
            with _window_progress(title) as show:
                outcome: Outcome | DataError = _do(model, job, show)
        except DataError as error:
            outcome = error
        yield k, outcome


@contextmanager
def _window_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that learns only from the first call how many windows there are."""
    bars: list[tuple[contextlib.AbstractContextManager[Advance], Advance]] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bar = progress(title, total)
            bars.append((bar, bar.__enter__()))
        bars[0][1](done, "")

    try:
        yield show
    finally:
        for bar, _ in bars:
            bar.__exit__(None, None, None)


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Outcome | DataError]]:
    """Each job in one of some new processes, none of which shares an open file with another."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread)
    try:
        futures = {pool.submit(do_job, job): k for k, job in enumerate(jobs)}
        with progress("scenes", len(jobs)) as advance:
            for done, future in enumerate(as_completed(futures), 1):
                try:
                    yield futures[future], future.result()
                except DataError as error:
                    yield futures[future], error
                advance(done, jobs[futures[future]].scene.name)
    except BrokenProcessPool as error:
        raise ResourceError(
            f"a worker died: {len(jobs)} scenes with {workers} workers: it was killed or ran out of memory: use fewer "
            "--workers and run the same command again; it goes on"
        ) from error
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells, by SIGTERM
    torch.set_num_threads(1)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block with ``Interrupted``; what is finished is in the journals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise Interrupted("stopped; run the same command again to go on from the last finished window", number)

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
