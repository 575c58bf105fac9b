"""The catalogue as text."""

from __future__ import annotations

import re

import pytest

from fledge.data.catalogue import CATALOGUE, Count, KnownDataset
from fledge.dataset_cards import BEGIN, END, dataset_card, dataset_line, datasets_table, with_table

ODD = KnownDataset(
    key="odd",
    title="Odd | set",
    task="unlabelled",
    page="https://example.org",
    terms="",
    format="",
    tree="odd/a\nodd/b",
    classes=("A320/321", "T junction"),
    counts=(
        Count("", 1234, verified=False),
        Count("", 1234, 5),
        Count("", None, 6, verified=False, note="counted twice"),
        Count("train", None, 2),
    ),
    class_counts={"T junction": 1200},
    split_rule="by chance",
    traps=("a trap of " + "many words " * 20,),
    unverified=("split_rule", "tree"),
)


def test_a_line() -> None:
    """A figure confirmed once is confirmed; another one is doubtful."""
    assert dataset_line(ODD) == "odd                  unlabelled          2 classes, 1,234 images, 5 or 6? objects"


def test_a_card_says_what_is_not_known() -> None:
    lines = dataset_card(ODD).split("\n")
    assert max(map(len, lines)) <= 100
    assert "terms       not known" in lines
    assert "form        none" in lines
    assert "split       by chance (not verified)" in lines
    assert "folders (not verified)" in lines
    assert lines[lines.index("folders (not verified)") + 1 :][:2] == ["  odd/a", "  odd/b"]
    assert "  all: 1,234 images (not verified)" in lines
    assert "  all: 6 objects (counted twice; not verified)" in lines
    assert "  train: 2 objects" in lines
    assert "  0 A320/321, 1 T junction (1,200)" in lines


@pytest.mark.parametrize("known", CATALOGUE.values(), ids=lambda known: known.key)
def test_every_card_has_every_class_and_trap(known: KnownDataset) -> None:
    text = " ".join(dataset_card(known).split())
    for fact in (known.page, *known.classes, *known.traps):
        assert " ".join(fact.split()) in text
    assert "\N{NO-BREAK SPACE}" not in dataset_card(known)


def test_the_table_has_a_row_a_dataset() -> None:
    _, *rows = [line for line in datasets_table().split("\n") if line.startswith("| ")]
    assert len(rows) == len(CATALOGUE)
    assert len({row.count(" | ") for row in rows}) == 1


def test_a_page_gets_its_table() -> None:
    page = with_table(f"before\n{BEGIN}\nof yesterday\n{END}\nafter")
    assert re.fullmatch(r"before\n<!--.*-->\nafter", page, re.DOTALL)
    assert "of yesterday" not in page
    assert with_table(page) == page
    with pytest.raises(ValueError, match="no place"):
        with_table("nothing here")
