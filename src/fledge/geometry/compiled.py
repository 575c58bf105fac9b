"""Loops compiled by numba, kept on the disk between runs where there is a place for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function, compiled at its first call, without the interpreter's lock; 1 / 0 is infinite as in NumPy.

    The compiled form lies in ``__pycache__`` or the user's cache folder, and is made anew when the function's own file
    changes, not when that of a function it calls does: then remove it.
    """
    return _compiled(function, False)


def compiled_loosely(function: F) -> F:
    """``compiled``, with sums in any order, which vector instructions need; NaN and infinity keep their meaning."""
    return _compiled(function, {"reassoc", "contract", "nsz"})


def _compiled(function: F, fastmath: bool | set[str]) -> F:
    try:
        return cast(F, njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath)(function))
    except RuntimeError:  # neither folder can be written
        return cast(F, njit(nogil=True, error_model="numpy", fastmath=fastmath)(function))
