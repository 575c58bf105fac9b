"""Parts of a training set for experiments with few labels: nested, and disjoint from what is held out by scene."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fledge.errors import DataError, UsageError


def groups_by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    """The group of each image name: what a regular expression finds in it, its first bracket if it has one.

    Raises:
        UsageError: the pattern is none, or finds nothing in a name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"not a regular expression: {pattern}: {error}: correct it") from None
    groups = {}
    for name in names:
        found = expression.search(name)
        if found is None:
            raise UsageError(f"no group: {name}: {pattern} finds nothing in it: correct the pattern")
        groups[name] = found[1] if expression.groups else found[0]
    return groups


def nested_blocks(groups: Mapping[str, str], fraction: float, leave_out: Sequence[str] = ()) -> list[str]:
    """A fraction of each group: its first images by the number their name ends with, which is one stretch of a video.

    Subsets of smaller fractions lie within those of larger ones. Neighbouring frames are nearly the same image, so a
    stretch says what a random tenth of the frames would only pretend: how much is learnt from few scenes.

    Args:
        groups: from image names to their groups (scenes, flights, dates).
        fraction: of each group, above 0 and at most 1; at least one image of each is taken.
        leave_out: groups of which none is taken, such as those held out for tuning.

    Returns:
        Image names, sorted by group and by that number.

    Raises:
        UsageError: the fraction is none, a group to leave out is unknown, or nothing is left.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction {fraction}: give a number above 0 and up to 1")
    unknown = sorted(set(leave_out) - set(groups.values()))
    if unknown:
        raise UsageError(
            f"no such group: {', '.join(unknown)}: the groups are {', '.join(sorted(set(groups.values())))}"
        )
    chosen: list[str] = []
    for group in sorted(set(groups.values()) - set(leave_out)):
        members = sorted((name for name, own in groups.items() if own == group), key=_place)
        chosen += members[: max(1, round(fraction * len(members)))]
    if not chosen:
        raise UsageError("nothing is left: every group is left out: leave out fewer")
    return chosen


def _place(name: str) -> tuple[int, str]:
    """By the number at the end of a name, as of a frame, then by name."""
    number = re.search(r"[0-9]+$", name)
    return (int(number[0]) if number else 0), name


def read_groups(file: Path, names: Sequence[str]) -> dict[str, str]:
    """The groups of some images from a CSV file with the columns ``name`` (with or without suffix) and ``group``.

    Raises:
        DataError: it cannot be read, lacks a column, or an image.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            known = {Path(row["name"]).stem: row["group"] for row in csv.DictReader(text)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError) as error:
        raise DataError(f"no groups: {file}: {error}: give a CSV file with the columns name and group") from error
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"no group: {file}: {len(missing)} images are not in it, {missing[0]!r} first: add them")
    return {name: known[name] for name in names}
