"""A dataset's health in sentences, the same for text and page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fledge.data.catalogue import CATALOGUE
from fledge.data.datasets.draft import first_few
from fledge.data.duplicates import Twin
from fledge.data.health import HUGE_SHARE, TINY_PX, Health, SplitHealth
from fledge.data.labels import by_kind
from fledge.data.published import Beside, Comparison
from fledge.data.splits import WHOLE

IMBALANCE = 100
FEW = 20
_TOTALS = ("images", "objects")


Kind = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One thing to know about a dataset.

    Attributes:
        kind: an error must be mended, a warning looked at, a note known.
        where: the split, or "all" for the whole dataset.
        text: a phrase.
    """

    kind: Kind
    where: str
    text: str


def findings(health: Health) -> list[Finding]:
    """What was found, errors first."""
    found = [*_files(health), *twin_findings(health.twins)]
    found += class_findings(health.missing, health.against, health.only_here, health.only_there, health.alike, "object")
    found += published_findings(health.beside)
    for name, split in health.splits.items():
        found += [Finding(kind, name, text) for kind, text in _objects(split)]
    return sort(found)


def sort(found: Iterable[Finding]) -> list[Finding]:
    """Errors first, notes last."""
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.kind))


def _files(health: Health) -> Iterator[Finding]:
    for name, reason in health.refused.items():
        yield Finding("error", name, f"refused: {reason}")
    for name, split in health.splits.items():
        if split.dataset.skipped:
            kinds = by_kind(split.dataset.skipped)
            yield Finding("error", name, f"{_count(len(split.dataset.skipped), 'bad label')} ({kinds})")
    for fault in health.unreadable:
        yield Finding("error", WHOLE, fault)


def twin_findings(twins: Iterable[Twin]) -> Iterator[Finding]:
    """Images that occur twice."""
    counts: dict[tuple[str, str, bool], int] = {}
    for twin in twins:
        key = (twin.split, twin.other_split, twin.exact)
        counts[key] = counts.get(key, 0) + 1
    for (split, other, exact), count in counts.items():
        how = "the same pixels as" if exact else "nearly the same content as"
        where = "an earlier one of the same split" if split == other else f"one of {other}"
        kind: Kind = "warning"
        if split == other and not exact:
            kind = "note"
        elif split != other and exact:
            kind = "error"
        verb = "has" if count == 1 else "have"
        yield Finding(kind, split, f"{_count(count, 'image')} {verb} {how} {where}")


def class_findings(
    missing: Mapping[str, Sequence[str]],
    against: Path | None,
    only_here: Sequence[str],
    only_there: Sequence[str],
    alike: Iterable[tuple[str, str]],
    noun: str,
) -> Iterator[Finding]:
    """Classes that are missing, differ or may be one; ``noun`` is what has a class."""
    for split, names in missing.items():
        yield Finding("warning", split, f"no {noun} of {_some(names)}")
    if only_here:
        yield Finding("warning", WHOLE, f"{against} lacks the classes {_some(only_here)}")
    if only_there:
        yield Finding("warning", WHOLE, f"{against} has classes that are not here: {_some(only_there)}")
    remedy = "rename on reading (--remap)" if noun == "object" else "put them into one folder"
    for one, two in alike:
        yield Finding("warning", WHOLE, f"{one} and {two} may be one class: {remedy}")


def published_findings(beside: Beside) -> Iterator[Finding]:
    """Figures beside the published ones. A dataset that only looks like a known one may be a part of it, or cut into
    tiles: no reason to warn."""
    if beside.known is None:
        return
    kind: Kind = "warning" if beside.named else "note"
    title = beside.known.title
    totals = [comparison for comparison in beside.comparisons if comparison.what in _TOTALS]
    agreeing = [f"{c.split} {_figure(c)}".strip() for c in totals if c.agrees]
    if not beside.named:
        yield Finding("note", WHOLE, f"the classes are those of {title}")
    if agreeing:
        yield Finding("note", WHOLE, f"as published of {title}: {'; '.join(agreeing)}")
    for comparison in totals:
        if not comparison.agrees:
            said = " or ".join(f"{figure:,}" for figure in comparison.published)
            sure = "" if comparison.verified else " (not verified)"
            text = f"{_figure(comparison)}, {said} published of {title}{sure}"
            yield Finding(kind if comparison.verified else "note", comparison.split or WHOLE, text)
    differing = [c for c in beside.comparisons if c.what not in _TOTALS and not c.agrees]
    if differing:
        figures = first_few([f"{c.what} {c.found:,} (published {c.published[0]:,})" for c in differing], shown=3)
        sure = "" if all(c.verified for c in differing) else " (not verified)"
        yield Finding(kind if not sure else "note", WHOLE, f"classes with other counts than {title}'s{sure}: {figures}")
    for key, what in beside.known.overlaps.items():
        yield Finding("note", WHOLE, f"{title} has images in common with {CATALOGUE[key].title}: {what}")
    if beside.unlisted:
        yield Finding(kind, WHOLE, f"{title} has no class {_some(beside.unlisted)}")
    if beside.unfound:
        yield Finding(kind, WHOLE, f"classes of {title} that are not here: {_some(beside.unfound)}")


def _some(names: Sequence[str]) -> str:
    return first_few(names, shown=8)


def _figure(comparison: Comparison) -> str:
    return f"{comparison.found:,} {comparison.what.removesuffix('s') if comparison.found == 1 else comparison.what}"


def _objects(split: SplitHealth) -> Iterator[tuple[Kind, str]]:
    total = sum(split.counts.objects.values())
    if not total:
        yield ("warning", "no objects")
        return
    present = {name: count for name, count in split.counts.objects.items() if count}
    most, least = max(present, key=lambda n: present[n]), min(present, key=lambda n: present[n])
    if present[most] >= IMBALANCE * present[least]:
        yield ("warning", f"{most} has {present[most] / present[least]:.0f} times the objects of {least}")
    few = [f"{name} {count}" for name, count in present.items() if count < FEW]
    if few:
        yield ("warning", f"fewer than {FEW} objects: {', '.join(few)}")
    if split.identical:
        yield ("warning", f"{_count(split.identical, 'object')} labelled twice; training takes one of each")
    if split.odd:
        yield ("warning", f"{_count(split.odd, 'object')} with corners far from any rectangle (IoU below 0.5)")
    counted = {
        f"with a short side below {TINY_PX:.0f} pixels": split.tiny,
        f"covering more than {HUGE_SHARE:.0%} of the image": split.huge,
        "reaching beyond the image's edge": split.beyond,
        "marked difficult": split.counts.difficult,
        "marked as ignored": split.counts.ignored,
    }
    for what, count in counted.items():
        if count:
            yield ("note", f"{_count(count, 'object')} {what}")
    if split.aligned == total:
        yield ("warning", "all boxes are parallel to the image's sides: no orientation can be learnt from them")
    elif split.aligned > total / 2:
        yield ("note", f"{split.aligned / total:.0%} of the boxes are parallel to the image's sides")
    # The reader's last note counts the bad labels, which are errors here.
    for note in split.dataset.notes[: -1 if split.dataset.skipped else None]:
        yield ("note", note)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
