"""What every reader owes, whatever its format: add a format to ``tests.data.miniatures`` and it is held to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.miniatures import (
    LABELS,
    MINIATURES,
    NO_DIFFICULT,
    SCENES,
    SECOND,
    WIDTH,
    classes_of,
    corners_of,
    scenes_of,
)

from fledge.data.datasets import FORMATS, detect_format, find_splits, open_dataset
from fledge.data.labels import DetectionDataset
from fledge.errors import DataError, UsageError
from fledge.quickstart.plan import plan_own


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    MINIATURES[request.param](tmp_path)
    return str(request.param)


@pytest.fixture
def dataset(form: str, tmp_path: Path) -> DetectionDataset:
    return open_dataset(tmp_path, "train", form=form)


def test_the_format_and_its_splits_are_found_by_the_folders(form: str, tmp_path: Path) -> None:
    """Every miniature is recognised as itself; where two formats share their folders, the second must be named."""
    assert detect_format(tmp_path) == SECOND.get(form, form)
    assert detect_format(tmp_path, form) == form
    assert open_dataset(tmp_path, "train", form=form).format == form
    assert FORMATS[form].splits(tmp_path) == ("test", "train", "val")
    assert find_splits(tmp_path) == find_splits(tmp_path, form) == {"train": "train", "val": "val"}


def test_a_form_that_does_not_fit_shows_its_folders(form: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"not a dataset in the form {form}: .*: make it look like this:") as caught:
        open_dataset(tmp_path / "empty", "train", form=form)
    assert FORMATS[form].tree in str(caught.value)
    with pytest.raises(UsageError, match=r"no form 'dotta': .*: choose one of dota, "):
        open_dataset(tmp_path, "train", form="dotta")


def test_index_and_targets(form: str, dataset: DetectionDataset) -> None:
    assert (dataset.ids, len(dataset), dataset.summary().empty) == (tuple(scenes_of(form)["train"]), 3, 1)
    assert dataset.read(0).shape == (64, 96, 3)
    for i, count in enumerate((2, 0, 3)):
        targets = dataset.targets(i)
        assert targets.image_id == dataset.ids[i]
        assert targets.quads is not None
        assert (targets.boxes.shape, targets.quads.shape) == ((count, 5), (count, 4, 2))
        assert (targets.boxes.dtype, targets.quads.dtype) == (torch.float32, torch.float32)
        kinds = (targets.labels.dtype, targets.ignore.dtype, targets.difficult.dtype)
        assert kinds == (torch.int64, torch.bool, torch.bool)
        assert bool((targets.boxes[:, 2] >= targets.boxes[:, 3]).all() & (targets.boxes[:, 3] > 0).all())
        assert bool(((targets.boxes[:, 4] >= -torch.pi / 2) & (targets.boxes[:, 4] < torch.pi / 2)).all())
        assert bool(((targets.labels >= 0) & (targets.labels < len(dataset.classes))).all())


@pytest.mark.parametrize("split", SCENES)
def test_every_format_tells_the_same_objects(form: str, tmp_path: Path, split: str) -> None:
    dataset = open_dataset(tmp_path, split, form=form)
    assert dataset.classes == classes_of(form)
    for i, things in enumerate(scenes_of(form)[split].values()):
        targets = dataset.targets(i)
        assert targets.quads is not None
        expected = torch.tensor([corners_of(thing) for thing in things]).reshape(-1, 4, 2)
        assert torch.allclose(targets.quads, expected, atol=1e-3)
        assert targets.labels.tolist() == [LABELS.get(form, (0, 1))[thing.label] for thing in things]
        flags = [thing.difficult and form not in NO_DIFFICULT for thing in things]
        assert targets.difficult.tolist() == flags
        for box, thing in zip(targets.boxes.tolist(), things, strict=True):
            assert box[:2] == pytest.approx([thing.cx, thing.cy], abs=1e-3)
            assert box[2:4] == pytest.approx(sorted([thing.w, thing.h], reverse=True), abs=1e-3)
            turned = thing.angle + (np.pi / 2 if thing.w < thing.h else 0)
            assert np.sin(box[4] - turned) == pytest.approx(0, abs=1e-4)


def test_trainval_is_both(form: str, tmp_path: Path) -> None:
    both = open_dataset(tmp_path, "trainval", form=form)
    assert (both.split, both.ids) == ("trainval", (*scenes_of(form)["train"], *scenes_of(form)["val"]))
    assert np.array_equal(both.boxes[-1], open_dataset(tmp_path, "val", form=form).boxes[0])
    assert np.diff(both.offsets).tolist() == [2, 0, 3, 1, 0]


def test_classes_of_a_checkpoint_and_names_given_others(form: str, tmp_path: Path) -> None:
    """A class list from elsewhere needs a renaming; "" makes the objects of a name ignored ones."""
    names = sorted(
        name for name, count in open_dataset(tmp_path, "train", form=form).summary().objects.items() if count
    )
    with pytest.raises(DataError, match=r"class lists differ: the labels name .*; the classes are tree, house"):
        open_dataset(tmp_path, "train", ["tree", "house"], form=form)
    renamed = open_dataset(tmp_path, "train", ["tree", "house"], remap=dict.fromkeys(names, "House"), form=form)
    assert renamed.classes == ("tree", "house")
    assert renamed.labels.tolist() == [1] * 5
    ignored = open_dataset(tmp_path, "train", remap={names[0]: ""}, form=form)
    assert ignored.ignore.any()
    assert (ignored.labels[ignored.ignore] == 0).all()


def test_an_image_that_changes_during_the_run_is_refused(dataset: DetectionDataset) -> None:
    dataset.read(1)
    path = dataset.paths[1]
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    with pytest.raises(DataError, match=rf"image changed: .*{path.name}: it was written to after"):
        dataset.read(1)
    dataset.read(0)


def test_an_unknown_split_is_refused(form: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian': .*: choose one of 'test', 'train', 'val'"):
        open_dataset(tmp_path, "trian", form=form)
    with pytest.raises(DataError, match=r"no .*split 'trian'|no DOTA split"):
        FORMATS[form].parse(tmp_path, "trian")


@pytest.mark.slow
def test_a_quickstart_can_be_planned(form: str, tmp_path: Path) -> None:
    plan = plan_own(tmp_path / "out", tmp_path, [2], 64, 1, None, "cpu")
    assert (plan.student.train_split, plan.student.eval_split) == ("train", "val")
    assert any(f"long side {WIDTH} px" in note for note in plan.notes)
