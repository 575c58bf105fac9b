"""Splits of scene classification datasets: by shares of each class, and by published lists."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.made import picture

from fledge.data.scenes.folder_per_class import open_scenes
from fledge.data.scenes.lists import pick_listed
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.errors import DataError, UsageError


def made(counts: list[int]) -> SceneDataset:
    names = tuple(f"c{label}/{k:04}.jpg" for label, count in enumerate(counts) for k in range(count))
    labels = np.repeat(np.arange(len(counts)), counts)
    return SceneDataset(Path("nowhere"), "all", tuple(f"c{k}" for k in range(len(counts))), names, labels)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sampled_from([{"train": 0.2, "test": 0.8}, {"train": 0.6, "val": 0.2, "test": 0.2}, {"a": 1 / 3}]),
    st.integers(0, 5),
)
@settings(max_examples=60)
def test_divided_by_class(counts: list[int], shares: dict[str, float], seed: int) -> None:
    dataset = made(counts)
    parts = dataset.divide(shares, seed)
    assert list(parts) == list(shares)
    taken = [name for part in parts.values() for name in part.names]
    assert len(set(taken)) == len(taken)
    if sum(shares.values()) > 0.999:
        assert set(taken) == set(dataset.names)
    for name, share in shares.items():
        part = parts[name]
        assert part.split == name
        assert part.names == tuple(sorted(part.names))
        for label, count in enumerate(counts):
            assert abs(int((part.labels == label).sum()) - share * count) <= 1
        assert all(n.startswith(f"c{label}/") for n, label in zip(part.names, part.labels, strict=True))
    again = made(counts).divide(shares, seed)
    assert all(again[name].names == parts[name].names for name in shares)


def test_seeds_differ_and_classes_do_not_depend_on_each_other() -> None:
    shares = {"train": 0.2, "test": 0.8}
    one, two = made([50, 50]).divide(shares, 0), made([50, 50]).divide(shares, 1)
    assert one["train"].names != two["train"].names
    other = made([50, 7]).divide(shares, 0)
    assert [n for n in other["train"].names if n[:2] == "c0"] == [n for n in one["train"].names if n[:2] == "c0"]
    names = tuple(f"wrapped/{name[:-4]}.tif" for name in made([50, 50]).names)
    copy = replace(made([50, 50]), names=names).divide(shares, 0)
    assert [Path(n).stem for n in copy["train"].names] == [Path(n).stem for n in one["train"].names]
    # What papers repeat must not change from one version to the next: by hashlib alone, and written down.
    drawn = sorted(range(12), key=lambda k: hashlib.blake2b(f"0/c0/{k:04}".encode(), digest_size=16).digest())
    train = made([12]).divide({"train": 0.25}, 0)["train"].names
    assert train == tuple(f"c0/{k:04}.jpg" for k in sorted(drawn[:3]))
    assert train == ("c0/0001.jpg", "c0/0008.jpg", "c0/0011.jpg")


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": 0.7, "b": 0.4}, {"a": -0.1}, {"a": float("nan")}])
def test_shares_that_cannot_be(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="shares"):
        made([3]).divide(shares, 0)
    with pytest.raises(UsageError, match="seed"):
        made([3]).divide({"a": 0.5}, -1)


def test_lists(tmp_path: Path) -> None:
    for name in (
        "Forest/Forest_1.tif",
        "Forest/Forest_2.tif",
        "River/River_1.tif",
        "River/same.tif",
        "Forest/same.tif",
    ):
        picture(tmp_path / "data" / name)
    dataset = open_scenes(tmp_path / "data")
    path = tmp_path / "eurosat-train.txt"
    path.write_text("River_1.jpg\n\nForest/Forest_2.tif\nForest_1 7\nRiver/same.jpg\n")
    picked = pick_listed(dataset, path)
    assert picked.split == "eurosat-train"
    assert picked.names == ("River/River_1.tif", "Forest/Forest_2.tif", "Forest/Forest_1.tif", "River/same.tif")
    assert [picked.classes[k] for k in picked.labels] == ["River", "Forest", "Forest", "River"]
    path.write_text("River_1.jpg\nRiver_9.jpg\nsame.jpg\nRiver/River_1.jpg\n")
    with pytest.raises(DataError) as refused:
        pick_listed(dataset, path, "train")
    text = str(refused.value)
    assert f"{path}:2: no image 'River_9.jpg'" in text
    assert f"{path}:3: 'same.jpg' is in several folders" in text
    assert f"{path}:4: 'River/River_1.jpg' is listed in line 1 already" in text
    path.write_bytes(b"\n")
    with pytest.raises(DataError, match="the list is empty"):
        pick_listed(dataset, path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="save it as UTF-8"):
        pick_listed(dataset, path)


@given(
    st.lists(st.sampled_from([b"c0/0000.jpg", b"c1/0001", b"0002.jpg", b"\xff", b"\0", b"..", b"/", b"", b" 7", b"x"]))
)
@settings(max_examples=60)
def test_any_list_is_read_or_refused_with_its_lines(words: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        path.write_bytes(b"\n".join(words))
        try:
            picked = pick_listed(made([3, 2]), path)
        except DataError as error:
            head, *lines = str(error).split("\n")
            assert str(path) in (lines or [head])[0]
            assert all(re.match(rf"  {re.escape(str(path))}:\d+: |  … and", line) for line in lines)
        else:
            assert len(picked.names) == len(set(picked.names)) > 0
