"""Runs a function in several processes that train together, as torchrun would start them, by forking this one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch


def together(count: int, function: Callable[..., Any], *args: Any, timeout: float = 60) -> list[Any]:
    """``function(*args)`` in ``count`` processes at once; what each returned, or the exception it ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    children = []
    for rank in range(count):
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(rank, count, port, theirs, function, args), daemon=True)
        child.start()
        theirs.close()
        children.append((child, ours))
    results = []
    for _, pipe in children:
        try:
            results.append(pipe.recv() if pipe.poll(timeout) else TimeoutError("no answer"))
        except EOFError as error:
            results.append(error)
    for child, _ in children:
        child.join(2)
        if child.is_alive():
            child.kill()
    return results


def _child(rank: int, count: int, port: int, pipe: Connection, function: Callable[..., Any], args: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    try:
        result = function(*args)
    except BaseException as error:
        error.add_note(traceback.format_exc())
        result = error
    pipe.send(result)
    pipe.close()
    os._exit(0)
