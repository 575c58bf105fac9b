from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledge.errors import DataError, UsageError
from fledge.study.subsets import groups_by_pattern, nested_blocks, read_groups

GROUPS = {f"{g}_{n}": g for g, count in (("north", 8), ("south", 4)) for n in range(count)}


def test_a_stretch_of_each_group() -> None:
    assert nested_blocks(GROUPS, 0.5) == ["north_0", "north_1", "north_2", "north_3", "south_0", "south_1"]
    assert nested_blocks(GROUPS, 0.01) == ["north_0", "south_0"]
    assert nested_blocks(GROUPS, 1.0, ["north"]) == ["south_0", "south_1", "south_2", "south_3"]


def test_frames_are_in_the_order_of_their_numbers() -> None:
    assert nested_blocks(dict.fromkeys(["b_10", "a_9", "c_100", "d"], "x"), 0.75) == ["d", "a_9", "b_10"]


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_subsets_are_nested(first: float, second: float) -> None:
    small, large = sorted((first, second))
    assert set(nested_blocks(GROUPS, small)) <= set(nested_blocks(GROUPS, large))


@pytest.mark.parametrize("fraction", [0, -1, 1.5])
def test_fractions(fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        nested_blocks(GROUPS, fraction)


def test_groups_left_out() -> None:
    with pytest.raises(UsageError, match="no such group: west: the groups are north, south"):
        nested_blocks(GROUPS, 0.5, ["west"])
    with pytest.raises(UsageError, match="nothing is left"):
        nested_blocks(GROUPS, 0.5, ["north", "south"])


def test_patterns() -> None:
    assert groups_by_pattern(["f1_3", "f2_9"], "^f[0-9]") == {"f1_3": "f1", "f2_9": "f2"}
    assert groups_by_pattern(["f1_3"], "f([0-9])_") == {"f1_3": "1"}
    with pytest.raises(UsageError, match="no group: x"):
        groups_by_pattern(["x"], "[0-9]")
    with pytest.raises(UsageError, match="not a regular expression"):
        groups_by_pattern(["x"], "(")


def test_files_of_groups(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("name,group\na.jpg,north\nb,south\n")
    assert read_groups(file, ["a", "b"]) == {"a": "north", "b": "south"}
    with pytest.raises(DataError, match="1 images are not in it, 'c' first"):
        read_groups(file, ["a", "c"])
    file.write_text("image,scene\na,north\n")
    with pytest.raises(DataError, match="columns name and group"):
        read_groups(file, ["a"])
    with pytest.raises(DataError, match="no groups"):
        read_groups(tmp_path / "none.csv", ["a"])
