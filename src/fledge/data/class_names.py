"""Class names that may mean the same although they are spelt differently: ``harbor`` and ``harbour``, ``ship`` and
``ships``. Case, spaces, hyphens and underscores never matter (``class_key``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations

from fledge.data.labels import class_key

# Of shorter names, one letter changes the meaning (car, bar).
_SHORTEST = 4


def alike(one: str, two: str) -> bool:
    """Whether two different names may be one, spelt twice: one letter added, left out, changed or moved by one.

    Names with other digits are different types (Boeing737, Boeing787), and so are names below four letters.
    """
    a, b = sorted((class_key(one), class_key(two)), key=len)
    if a == b or len(a) < _SHORTEST or re.sub(r"\D", "", a) != re.sub(r"\D", "", b):
        return False
    start = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(b) - len(a) == 1:
        return a[start:] == b[start + 1 :]
    swapped = a[:start] + a[start + 1 : start + 2] + a[start : start + 1] + a[start + 2 :]
    return len(a) == len(b) and (a[start + 1 :] == b[start + 1 :] or swapped == b)


def alike_within(names: Iterable[str], official: Sequence[str] = ()) -> tuple[tuple[str, str], ...]:
    """Pairs of a list that may be one class; two names that are both official are not."""
    known = {class_key(name) for name in official}
    pairs = combinations(dict.fromkeys(names), 2)
    return tuple((a, b) for a, b in pairs if alike(a, b) and not {class_key(a), class_key(b)} <= known)


def alike_between(names: Iterable[str], others: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of a name of each of two lists that may be one class."""
    return tuple((name, other) for name in names for other in others if alike(name, other))


def differences(names: Sequence[str], others: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that only the first list has, and those that only the second has."""
    here, there = ({class_key(name): name for name in part} for part in (names, others))
    return (
        tuple(here[key] for key in here if key not in there),
        tuple(there[key] for key in there if key not in here),
    )
