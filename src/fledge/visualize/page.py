"""A self-contained HTML page, built block by block: no file beside it, no request to anywhere, readable without script.

Every string is escaped. Running text may carry ``**bold**`` and `` `code` ``; charts and tables come as ``Markup`` from
this package.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fledge.errors import ResourceError
from fledge.visualize.images import Image, data_uri
from fledge.visualize.markup import Markup, escape, inline
from fledge.visualize.palette import Tone, class_colour, hex_colour
from fledge.visualize.shell import document
from fledge.visualize.style import page_script, page_style
from fledge.visualize.table import Column, Value, table


@dataclass(frozen=True)
class Stat:
    """A headline figure: what it is, its value as text, a few words below, and whose it is."""

    label: str
    value: str
    aside: str = ""
    tone: Tone | None = None


@dataclass(frozen=True)
class GalleryRow:
    """Pictures of one scene, one per column of the gallery (None leaves its place empty), and a caption."""

    pictures: Sequence[Image | None]
    caption: str = ""


class Page:
    """A report under a title. Each method adds one block below the last; ``write`` saves the page."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._subtitle = subtitle
        self._blocks: list[str] = []
        self._facts: dict[str, str] = {}

    def heading(self, text: str, level: Literal[2, 3] = 2) -> None:
        """A section heading."""
        self._blocks.append(f"<h{level}>{inline(text)}</h{level}>")

    def paragraph(self, text: str) -> None:
        """Running text."""
        self._blocks.append(f"<p>{inline(text)}</p>")

    def note(self, text: str, kind: Literal["note", "warning"] = "note") -> None:
        """Text set apart, such as the limits of what the page shows."""
        self._blocks.append(f'<div class="note {kind}" role="note"><p>{inline(text)}</p></div>')

    def stats(self, stats: Sequence[Stat]) -> None:
        """A row of headline figures."""
        cells = []
        for stat in stats:
            tone = f' class="t-{stat.tone}"' if stat.tone else ""
            aside = f'<dd class="aside">{inline(stat.aside)}</dd>' if stat.aside else ""
            cells.append(
                f'<div{tone}><dt>{inline(stat.label)}</dt><dd class="figure">{escape(stat.value)}</dd>{aside}</div>'
            )
        self._blocks.append(f'<dl class="stats">{"".join(cells)}</dl>')

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Value]],
        *,
        caption: str = "",
        tones: Sequence[Tone | None] | None = None,
        compare: Collection[int] | None = None,
    ) -> None:
        """A table of results; see ``fledge.visualize.table.table``."""
        self._blocks.append(table(columns, rows, caption=caption, tones=tones, compare=compare))

    def figure(self, chart: Markup, caption: str = "") -> None:
        """One chart."""
        self._blocks.append(_figure(chart, caption))

    def figures(self, charts: Sequence[tuple[Markup, str]]) -> None:
        """Charts with their captions, side by side where the screen has room."""
        self._blocks.append(f'<div class="figures">{"".join(_figure(chart, words) for chart, words in charts)}</div>')

    def class_key(self, classes: Sequence[str]) -> None:
        """The colours of the classes in the pictures."""
        items = "".join(
            f'<li><span style="background:{hex_colour(class_colour(i))}"></span>{escape(name)}</li>'
            for i, name in enumerate(classes)
        )
        self._blocks.append(f'<ul class="classes">{items}</ul>')

    def picture(self, image: Image, caption: str = "") -> None:
        """One picture at the width of the page at most."""
        limit = f"max-width:{image.shape[1]}px"
        words = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
        self._blocks.append(f'<figure style="{limit}">{_zoom(image, caption or "picture")}{words}</figure>')

    def gallery(self, columns: Sequence[str], rows: Sequence[GalleryRow]) -> None:
        """Rows of pictures to compare, one column per source; on a phone two beside each other."""
        head = "".join(f"<div>{inline(name)}</div>" for name in columns)
        body = "".join(_gallery_row(columns, row) for row in rows)
        style = f"--columns:{len(columns)}"
        self._blocks.append(
            f'<div class="gallery" style="{style}"><div class="head" aria-hidden="true">{head}</div>{body}</div>'
        )

    def code(self, text: str) -> None:
        """Commands or code, selected whole by one click."""
        self._blocks.append(f"<pre><code>{escape(text)}</code></pre>")

    @contextmanager
    def details(self, summary: str) -> Iterator[None]:
        """The blocks added inside the ``with`` are folded under ``summary``; printing unfolds them."""
        outer, self._blocks = self._blocks, []
        try:
            yield
        finally:
            inner, self._blocks = self._blocks, outer
            self._blocks.append(f"<details><summary>{inline(summary)}</summary>{''.join(inner)}</details>")

    def footer(self, facts: Mapping[str, str]) -> None:
        """How the page came about (versions, seed, command), at its foot; further calls add to it."""
        self._facts.update(facts)

    def html(self) -> str:
        """The whole page."""
        subtitle = f'<p class="subtitle">{inline(self._subtitle)}</p>' if self._subtitle else ""
        facts = "".join(f"<dt>{inline(k)}</dt><dd>{inline(v)}</dd>" for k, v in self._facts.items())
        footer = f"<footer><dl>{facts}</dl></footer>" if facts else ""
        blocks = "\n".join(self._blocks)
        body = (
            f"<main><header><h1>{escape(self._title)}</h1>{subtitle}</header>\n{blocks}\n{footer}</main>\n"
            '<dialog aria-label="picture"><div class="stage"><img src="data:," alt=""></div><p></p></dialog>'
        )
        return document(self._title, page_style(), Markup(body), page_script())

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Save the page; a reader sees the old file or the whole new one, never a part.

        Raises:
            ResourceError: the folder is missing or cannot be written.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_text(self.html(), encoding="utf-8")
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ResourceError(f"cannot write page: {target}: {error.strerror}: choose another folder") from error
        return target


def _figure(chart: Markup, caption: str) -> str:
    words = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
    return f'<figure class="card">{chart}{words}</figure>'


def _gallery_row(columns: Sequence[str], row: GalleryRow) -> str:
    cells = []
    for name, image in zip(columns, row.pictures, strict=True):
        alt = f"{name}: {row.caption}" if row.caption else name
        cells.append(f'<div class="cell"><span>{inline(name)}</span>{"" if image is None else _zoom(image, alt)}</div>')
    words = f"<figcaption>{inline(row.caption)}</figcaption>" if row.caption else ""
    return f'<figure><div class="cells">{"".join(cells)}</div>{words}</figure>'


def _zoom(image: Image, alt: str) -> str:
    height, width = image.shape[:2]
    return (
        f'<button type="button" class="zoom"><img src="{data_uri(image)}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}"></button>'
    )
