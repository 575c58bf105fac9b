"""Rules about the code as a whole: which room may import which, how long files are, what must not be in them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fledge"
FILES = sorted(SOURCE.rglob("*.py"))

# From the bottom up; a file may import its own room and those of the lines above it.
LAYERS = (
    ("", "errors"),
    ("files", "distributed"),
    ("geometry",),
    ("types",),
    ("losses", "assign", "data", "models"),
    ("models.detectors",),
    ("distill", "pretrain", "evaluation", "visualize"),
    ("engine", "inference", "export", "reporting"),
    ("settings",),
    ("method_settings", "recipe"),
    ("embedders",),
    ("distillers", "build"),
    ("runs",),
    ("validation",),
    ("training", "file_evaluation", "provenance", "exporting"),
    (
        "api",
        "benchmark",
        "scenes",
        "quickstart",
        "diagnosis",
        "method_cards",
        "dataset_cards",
        "pictures",
        "replay",
        "serve",
        "cluster",
    ),
    ("study",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Within one level these may import those. Inference needs only the Detector protocol of engine.train_step.
SIDEWAYS = {
    ("export", "inference"),
    ("export", "engine"),
    ("recipe", "method_settings"),
    ("build", "distillers"),
    ("cluster", "scenes"),
    ("quickstart", "api"),
}


def room_of(module: str) -> str:
    """The room of a dotted module, ``fledge`` itself being the room without a name."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:2] == ["models", "detectors"] else (parts[0] if parts else "")


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(tree: ast.AST) -> set[str]:
    """Every fledge module imported anywhere in a file, but for ``if TYPE_CHECKING``."""
    found: set[str] = set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                m
                if (SOURCE.parent / Path(*m.split("."))).with_suffix(".py").exists()
                or (SOURCE.parent / Path(*m.split("."))).is_dir()
                else str(node.module)
                for m in whole
            }
        elif not only_for_types(node):
            todo += ast.iter_child_nodes(node)
    return {m for m in found if m == "fledge" or m.startswith("fledge.")}


def violations(path: Path) -> list[str]:
    here = room_of(module_of(path))
    if not here:  # fledge/__init__.py forwards names on first use
        return []
    wrong = []
    for module in sorted(imports(ast.parse(path.read_text(encoding="utf-8")))):
        there = room_of(module)
        assert there in LEVEL, f"{module} is in no layer: add its room to LAYERS"
        if here != there and LEVEL[there] >= LEVEL[here] and (here, there) not in SIDEWAYS:
            wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    return wrong


def test_every_room_is_in_a_layer() -> None:
    assert {room_of(module_of(path)) for path in FILES} <= set(LEVEL)


def test_imports_point_downwards() -> None:
    assert [line for path in FILES for line in violations(path)] == []


def test_the_rule_would_notice(tmp_path: Path) -> None:
    tree = ast.parse("import fledge.api\nfrom fledge.data import labels\nfrom fledge import engine\nimport torch\n")
    assert imports(tree) == {"fledge.api", "fledge.data.labels", "fledge.engine"}
    hidden = ast.parse("def f():\n    from fledge.cli.train import resolve\nif TYPE_CHECKING:\n    import fledge.api\n")
    assert imports(hidden) == {"fledge.cli.train"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_short_and_finished(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 600
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


FORBIDDEN = {
    "eval",
    "exec",
    "torch.load",
    "yaml.load",
    "pickle",
    "marshal",
    "os.system",
    "dill",
    "cloudpickle",
    "joblib",
}


def unsafe_loads(tree: ast.AST) -> list[str]:
    """Every ``torch.load`` that does not say ``weights_only=True`` in so many words."""
    loads = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "torch.load"]
    return [
        ast.unparse(n)
        for n in loads
        if not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in n.keywords)
    ]


def names_used(tree: ast.AST) -> set[str]:
    """Imported modules, and every called function as written."""
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add(str(node.module).split(".")[0])
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            used.add(ast.unparse(node.func))
            used |= {f"shell:{ast.unparse(k.value)}" for k in node.keywords if k.arg == "shell"}
            used |= {"allow_pickle" for k in node.keywords if k.arg == "allow_pickle"}
    return used


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_can_run_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = {"torch.load"} if path.name == "torch_file.py" and not unsafe_loads(tree) else set()
    assert not names_used(tree) & (FORBIDDEN - allowed | {"shell:True", "allow_pickle"})


def test_that_rule_would_notice() -> None:
    bad = "import pickle\nfrom torch import load\ntorch.load(x)\neval(y)\nsubprocess.run(c, shell=True)\n"
    assert {"pickle", "torch.load", "eval", "shell:True"} <= names_used(ast.parse(bad))
    loads = "torch.load(x)\ntorch.load(x, weights_only=False)\ntorch.load(x, weights_only=safe)\n"
    assert len(unsafe_loads(ast.parse(loads))) == 3
    assert not unsafe_loads(ast.parse("torch.load(x, weights_only=True)"))


@pytest.mark.parametrize(
    "path",
    [p for room in ("distill", "pretrain") for p in sorted((SOURCE / room).glob("*.py")) if p.stem != "__init__"],
    ids=lambda p: p.stem,
)
def test_methods_say_where_they_come_from(path: Path) -> None:
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = header.split("\n\n")
    assert len(paragraphs) >= 5
    assert re.search(r"\b(19|20)\d\d\b", paragraphs[0])  # title, venue, year
    assert "https://" in paragraphs[1]
    assert re.search(r"^Differs from the paper:(\n|$)", header, re.MULTILINE)
    assert "\n- " in header.split("Differs from the paper:")[1]
    assert re.search(r"^Published results", header, re.MULTILINE)
    assert re.search(r"\d\d\.\d", header.split("Published results")[1])


def test_the_methods_page_is_up_to_date() -> None:
    from fledge.method_cards import methods_page

    page = ROOT / "docs" / "methods.md"
    if not page.exists():
        pytest.skip("no docs here")
    assert page.read_text(encoding="utf-8") == methods_page()


def test_the_table_of_datasets_is_up_to_date() -> None:
    """`make docs` writes it."""
    from fledge.dataset_cards import with_table

    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert with_table(page) == page


def test_the_reliability_page_is_up_to_date() -> None:
    """`make docs` writes it."""
    from tests.faults.page import page

    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == page()
