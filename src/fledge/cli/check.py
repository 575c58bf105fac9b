"""``fledge check``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fledge.cli.tile import DataArgument, FormOption

if TYPE_CHECKING:
    from fledge.data.duplicates import Twin
    from fledge.data.health import Health
    from fledge.data.scenes.health import ImageHealth
    from fledge.visualize.page import Page

SHOWN = 20


def check(
    data: DataArgument,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another dataset: compare classes, look for the same images.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The public dataset that it is, such as dior-r.")
    ] = None,
    from_: FormOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write check.html and check.json here.")] = None,
) -> None:
    """Report a dataset's health: classes, sizes, angles, bad labels, images that occur twice, and counts as published.

    For detection in any format that fledge reads, for scenes with a folder for each class, LoveDA, and images alone.
    Exits with 3 if a label or image cannot be read, or if an image has the same pixels in two splits or classes.

    Examples:

        fledge check mydata

        fledge check mydata --out mydata_check

        fledge check mydata --against benchmark --out mydata_check

        fledge check DIOR-R --as dior-r

        fledge check EuroSAT_RGB --as eurosat
    """
    from fledge.files import write_json

    command = f"fledge check {data}" + (f" --against {against}" if against else "")
    command += (f" --as {name}" if name else "") + (f" --from {from_}" if from_ else "")
    if from_ is None and _has_images(data):
        checked = _images(data, against, name)
    else:
        checked = _detection(data, against, name, from_)
    if out:
        write_json(out / "check.json", checked.record())
        checked.page(command).write(out / "check.html")
        print(f"written: {out / 'check.html'}, {out / 'check.json'}")
    if not checked.passed:
        raise SystemExit(3)


class _Checked(NamedTuple):
    """What a check of any task gives, after its text was printed."""

    passed: bool
    record: Callable[[], dict[str, Any]]
    page: Callable[[str], Page]


def _has_images(data: Path) -> bool:
    """Whether a folder is no detection dataset, but one of scenes, masks or images alone."""
    from fledge.data.datasets import FORMATS
    from fledge.data.scenes.health import holds_images

    return data.is_dir() and not any(form.splits(data) for form in FORMATS.values()) and holds_images(data)


def _detection(data: Path, against: Path | None, name: str | None, form: str | None) -> _Checked:
    from fledge.data.health import check_dataset, health_record
    from fledge.engine.progress import progress
    from fledge.visualize.health_page import health_page

    health = check_dataset(data, against, progress, name, form)
    _print(health)
    return _Checked(health.passed, lambda: health_record(health), lambda command: health_page(health, command))


def _images(data: Path, against: Path | None, name: str | None) -> _Checked:
    from fledge.data.scenes.health import check_images, image_record
    from fledge.engine.progress import progress
    from fledge.visualize.image_page import image_page

    health = check_images(data, against, progress, name)
    _print_images(health)
    return _Checked(health.passed, lambda: image_record(health), lambda command: image_page(health, command))


def _print_images(health: ImageHealth) -> None:
    from rich.console import Console
    from rich.table import Table

    from fledge.data.scenes.findings import image_findings

    table = Table("", *health.splits, title=str(health.root))
    table.add_row("images", *(str(len(dataset)) for dataset in health.splits.values()))
    for name in dict.fromkeys(name for counts in health.counts.values() for name in counts):
        table.add_row(name, *(f"{counts.get(name, 0):,}" for counts in health.counts.values()))
    Console().print(table)
    _print_twins(health.twins)
    for finding in image_findings(health):
        print(f"{finding.kind}: {finding.where}: {finding.text}")


def _print(health: Health) -> None:
    from rich.console import Console
    from rich.table import Table

    from fledge.data.findings import findings

    table = Table("", *health.splits, title=str(health.root))
    splits = health.splits.values()
    for key in ("images", "empty"):
        table.add_row(key, *(str(getattr(split.counts, key)) for split in splits))
    for name in dict.fromkeys(name for split in splits for name in split.counts.objects):
        table.add_row(name, *(str(split.counts.objects.get(name, 0)) for split in splits))
    for word, which in (("√area px", "sizes"), ("long side px", "lengths")):
        ranges = [getattr(split, which) for split in splits]
        table.add_row(f"{word}, 1–50–99 %", *(f"{r[0]:.0f}–{r[2]:.0f}–{r[4]:.0f}" if r else "–" for r in ranges))
    for k, label in enumerate(("√area, 4 to 1024 px", "long by short side, 1 to 8", "angle, −90° to 90°")):
        table.add_row(label, *(_bars(split.histograms[k].counts) for split in splits))
    Console().print(table)
    for split in splits:
        _list([f"{p.where}: {p.what}: {p.remedy}" for p in split.dataset.skipped])
    _print_twins(health.twins)
    for finding in findings(health):
        print(f"{finding.kind}: {finding.where}: {finding.text}")


def _print_twins(twins: Sequence[Twin]) -> None:
    _list([f"same pixels: {twin.path} and {twin.other}" for twin in twins if twin.exact])
    near = [twin for twin in twins if not twin.exact and twin.split != twin.other_split]
    _list([f"nearly the same: {twin.path} and {twin.other}" for twin in near])


def _bars(counts: tuple[int, ...]) -> str:
    """A histogram as a word: a mark for each bin, a blank for one without anything."""
    most = max(counts)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * count / most)] if count else " " for count in counts) if most else "–"


def _list(lines: list[str]) -> None:
    """The first lines of a long list."""
    for line in lines[:SHOWN]:
        print(line)
    if len(lines) > SHOWN:
        print(f"… and {len(lines) - SHOWN} more (--out writes all)")
