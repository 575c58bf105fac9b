"""The page of ``fledge check`` for scene classification: findings, counts, images that occur twice, and samples."""

from __future__ import annotations

import fledge
from fledge.data.scenes.health import SceneHealth, scene_findings
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.visualize.health_page import beside_section, findings_section, picture, spread, twins_section
from fledge.visualize.page import GalleryRow, Page, Stat
from fledge.visualize.table import Column, Value

SAMPLES = 4  # of each class
CLASSES = 24  # shown, of more


def scene_page(health: SceneHealth, command: str) -> Page:
    """The page; pictures are read from the dataset."""
    images = sum(map(len, health.splits.values()))
    classes = max(len(dataset.classes) for dataset in health.splits.values())
    near = sum(not twin.exact and twin.split != twin.other_split for twin in health.twins)
    page = Page(
        f"Health of {health.root.name}",
        f"{_many(len(health.splits), 'split')}, {images} images, {_many(classes, 'class')}",
    )
    page.stats(
        [
            Stat("Images", str(images), ", ".join(f"{n} {len(d)}" for n, d in health.splits.items())),
            Stat("Classes", str(classes)),
            Stat("Unreadable", str(len(health.unreadable)), "images"),
            Stat("In two classes", str(len(health.conflicts)), "images with the same pixels"),
            Stat("In two splits", str(len(health.leaks)), f"the same pixels; {near} more are nearly the same"),
        ]
    )
    findings_section(page, scene_findings(health))
    beside_section(page, health.beside)
    _classes(page, health)
    twins_section(page, health.twins)
    for name, dataset in health.splits.items():
        _samples(page, name, dataset)
    page.footer({"Dataset": str(health.root), "Command": command, "Version": f"fledge {fledge.__version__}"})
    return page


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def _classes(page: Page, health: SceneHealth) -> None:
    page.heading("Classes")
    counts = {name: dataset.summary().objects for name, dataset in health.splits.items()}
    names = list(dict.fromkeys(name for images in counts.values() for name in images))
    rows: list[list[Value]] = [[n, *(float(images.get(n, 0)) for images in counts.values())] for n in names]
    page.table([Column("Images"), *(Column(name, ".0f") for name in counts)], rows)
    sizes: list[list[Value]] = [
        [name, f"{w} × {h}", float(count)]
        for name, found in health.image_sizes.items()
        for (w, h), count in list(found.items())[:5]
    ]
    columns = [Column("Split"), Column("Image size"), Column("Images", ".0f")]
    page.table(columns, sizes, caption="The five most frequent sizes.")


def _samples(page: Page, name: str, dataset: SceneDataset) -> None:
    page.heading(f"Images of {name}")
    shown = spread(range(len(dataset.classes)), CLASSES)
    some = f" {len(shown)} of the {len(dataset.classes)} classes." if len(shown) < len(dataset.classes) else ""
    page.paragraph(f"Spread evenly over each class.{some}")
    rows = []
    for label in shown:
        mine = [i for i, other in enumerate(dataset.labels.tolist()) if other == label]
        pictures = [picture(dataset.path(i)) for i in spread(mine, SAMPLES)] if mine else []
        rows.append(
            GalleryRow(
                [*pictures, *[None] * (SAMPLES - len(pictures))], f"{dataset.classes[label]}: {len(mine)} images"
            )
        )
    page.gallery([""] * SAMPLES, rows)
