"""Tests that compile run in a child process.

The gradient of a compiled function starts threads of PyTorch's autograd, after which a process can no longer be copied
by fork and compute gradients in the copy, as other tests do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from tests.faults.child import forked


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """The test, in a copy of this process."""

    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        with forked(lambda: test(*arguments, **named)) as child:
            ended = child.end(300)
        assert ended.code == 0, ended.out

    return run
