"""DetectionDataset and what every reader checks: duplicates, changed files, messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.miniatures import image, text

from fledge.data.datasets import open_dataset
from fledge.data.labels import LabelProblem, by_kind, refuse, without_duplicates
from fledge.errors import DataError

A, B = "10 10 30 10 30 20 10 20", "5 5 25 15 20 25 2 14"


def make(root: Path, *labels: str) -> Path:
    for k, content in enumerate(labels):
        image(root / "train" / "images" / f"i{k}.png")
        text(root / "train" / "labelTxt" / f"i{k}.txt", content)
    return root


def test_of_identical_objects_one_stays(tmp_path: Path) -> None:
    """The same corners from another corner on, or the other way round, are the same box; another class is not."""
    turned, reversed_ = "30 10 30 20 10 20 10 10", "10 20 30 20 30 10 10 10"
    lines = [f"{A} plane 1", f"{B} plane 0", f"{A} plane 0", f"{A} ship 0", f"{turned} plane 0", f"{reversed_} plane 0"]
    dataset = open_dataset(make(tmp_path, "\n".join(lines), "", f"{A} plane 0\n{A} plane 0\n{A} plane 0"), "train")
    single, dropped = without_duplicates(dataset)
    assert dropped == 5
    assert np.diff(single.offsets).tolist() == [3, 0, 1]
    assert single.quads[:3].reshape(3, 8).tolist() == [[float(v) for v in q.split()] for q in (A, B, A)]
    assert single.labels.tolist() == [0, 0, 1, 0]
    assert single.difficult.tolist() == [True, False, False, False], "the first one stays"
    assert len(dataset.labels) == 9, "the dataset itself is untouched"
    again, none = without_duplicates(single)
    assert (none, again.quads.tolist()) == (0, single.quads.tolist())


def test_duplicates_of_an_empty_dataset(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, ""), "train", ["plane"])
    single, dropped = without_duplicates(dataset)
    assert (len(single), len(single.labels), dropped) == (1, 0, 0)


def test_an_ignored_copy_does_not_displace_an_object(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, f"{A} blur 0\n{A} plane 0"), "train", remap={"blur": ""})
    single, dropped = without_duplicates(dataset)
    assert (dropped, single.ignore.tolist()) == (0, [True, False])


def test_a_removed_image_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, f"{A} plane 0"), "train")
    dataset.paths[0].unlink()
    with pytest.raises(DataError, match=r"image changed: .*i0\.png: No such file"):
        dataset.read(0)


def test_a_longer_file_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, f"{A} plane 0"), "train")
    before = dataset.paths[0].stat().st_size
    with dataset.paths[0].open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=rf"i0\.png: it had {before} bytes and now has {before + 4} after its labels"):
        dataset.read(0)


def test_a_subset_keeps_the_stamps_of_its_images(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, f"{A} plane 0", f"{B} plane 0"), "train")
    dataset.paths[0].write_bytes(b"")
    part = dataset.subset([1])
    part.read(0)
    with pytest.raises(DataError, match=r"i0\.png"):
        dataset.subset([0]).read(0)


def test_problems_are_counted_by_kind_and_classes_share_a_line() -> None:
    unknown = [LabelProblem(f"f:{k}", "unknown class 'x'", "correct it", "class") for k in range(30)]
    other = [LabelProblem("g:1", "no area", "remove it", "no area")] * 21
    assert by_kind([*other, *unknown]) == "30 class, 21 no area"
    with pytest.raises(DataError) as caught:
        refuse([*unknown, *other], "d", "the hint")
    head, first, *rest = str(caught.value).split("\n")
    assert head == "51 problems in the labels (30 class, 21 no area): d: correct or remove them:"
    assert first == "  f:0: unknown class 'x' (30 objects, also at f:1, f:2, …): correct it"
    assert rest == ["  g:1: no area: remove it"] * 19 + ["  … and 2 more", "the hint"]
    refuse([], "d")
