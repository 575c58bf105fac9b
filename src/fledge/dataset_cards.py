"""The catalogue of public datasets as text: ``fledge datasets``, and the table in ``docs/datasets.md``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill

from fledge.data.catalogue import CATALOGUE, Count, KnownDataset

BEGIN = "<!-- The table below is written by `make docs` from src/fledge/data/catalogue; do not edit it here. -->"
END = "<!-- End of the table. -->"
_UNKNOWN = "not known"
_TIED = "\N{NO-BREAK SPACE}"
_HEAD = ("Dataset", "Task", "Classes", "Images", "Objects", "Splits (images)", "Terms", "Form", "Recipes")


def dataset_line(known: KnownDataset) -> str:
    """One line: key, what the labels are, classes, images and objects."""
    kind = "+".join(known.shapes) or known.task
    classes = f"{len(known.classes)} class{'es' if len(known.classes) > 1 else ''}" if known.classes else ""
    images = _figures(known.counts_of(), "images")
    objects = _figures(known.counts_of(), "objects")
    parts = [classes, images and f"{images} images", objects and f"{objects} objects"]
    return f"{known.key:20} {kind:19} {', '.join(part for part in parts if part)}".rstrip()


def dataset_card(known: KnownDataset) -> str:
    """All that is known about a dataset, as lines for a terminal."""
    others = (f"{form} ({what})" for form, what in known.other_formats.items())
    heads = {
        "page": known.page,
        "terms": known.terms,
        "labels": ", ".join((known.task, *known.shapes)),
        "form": ", ".join((known.format or "none", *others)),
        "image size": known.image_size,
        "split": known.split_rule,
        "recipes": known.recipes or "none",
    }
    fields = {"image size": "image_size", "split": "split_rule"}
    lines = [known.title, ""]
    for head, text in heads.items():
        doubt = " (not verified)" if fields.get(head, head) in known.unverified else ""
        lines.append(_wrapped(f"{head:12}", (text or _UNKNOWN) + doubt))
    lines += ["", "folders" + (" (not verified)" if "tree" in known.unverified else "")]
    lines += [f"  {line}" for line in known.tree.split("\n")]
    lines += ["", "published counts", *(f"  {_sentence(count)}" for count in known.counts)]
    for title, names in {"classes, in label order": known.classes, **known.levels}.items():
        numbered = (_with_count(name, label, known) for label, name in enumerate(names))
        lines += ["", title, _wrapped("  ", ", ".join(numbered) or "none")]
    if known.overlaps:
        shared = (_wrapped("  - ", f"{key}: {what}") for key, what in known.overlaps.items())
        lines += ["", "images in common with", *shared]
    lines += ["", "traps", *(_wrapped("  - ", trap) for trap in known.traps)]
    return "\n".join(lines)


def datasets_table() -> str:
    """The table of ``docs/datasets.md``, between its two marks."""
    rows = [f"| {' | '.join(_HEAD)} |", "|" + "---|" * len(_HEAD), *map(_row, CATALOGUE.values())]
    return "\n".join([BEGIN, "", *rows, "", END])


def with_table(page: str) -> str:
    """A page with the table between its marks replaced by today's.

    Raises:
        ValueError: the page lacks the marks.
    """
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    if not re.search(pattern, page, re.DOTALL):
        raise ValueError("the page has no place for the table")
    return re.sub(pattern, lambda _: datasets_table(), page, flags=re.DOTALL)


def _row(known: KnownDataset) -> str:
    kind = known.task + (f", {' and '.join(known.shapes)}" if known.shapes else "")
    splits = [f"{split} {_figures(known.counts_of(split), 'images') or '–'}" for split in known.splits]
    cells = (
        f"[{known.title}]({known.page})" if known.page else known.title,
        kind,
        str(len(known.classes) or "–"),
        _figures(known.counts_of(), "images") or "–",
        _figures(known.counts_of(), "objects") or "–",
        " · ".join(splits) or "–",
        known.terms + ("?" if "terms" in known.unverified else "") or "–",
        ", ".join(f"`{form}`" for form in (known.format, *known.other_formats) if form) or "–",
        f"`{known.recipes}`" if known.recipes else "–",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _figures(counts: Sequence[Count], which: str) -> str:
    """The different figures of one kind, a question mark behind those that were not confirmed."""
    verified: dict[int, bool] = {}
    for count in counts:
        value = getattr(count, which)
        if value is not None:
            verified[value] = verified.get(value, False) or count.verified
    return " or ".join(f"{value:,}{'' if sure else '?'}" for value, sure in verified.items())


def _sentence(count: Count) -> str:
    parts = [f"{value:,} {word}" for value, word in ((count.images, "images"), (count.objects, "objects")) if value]
    notes = [count.note, "" if count.verified else "not verified"]
    note = "; ".join(note for note in notes if note)
    return f"{count.split or 'all'}: {', '.join(parts)}" + (f" ({note})" if note else "")


def _with_count(name: str, label: int, known: KnownDataset) -> str:
    count = known.class_counts.get(name)
    return f"{label} {name}".replace(" ", _TIED) + (f"{_TIED}({count:,})" if count is not None else "")


def _wrapped(head: str, text: str) -> str:
    lines = fill(text, 100, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False)
    return lines.replace(_TIED, " ")


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _rewrite(Path(sys.argv[1]), with_table)
