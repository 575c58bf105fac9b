from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fledge.errors import DataError, UsageError
from fledge.inference.journal import Journal, Record, read_journal

IDENTITY = {"scene": "abc", "score": 0.3, "name": "ä"}


def record(window: int, count: int = 2) -> Record:
    rng = np.random.default_rng(window)
    return Record(
        window,
        count == 0,
        rng.uniform(0, 99, (count, 5)).astype(np.float32),
        rng.uniform(0, 1, count).astype(np.float32),
        rng.integers(0, 9, count).astype(np.int32),
    )


def write(path: Path, counts: list[int]) -> list[int]:
    """A journal with windows 0, 1 … of so many boxes; where each record ends, and before them the header."""
    with Journal(path, IDENTITY) as journal:
        ends = [path.stat().st_size]
        for window, count in enumerate(counts):
            journal.append(record(window, count))
            ends.append(path.stat().st_size)
    return ends


def same(one: Record, two: Record) -> bool:
    arrays = ((one.boxes, two.boxes), (one.scores, two.scores), (one.labels, two.labels))
    return (one.window, one.empty) == (two.window, two.empty) and all(np.array_equal(a, b) for a, b in arrays)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "j", [2, 0, 7])
    identity, records = read_journal(tmp_path / "j")
    assert identity == IDENTITY
    assert all(same(a, record(k, n)) for k, (a, n) in enumerate(zip(records, [2, 0, 7], strict=True)))
    with Journal(tmp_path / "j", IDENTITY) as journal:
        assert journal.done == {0, 1, 2}


@given(st.lists(st.integers(0, 3), max_size=4), st.floats(0, 1))
@settings(max_examples=60)
def test_a_torn_end_is_cut_off(counts: list[int], where: float) -> None:
    """Torn last record, at any byte: cut off, the records before it stay, and the journal goes on from there."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        ends = write(path, counts)
        cut = round(where * ends[-1])
        path.write_bytes(path.read_bytes()[:cut])
        with Journal(path, IDENTITY) as journal:
            assert journal.done == {k for k, end in enumerate(ends[1:]) if end <= cut}
            journal.append(record(9))
        assert [r.window for r in read_journal(path)[1]] == [k for k, end in enumerate(ends[1:]) if end <= cut] + [9]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
@settings(max_examples=80)
def test_a_flipped_bit_is_refused(counts: list[int], where: float, bit: int) -> None:
    """Flipped bit anywhere: refused at its record, with a hint to begin again; never another box."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        write(path, counts)
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 1 << bit
        path.write_bytes(bytes(data))
        with pytest.raises(DataError, match=r"damaged journal|journal differs|not a journal"):
            Journal(path, IDENTITY)


def test_zeros_that_a_power_cut_leaves_are_a_torn_end(tmp_path: Path) -> None:
    ends = write(tmp_path / "j", [2, 1])
    with (tmp_path / "j").open("ab") as file:
        file.write(bytes(500))
    with Journal(tmp_path / "j", IDENTITY) as journal:
        assert journal.done == {0, 1}
    assert (tmp_path / "j").stat().st_size == ends[-1]


def test_a_duplicated_record_is_ignored(tmp_path: Path) -> None:
    """Duplicated record: the second one is ignored."""
    ends = write(tmp_path / "j", [2, 1])
    data = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(data + data[ends[0] : ends[1]])
    with Journal(tmp_path / "j", IDENTITY) as journal:
        assert journal.done == {0, 1}
        assert [r.window for r in journal.records()] == [0, 1]


def test_a_journal_of_something_else_is_refused_by_what_differs(tmp_path: Path) -> None:
    """Journal of another scene, model or setting: refused, with what differs."""
    write(tmp_path / "j", [2])
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(DataError, match=r"journal differs: .*another scene, score: .*--restart"):
        Journal(tmp_path / "j", {**IDENTITY, "scene": "def", "score": 0.5})
    assert (tmp_path / "j").read_bytes() == before
    (tmp_path / "k").write_bytes(b"my own notes" * 9)
    with pytest.raises(DataError, match="not a journal"):
        Journal(tmp_path / "k", IDENTITY)
    assert (tmp_path / "k").read_bytes() == b"my own notes" * 9


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", IDENTITY),
        pytest.raises(UsageError, match=r"in use: .*another process is working on this scene"),
    ):
        Journal(tmp_path / "j", IDENTITY)
    Journal(tmp_path / "j", IDENTITY).close()
