"""XML files as trees whose nodes know their line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from fledge.data.labels import LabelProblem
from fledge.errors import DataError

_DEEPEST = 32


@dataclass
class Node:
    """One element: its tag, the line it starts on, its own text, and its children."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def find(self, tag: str) -> Node | None:
        """The first child with a tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def value(self, tag: str) -> str:
        """The text of the first child with a tag, or ""."""
        child = self.find(tag)
        return child.text.strip() if child else ""

    def all(self, tag: str) -> list[Node]:
        """All descendants with a tag, in the order of the file."""
        found: list[Node] = []
        for child in self.children:
            found += [child] if child.tag == tag else child.all(tag)
        return found


def load_xml(path: Path) -> Node | LabelProblem:
    """The root element, or what is wrong with the file.

    Document types are refused, so that no entity can expand or name another file.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read labels: {path}: {error.strerror}: check its permissions") from error
    top = Node("", 0)
    open_nodes = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _: dict[str, str]) -> None:
        if len(open_nodes) > _DEEPEST:
            raise ValueError(f"elements nested more than {_DEEPEST} deep")
        node = Node(tag, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_: str) -> None:
        open_nodes.pop()

    def text(data: str) -> None:
        open_nodes[-1].text += data

    def doctype(*_: object) -> None:
        raise ValueError("a document type is not allowed")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        reason = str(error).partition(": line")[0]
        where, remedy = f"{path}:{parser.CurrentLineNumber}", "restore the file from an intact copy"
        return LabelProblem(where, f"not XML: {reason}", remedy, "damaged file")
    return top.children[0]
