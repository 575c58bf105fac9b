"""Child processes that tests limit, signal and kill, and what is left of them.

``fledge(...)`` starts the command line in a fresh interpreter, and ``fresh(...)`` a function. ``forked(...)`` runs a
function in a copy of this process, which spares the seconds that importing PyTorch takes; signals, limits and exit
codes are those of a real one, but its heap has room that earlier tests left, so a limit of memory needs ``fresh``.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Limits = dict[int, int]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """What is known of a process that ended.

    Attributes:
        code: exit code; minus the number of the signal that killed it.
        out: all it wrote, standard output and error together.
        peak: most memory it held, in bytes.
    """

    code: int
    out: str
    peak: int

    @property
    def last(self) -> str:
        """The last line it wrote."""
        return (self.out.splitlines() or [""])[-1]


class Child:
    """A process of ours; it is killed when the ``with`` block ends."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self._log = pid, log
        self._ended: Ended | None = None

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Return once ``text`` was written."""
        self.wait_until(lambda: text in self._log.read_text(errors="replace"), timeout)

    def out(self) -> str:
        """All it wrote until now."""
        return self._log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], object], timeout: float = 60) -> None:
        """Return once a condition holds, which is looked at now and then while the process runs."""
        for _ in range(int(timeout / 0.02)):
            if condition():
                return
            assert not self._reap(os.WNOHANG), self._ended
            time.sleep(0.02)
        raise AssertionError(f"waited {timeout} s in vain: {self._log.read_text(errors='replace')}")

    def send(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        if self._ended is None:
            os.kill(self.pid, number)

    def end(self, timeout: float = 60) -> Ended:
        """How it ended, within ``timeout`` seconds."""
        for _ in range(int(timeout / 0.02)):
            if self._reap(os.WNOHANG):
                break
            time.sleep(0.02)
        assert self._ended is not None, f"still running: {self._log.read_text(errors='replace')}"
        return self._ended

    def _reap(self, flags: int) -> bool:
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, flags)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._ended = Ended(code, self._log.read_text(errors="replace"), usage.ru_maxrss * 1024)
        return self._ended is not None

    def close(self) -> None:
        """Kill it if it still runs."""
        if not self._reap(os.WNOHANG):
            self.send()
            self._reap(0)


@contextmanager
def fledge(*arguments: object, limits: Limits | None = None) -> Iterator[Child]:
    """``python -m fledge ARGUMENTS`` with resource limits, such as ``{resource.RLIMIT_FSIZE: 100_000}``."""
    with _started(["-m", "fledge", *map(str, arguments)], limits or {}) as child:
        yield child


@contextmanager
def fresh(function: Callable[[], object]) -> Iterator[Child]:
    """``function()``, one at the top of a module, in a fresh interpreter."""
    with _started(["-c", f"from {function.__module__} import {function.__name__} as run; run()"], {}) as child:
        yield child


@contextmanager
def _started(arguments: list[str], limits: Limits) -> Iterator[Child]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                preexec_fn=lambda: _limit(limits),
            )
        with _closing(Child(process.pid, log)) as child:
            yield child
        process.returncode = child.end().code  # waited for here, not by subprocess


@contextmanager
def forked(function: Callable[..., Any], *arguments: Any, limits: Limits | None = None) -> Iterator[Child]:
    """``function(*arguments)`` in a copy of this process, which exits with 0, or as an uncaught exception says."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        log.touch()
        pid = os.fork()
        if not pid:
            _become(function, arguments, log, limits or {})
        with _closing(Child(pid, log)) as child:
            yield child


def command(*arguments: object) -> None:
    """``fledge ARGUMENTS``, for ``forked``."""
    from fledge.cli import main

    sys.argv = ["fledge", *map(str, arguments)]
    main()


def files(folder: Path) -> set[str]:
    """The names of all files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _closing(child: Child) -> Iterator[Child]:
    try:
        yield child
    finally:
        child.close()


def _limit(limits: Limits) -> None:
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _become(function: Callable[..., Any], arguments: tuple[Any, ...], log: Path, limits: Limits) -> NoReturn:
    code = 1
    try:
        with log.open("wb") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (lives as long as the process)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _limit(limits)
        function(*arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
