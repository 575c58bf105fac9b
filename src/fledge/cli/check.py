"""``fledge check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fledge.cli.tile import DataArgument

if TYPE_CHECKING:
    from fledge.data.health import Health

SHOWN = 20


def check(
    data: DataArgument,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another dataset: compare classes, look for the same images.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The public dataset that it is, such as dior-r.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write check.html and check.json here.")] = None,
) -> None:
    """Report a dataset's health: classes, sizes, angles, bad labels, images that occur twice, and counts as published.

    Exits with 3 if a label or image cannot be read, or if an image lies in two splits with the same pixels.

    Examples:

        fledge check mydata

        fledge check mydata --out mydata_check

        fledge check mydata --against benchmark --out mydata_check

        fledge check DIOR-R --as dior-r
    """
    from fledge.data.health import check_dataset, health_record
    from fledge.engine.progress import progress
    from fledge.files import write_json
    from fledge.visualize.health_page import health_page

    health = check_dataset(data, against, progress, name)
    _print(health)
    if out:
        write_json(out / "check.json", health_record(health))
        command = f"fledge check {data}" + (f" --against {against}" if against else "")
        command += f" --as {name}" if name else ""
        health_page(health, command).write(out / "check.html")
        print(f"written: {out / 'check.html'}, {out / 'check.json'}")
    if not health.passed:
        raise SystemExit(3)


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
    _list([f"same pixels: {twin.path} and {twin.other}" for twin in health.twins if twin.exact])
    near = [twin for twin in health.twins if not twin.exact and twin.split != twin.other_split]
    _list([f"nearly the same: {twin.path} and {twin.other}" for twin in near])
    for finding in findings(health):
        print(f"{finding.kind}: {finding.where}: {finding.text}")


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
