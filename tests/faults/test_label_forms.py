"""Faults in the labels of each form, with the place that the message must name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.miniatures import MINIATURES, SECOND

from fledge.data.datasets import FORMATS, open_dataset
from fledge.errors import DataError

# A word of a label file: a number, a name, or the text between two tags, quotes or commas.
WORD = re.compile(rb"[^\s<>\"',:{}\[\]()]+")
NASTY = [
    b"nan",
    b"inf",
    b"-",
    b"1e999",
    b"9" * 400,
    b"0x1F",
    b"1_0",
    b"",
    b" ",
    b"\xff",
    b"\0",
    b"\xd9\xa3",
    b"&",
    b"<x>",
    b"]",
]
NASTY += [b"null", b"-1e5", b"1,5", b"../../x", b"1e-300", b"true", b'"', b"\n", b"<!--", b"name", b"{", b"0"]


def label_file(root: Path, form: str) -> Path:
    """The label file of the first image of the split ``train``, or of all its images."""
    names, suffixes = ("a1", "P0001", "train", "instances_train"), (".txt", ".xml", ".json", ".geojson")
    found = [path for path in sorted(root.rglob("*")) if path.stem in names and path.suffix in suffixes]
    labels = [path for path in found if "ImageSets" not in path.parts and b"<x_right_top>" in path.read_bytes()]
    return (labels or [path for path in found if "ImageSets" not in path.parts])[0]


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in SECOND])
def test_any_word_of_a_label_file_replaced(form: str, tmp_path: Path) -> None:
    """Any word of a label file replaced by something that is no number, name or text: read, or refused with the file
    and the line, annotation or feature; never another error."""
    MINIATURES[form](tmp_path)
    path = label_file(tmp_path, form)
    whole = path.read_bytes()
    words = [found.span() for found in WORD.finditer(whole)]
    place = re.compile(
        rf"{re.escape(str(path))}(:\d+|: (annotation|image|category|feature)[ \w]*|: it has no list.*): "
    )
    unrecognised = re.compile(r"no split 'train'|not a dataset")  # the word by which the form is known was replaced
    refused = 0

    @settings(max_examples=40, derandomize=True, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(words), st.sampled_from(NASTY)), min_size=1, max_size=3))
    def check(changes: list[tuple[tuple[int, int], bytes]]) -> None:
        nonlocal refused
        content = whole
        for (start, end), new in sorted(changes, reverse=True):
            content = content[:start] + new + content[end:]
        path.write_bytes(content)
        message = ""
        try:
            open_dataset(tmp_path, "train", form=form)
        except DataError as error:
            message = str(error)
            refused += 1
        path.write_bytes(whole)
        head, *lines = message.split("\n")
        listed = [line for line in lines if line.startswith(f"  {tmp_path}")] or [head]
        assert not message or unrecognised.match(head) or all(place.search(f"{line}: ") for line in listed), message

    check()
    assert refused >= 10
