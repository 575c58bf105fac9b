"""The health of images without boxes in sentences, the same for text and page."""

from __future__ import annotations

from collections.abc import Iterator

from fledge.data.findings import FEW, IMBALANCE, Finding, class_findings, published_findings, sort, twin_findings
from fledge.data.scenes.health import ImageHealth, ImageSet
from fledge.data.splits import WHOLE


def image_findings(health: ImageHealth) -> list[Finding]:
    """What was found, errors first."""
    found = [Finding("error", name, f"refused: {reason}") for name, reason in health.refused.items()]
    found += [Finding("error", WHOLE, fault) for fault in health.unreadable]
    found += [
        Finding("error", twin.split, f"the same pixels in two classes: {twin.path} and {twin.other}")
        for twin in health.conflicts
    ]
    found += twin_findings(health.twins)
    found += class_findings(
        health.missing, health.against, health.only_here, health.only_there, health.alike, health.noun
    )
    found += published_findings(health.beside)
    for name, dataset in health.splits.items():
        found += [Finding("warning", name, text) for text in _balance(dataset)]
        found += [Finding("note", name, note) for note in dataset.notes]
    return sort(found)


def _balance(dataset: ImageSet) -> Iterator[str]:
    present = {name: count for name, count in dataset.summary().objects.items() if count}
    if not present:
        return
    most, least = max(present, key=lambda n: present[n]), min(present, key=lambda n: present[n])
    if present[most] >= IMBALANCE * present[least]:
        yield f"{most} has {present[most] / present[least]:.0f} times the images of {least}"
    few = [f"{name} {count}" for name, count in present.items() if count < FEW]
    if few:
        yield f"fewer than {FEW} images: {', '.join(few)}"
