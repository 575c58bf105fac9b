"""The page of ``fledge check`` for images without boxes: findings, counts, images that occur twice, and samples."""

from __future__ import annotations

import numpy as np

import fledge
from fledge.data.scenes.findings import image_findings
from fledge.data.scenes.health import ImageHealth, ImageSet
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.data.scenes.segmentation_dataset import NO_DATA, SegmentationDataset
from fledge.errors import DataError
from fledge.visualize.draw import resize
from fledge.visualize.health_page import SIDE, beside_section, findings_section, picture, spread, twins_section
from fledge.visualize.images import Image
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.palette import class_colour
from fledge.visualize.table import Column, Value

SAMPLES = 4  # in a row
CLASSES = 24  # shown, of more


def image_page(health: ImageHealth, command: str) -> Page:
    """The page; pictures are read from the dataset."""
    images = sum(map(len, health.splits.values()))
    classes = max(len(dataset.classes) for dataset in health.splits.values())
    near = sum(not twin.exact and twin.split != twin.other_split for twin in health.twins)
    counted = f"{_many(len(health.splits), 'split')}, {images} images, {_many(classes, 'class')}"
    page = Page(f"Health of {health.root.name}", counted)
    page.stats(
        [
            Stat("Images", str(images), ", ".join(f"{n} {len(d)}" for n, d in health.splits.items())),
            Stat("Classes", str(classes)),
            Stat("Unreadable", str(len(health.unreadable)), "files"),
            Stat("In two classes", str(len(health.conflicts)), "images with the same pixels"),
            Stat("In two splits", str(len(health.leaks)), f"the same pixels; {near} more are nearly the same"),
        ]
    )
    findings_section(page, image_findings(health))
    beside_section(page, health.beside)
    _counts(page, health)
    twins_section(page, health.twins)
    for name, dataset in health.splits.items():
        page.heading(f"Images of {name}")
        _samples(page, dataset)
    page.footer({"Dataset": str(health.root), "Command": command, "Version": f"fledge {fledge.__version__}"})
    return page


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def _counts(page: Page, health: ImageHealth) -> None:
    page.heading("Classes")
    names = list(dict.fromkeys(name for counts in health.counts.values() for name in counts))
    rows: list[list[Value]] = [[n, *(float(c.get(n, 0)) for c in health.counts.values())] for n in names]
    if rows:
        page.table([Column(f"{health.noun.title()}s"), *(Column(name, ",.0f") for name in health.counts)], rows)
    sizes: list[list[Value]] = [
        [name, f"{w} × {h}", float(count)]
        for name, found in health.image_sizes.items()
        for (w, h), count in list(found.items())[:5]
    ]
    columns = [Column("Split"), Column("Image size"), Column("Images", ".0f")]
    page.table(columns, sizes, caption="The five most frequent sizes.")


def _samples(page: Page, dataset: ImageSet) -> None:
    if isinstance(dataset, SceneDataset):
        _by_class(page, dataset)
    elif isinstance(dataset, SegmentationDataset) and dataset.masks:
        page.paragraph("Spread evenly over the split, each beside its mask; black is without data.")
        page.class_key(dataset.classes)
        chosen = spread(range(len(dataset)), 2 * SAMPLES)
        pairs = [[picture(dataset.path(i)), _mask(dataset, i)] for i in chosen]
        rows = [GalleryRow([p for pair in pairs[k : k + 2] for p in pair]) for k in range(0, len(pairs) - 1, 2)]
        page.gallery(["Image", "Mask"] * 2, rows)
    else:
        page.paragraph("Spread evenly over the split.")
        pictures = [picture(dataset.path(i)) for i in spread(range(len(dataset)), 3 * SAMPLES)]
        pictures += [None] * (-len(pictures) % SAMPLES)
        page.gallery([""] * SAMPLES, [GalleryRow(pictures[k : k + SAMPLES]) for k in range(0, len(pictures), SAMPLES)])


def _by_class(page: Page, dataset: SceneDataset) -> None:
    shown = spread(range(len(dataset.classes)), CLASSES)
    some = f" {len(shown)} of the {len(dataset.classes)} classes." if len(shown) < len(dataset.classes) else ""
    page.paragraph(f"Spread evenly over each class.{some}")
    rows = []
    for label in shown:
        mine = np.flatnonzero(dataset.labels == label).tolist()
        pictures = [picture(dataset.path(i)) for i in spread(mine, SAMPLES)] if mine else []
        caption = f"{dataset.classes[label]}: {len(mine)} images"
        rows.append(GalleryRow([*pictures, *[None] * (SAMPLES - len(pictures))], caption))
    page.gallery([""] * SAMPLES, rows)


def _mask(dataset: SegmentationDataset, i: int) -> Image | None:
    """A mask in the colours of its classes; None if it cannot be read."""
    try:
        mask = dataset.mask(i)
    except DataError:
        return None
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(dataset.classes)] = [class_colour(label) for label in range(len(dataset.classes))]
    colours[NO_DATA] = 0
    return resize(colours[mask], min(1.0, SIDE / max(mask.shape)))
