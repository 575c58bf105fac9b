"""How loops over boxes and samples are compiled. This module imports numba: import it where the loops are only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be added up in another order, so that they use vector instructions; NaN and infinity keep their meaning.
_LOOSE = {"reassoc", "contract", "nsz"}


def compiled(function: Function) -> Function:
    """Compile on first use, without the interpreter lock; kept on disk where some folder for it can be written."""
    return _compiled(function, False)


def compiled_loosely(function: Function) -> Function:
    """``compiled``, with sums in any order and multiplications fused with additions."""
    return _compiled(function, _LOOSE)


def _compiled(function: Function, fastmath: bool | set[str]) -> Function:
    try:
        return cast(Function, njit(function, nogil=True, cache=True, fastmath=fastmath))
    except RuntimeError:  # numba found no folder for its cache
        return cast(Function, njit(function, nogil=True, fastmath=fastmath))
