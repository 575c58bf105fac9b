"""A dataset's health in sentences, the same for text and page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from fledge.data.health import HUGE_SHARE, TINY_PX, Health, SplitHealth
from fledge.data.labels import by_kind
from fledge.data.published import Comparison
from fledge.data.splits import WHOLE

IMBALANCE = 100
FEW = 20


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
    found = [*_files(health), *_twins(health), *_classes(health), *_published(health)]
    for name, split in health.splits.items():
        found += [Finding(kind, name, text) for kind, text in _objects(split)]
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


def _twins(health: Health) -> Iterator[Finding]:
    counts: dict[tuple[str, str, bool], int] = {}
    for twin in health.twins:
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


def _classes(health: Health) -> Iterator[Finding]:
    for split, names in health.missing.items():
        yield Finding("warning", split, f"no object of {', '.join(names)}")
    if health.only_here:
        yield Finding("warning", WHOLE, f"{health.against} lacks the classes {', '.join(health.only_here)}")
    if health.only_there:
        yield Finding(
            "warning", WHOLE, f"{health.against} has classes that are not here: {', '.join(health.only_there)}"
        )

    for one, two in health.alike:
        yield Finding("warning", WHOLE, f"{one} and {two} may be one class: rename on reading (--remap)")


def _published(health: Health) -> Iterator[Finding]:
    """A dataset that only looks like a known one may be a part of it, or cut into tiles: no reason to warn."""
    if health.known is None:
        return
    kind: Kind = "warning" if health.named else "note"
    title = health.known.title
    agreeing = [comparison for comparison in health.comparisons if comparison.agrees]
    if not health.named:
        yield Finding("note", WHOLE, f"the classes are those of {title}")
    if agreeing:
        yield Finding(
            "note", WHOLE, f"as published of {title}: {'; '.join(f'{c.split} {_figure(c)}'.strip() for c in agreeing)}"
        )
    for comparison in health.comparisons:
        if not comparison.agrees:
            said = " or ".join(f"{figure:,}" for figure in comparison.published)
            sure = "" if comparison.verified else " (not verified)"
            text = f"{_figure(comparison)}, {said} published of {title}{sure}"
            yield Finding(kind if comparison.verified else "note", comparison.split or WHOLE, text)
    if health.unlisted:
        yield Finding(kind, WHOLE, f"{title} has no class {', '.join(health.unlisted)}")
    if health.unfound:
        yield Finding(kind, WHOLE, f"classes of {title} that are not here: {', '.join(health.unfound)}")


def _figure(comparison: Comparison) -> str:
    what = comparison.what if comparison.what in ("images", "objects") else f"of {comparison.what}"
    if comparison.found == 1 and what == comparison.what:
        what = what.removesuffix("s")
    return f"{comparison.found:,} {what}"


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
