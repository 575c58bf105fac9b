"""The methods' cards, read from the headers of their files; ``docs/methods.md`` is made from the same text."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

ROOMS = ("distill", "pretrain")


@dataclass(frozen=True)
class MethodCard:
    """What a method's file says about it.

    Attributes:
        title: of the paper, with venue and year.
        summary: one sentence.
        text: the whole header.
    """

    title: str
    summary: str
    text: str


def method_cards() -> dict[str, MethodCard]:
    """Every method by its name, which is the stem of its file. The files are parsed, not imported."""
    files = [file for room in ROOMS for file in _files(room)]
    return {file.stem: _card(file) for file in files}


def methods_page() -> str:
    """``docs/methods.md``."""
    parts = ["# Methods\n\nMade from the headers of the methods' files by `python -m fledge.method_cards`.\n"]
    parts += [f"## `{name}`\n\n{card.text.strip()}\n" for name, card in method_cards().items()]
    return "\n".join(parts)


def _files(room: str) -> list[Path]:
    folder = Path(str(resources.files("fledge") / room))
    return sorted(p for p in folder.glob("*.py") if p.stem != "__init__") if folder.is_dir() else []


def _card(file: Path) -> MethodCard:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    return MethodCard(title=paragraphs[0], summary=paragraphs[2], text=text)


if __name__ == "__main__":
    print(methods_page(), end="")
