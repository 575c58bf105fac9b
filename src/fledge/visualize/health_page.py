"""The page of ``fledge check``: findings, distributions, images that occur twice, and a sample with its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import fledge
from fledge.data.duplicates import Twin
from fledge.data.findings import Finding, findings
from fledge.data.health import PERCENTILES, Health
from fledge.data.labels import DetectionDataset
from fledge.data.published import Beside, Comparison
from fledge.data.samples import read_stored
from fledge.errors import DataError
from fledge.visualize.distributions import distributions
from fledge.visualize.draw import draw_boxes, resize
from fledge.visualize.images import Image
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.table import Column, Value

SAMPLES, TWINS, BAD_LINES = 9, 8, 50
COLUMNS = 3
SIDE = 640  # of the pictures, pixels

T = TypeVar("T")


def health_page(health: Health, command: str) -> Page:
    """The page; pictures are read from the dataset."""
    splits = health.splits.values()
    images = sum(split.counts.images for split in splits)
    objects = sum(sum(split.counts.objects.values()) for split in splits)
    page = Page(f"Health of {health.root.name}", f"{len(health.splits)} splits, {images} images, {objects} objects")
    page.stats(_headline(health, images, objects))
    findings_section(page, findings(health))
    beside_section(page, health.beside)
    _classes(page, health)
    page.heading("Distributions")
    page.figures(distributions({name: split.histograms for name, split in health.splits.items()}))
    _bad_labels(page, health)
    twins_section(page, health.twins)
    _samples(page, [split.dataset for split in splits])
    page.footer({"Dataset": str(health.root), "Command": command, "Version": f"fledge {fledge.__version__}"})
    return page


def _headline(health: Health, images: int, objects: int) -> list[Stat]:
    between = [twin for twin in health.twins if twin.split != twin.other_split]
    near = sum(not twin.exact for twin in between)
    return [
        Stat("Images", str(images), ", ".join(f"{n} {s.counts.images}" for n, s in health.splits.items())),
        Stat("Objects", str(objects), f"{max(len(s.dataset.classes) for s in health.splits.values())} classes"),
        Stat("Bad labels", str(health.bad_labels), "left out of all figures below"),
        Stat("In two splits", str(len(health.leaks)), f"images with the same pixels; {near} more are nearly the same"),
    ]


def findings_section(page: Page, found: Sequence[Finding]) -> None:
    """What was found, as a table."""
    page.heading("Findings")
    words = {"error": "to mend", "warning": "to look at", "note": "to know"}
    if found:
        rows = [[words[finding.kind], finding.where, finding.text] for finding in found]
        page.table([Column(""), Column("Split"), Column("Finding")], rows)
    if not any(finding.kind == "error" for finding in found):
        page.note("All labels and images can be read, and no image lies in two splits with the same pixels.")


def beside_section(page: Page, beside: Beside) -> None:
    """The figures of a dataset beside those published of it."""
    known = beside.known
    if known is None or not beside.comparisons:
        return
    page.heading(f"Beside {known.title}")
    page.paragraph(
        f"Figures published of **{known.title}** ({known.page}), "
        + ("as which it was checked." if beside.named else "which has the same classes: this may be a part of it.")
    )
    rows: list[list[Value]] = [
        [c.split or "all", c.what, float(c.found), " or ".join(f"{figure:,}" for figure in c.published), _verdict(c)]
        for c in beside.comparisons
    ]
    columns = [Column("Split"), Column("What"), Column("Here", ",.0f"), Column("Published"), Column("")]
    page.table(columns, rows)


def _verdict(comparison: Comparison) -> str:
    return ("agrees" if comparison.agrees else "differs") + ("" if comparison.verified else "; not verified")


def _classes(page: Page, health: Health) -> None:
    page.heading("Classes")
    names = list(dict.fromkeys(name for split in health.splits.values() for name in split.counts.objects))
    rows: list[list[Value]] = [
        [name, *(float(split.counts.objects.get(name, 0)) for split in health.splits.values())] for name in names
    ]
    for label in ("images", "empty", "difficult", "ignored"):
        rows.append([f"({label})", *(float(getattr(s.counts, label)) for s in health.splits.values())])
    page.table([Column("Objects"), *(Column(name, ".0f") for name in health.splits)], rows)
    page.heading("Sizes", 3)
    columns = [Column("Pixels"), *(Column(f"{p} %", ".1f") for p in PERCENTILES)]
    percentiles: list[list[Value]] = []
    for name, split in health.splits.items():
        if split.sizes:
            percentiles += [[f"{name}, √area", *split.sizes], [f"{name}, long side", *split.lengths]]
    page.table(columns, percentiles, caption="Percentiles over the objects: so many of them are smaller.")
    sizes: list[list[Value]] = [
        [name, f"{w} × {h}", float(count)]
        for name, split in health.splits.items()
        for (w, h), count in list(split.image_sizes.items())[:5]
    ]
    page.table(
        [Column("Split"), Column("Image size"), Column("Images", ".0f")], sizes, caption="The five most frequent sizes."
    )


def _bad_labels(page: Page, health: Health) -> None:
    problems = [problem for split in health.splits.values() for problem in split.dataset.skipped]
    if not problems:
        return
    page.heading("Bad labels")
    rows = [[p.where, p.what, p.remedy] for p in problems[:BAD_LINES]]
    more = f"The first {BAD_LINES} of {len(problems)}; all are in `check.json`." if len(problems) > BAD_LINES else ""
    page.table([Column("Where"), Column("What"), Column("What to do")], rows, caption=more)


def twins_section(page: Page, twins: Sequence[Twin]) -> None:
    """Pictures of images that occur twice."""
    if not twins:
        return
    page.heading("Images that occur twice")
    page.paragraph(
        "The same pixels, or nearly the same content: at most 4 of the 64 bits of a perceptual hash differ. "
        "Neighbouring frames and overlapping tiles look like that; look-alikes, such as two fields, can too. Between "
        f"splits first, then within; up to {TWINS} of each, spread evenly. All are in `check.json`."
    )
    between = [twin for twin in twins if twin.split != twin.other_split]
    within = [twin for twin in twins if twin.split == twin.other_split]
    rows = [_twin_row(twin) for group in (between, within) for twin in spread(group, TWINS)]
    page.gallery(["Image", "Its twin"], rows)


def _twin_row(twin: Twin) -> GalleryRow:
    how = "the same pixels" if twin.exact else f"{twin.bits} of 64 bits differ"
    caption = f"`{twin.path.name}` in {twin.split}, `{twin.other.name}` in {twin.other_split}: {how}"
    return GalleryRow([picture(twin.path), picture(twin.other)], caption)


def _samples(page: Page, datasets: Sequence[DetectionDataset]) -> None:
    page.heading("Labels on images")
    page.paragraph("Images spread evenly over each split. Dashed boxes are difficult or ignored.")
    if datasets:
        page.class_key(datasets[0].classes)
    for dataset in datasets:
        chosen = spread(list(range(len(dataset))), SAMPLES)
        pictures = [(_labelled(dataset, i), dataset.ids[i]) for i in chosen]
        rows = [pictures[k : k + COLUMNS] for k in range(0, len(pictures), COLUMNS)]
        page.gallery(
            [dataset.split, *[""] * (COLUMNS - 1)],
            [
                GalleryRow([*(p for p, _ in row), *[None] * (COLUMNS - len(row))], ", ".join(f"`{n}`" for _, n in row))
                for row in rows
            ],
        )


def _labelled(dataset: DetectionDataset, i: int) -> Image | None:
    image = picture(dataset.paths[i], whole=True)
    if image is None:
        return None
    targets = dataset.targets(i)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    dashed = targets.ignore | targets.difficult
    return draw_boxes(image, targets.boxes, targets.labels, dataset.classes, dashed=dashed, scale=scale, thickness=1)


def picture(path: Path, whole: bool = False) -> Image | None:
    """An image for people: its first bands, stretched if it has more than 8 bits; None if it cannot be read."""
    try:
        samples = read_stored(path).samples
    except DataError:
        return None
    bands = samples[..., :3] if samples.shape[2] >= 3 else np.repeat(samples[..., :1], 3, axis=2)
    if bands.dtype != np.uint8:
        low, high = np.nanpercentile(bands, [0.5, 99.5])
        scaled = np.clip((bands - low) / max(high - low, 1e-9), 0, 1)
        bands = np.nan_to_num(scaled * 255).astype(np.uint8)
    image = np.ascontiguousarray(bands)
    return image if whole else resize(image, min(1.0, SIDE / max(image.shape[:2])))


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` items, evenly spaced."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[k] for k in places]
