"""Running the service until a signal ends it."""

from __future__ import annotations

import copy
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from fledge.engine.loop import Interrupted
from fledge.engine.progress import say
from fledge.errors import ResourceError, UsageError
from fledge.inference.model import WindowModel
from fledge.serve.app import make_app
from fledge.serve.detector import ServedDetector
from fledge.serve.guard import LOOPBACK
from fledge.serve.limits import DEFAULT, Limits


def serve(
    model: WindowModel,
    name: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    root: Path | None = None,
    limits: Limits = DEFAULT,
) -> None:
    """Answer requests until Ctrl-C or SIGTERM; requests in work are finished first.

    Args:
        model: from ``fledge.runs.load_model``.
        name: what it is called to clients.
        host: address to listen on. Names of the loopback answer to those names only; with any other there is no
            protection but the limits: no password, no encryption.
        port: 0 takes a free one.
        root: folder below which clients may name files; None: uploads only.
        limits: of one request.

    Raises:
        UsageError: ``root`` is no folder.
        ResourceError: the address cannot be had.
        Interrupted: always in the end, with the signal's exit code.
    """
    if root is not None and not root.is_dir():
        raise UsageError(f"no such folder: {root}: give --root the folder whose images may be named")
    local = host in LOOPBACK
    app = make_app(ServedDetector(model, name), limits, root, LOOPBACK if local else None)
    with _listening(host, port) as place:
        shown = f"[{host}]" if ":" in host else host
        say(f"{name}: {len(model.classes)} classes, at http://{shown}:{place.getsockname()[1]} (Ctrl-C stops)")
        if not local:
            say("note: whoever reaches this address can use it: put a server with a password and TLS before it")
        log = copy.deepcopy(LOGGING_CONFIG)
        log["loggers"]["uvicorn.error"]["level"] = "WARNING"  # requests are shown, its own life is not
        config = uvicorn.Config(
            app, log_config=log, server_header=False, timeout_graceful_shutdown=int(limits.timeout) + 1
        )
        with _noted() as received:
            uvicorn.Server(config).run([place])
    raise Interrupted("stopped", received[0] if received else signal.SIGTERM)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        place = socket.create_server((host, port), family=family, reuse_port=False)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ResourceError(f"cannot listen: {host}:{port}: {reason}: choose another --host or --port") from error
    with place:
        yield place


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that uvicorn, once it has stopped, passes on."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
