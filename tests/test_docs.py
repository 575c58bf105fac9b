"""The examples in README and docs are Python that compiles and commands that exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from fledge.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.is_file()]
NAMES = {str(c.name or getattr(c.callback, "__name__", "")) for c in app.registered_commands}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def commands(text: str) -> list[list[str]]:
    """The words of every ``fledge …`` line in shell blocks."""
    lines = [line for body in blocks(text, "sh", "bash", "console") for line in body.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`(fledge [^`\n]+)`", FENCE.sub("", text))  # messages start like this too: known commands only
    lines += [part for part in inline if part.isascii() and part.split()[1] in NAMES]
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and Path(words[0]).name == "fledge":
            found.append(words[1:])
    return found


def complaint(words: list[str]) -> str | None:
    """What the command line would say against these arguments; paths need not exist."""
    group: Any = typer.main.get_command(app)
    words = [word for word in words if word != "--debug"]
    if not words or words[0].startswith("-"):
        return None if set(words) <= {"--help", "-h", "--version"} else f"unknown option {words[0]}"
    if words[0] == "COMMAND":
        return None
    command = group.commands.get(words[0])
    if command is None:
        return f"unknown command {words[0]}"
    if "--help" in words or not words[1:]:
        return None
    try:
        command.make_context(words[0], words[1:], resilient_parsing=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "python", "py"):
        if ">>>" not in block:
            ast.parse(block, str(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist_with_these_options(page: Path) -> None:
    said = {shlex.join(words): complaint(words) for words in commands(page.read_text(encoding="utf-8"))}
    assert {line: text for line, text in said.items() if text} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", t)]
    assert [t for t in targets if t and not (page.parent / t).exists()] == []


def test_the_checks_would_notice() -> None:
    assert complaint(["trian", "x"]) == "unknown command trian"
    assert "no such option" in str(complaint(["train", "x", "--epochs", "3"])).lower()
    assert complaint(["train", "x", "--set", "epochs=3"]) is None
    assert commands("```sh\n$ fledge train x --out y  # comment\nls\n```\n`fledge doctor`") == [
        ["train", "x", "--out", "y"],
        ["doctor"],
    ]
