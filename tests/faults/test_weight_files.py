"""Files of weights from strangers, and weights that do not fit."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from tests.faults.child import forked

from fledge.build import build_detector
from fledge.errors import DataError
from fledge.models.detectors.dense import DenseDetector
from fledge.models.torch_file import read
from fledge.models.weights import load_backbone_weights, load_detector_weights
from fledge.recipe import make_recipe

TINY = {"backbone": "resnet18_quarter", "neck_channels": 8, "head_convs": 1, "image_size": 64, "overlap": 0}


class Sentinel:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def detector(classes: str = "abc", seed: int = 0) -> DenseDetector:
    return build_detector(make_recipe({**TINY, "seed": seed}, "test"), classes)


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load_backbone_weights(detector(), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_in_a_torch_file(tmp_path: Path) -> None:
    """Pickle with os.system, nested zip, legacy tar form: refused with what it wants to call; no sentinel file."""
    sentinel = tmp_path / "sentinel"
    evil = {"conv1.weight": torch.ones(2), "extra": Sentinel(sentinel)}
    torch.save(evil, tmp_path / "new.pth")
    torch.save(evil, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Sentinel(sentinel), protocol=2))
    with zipfile.ZipFile(tmp_path / "nested.pth", "w") as nested:
        nested.write(tmp_path / "new.pth", "archive/data.pkl")
    with tarfile.open(tmp_path / "legacy.pth", "w") as legacy:
        legacy.add(tmp_path / "bare.pth", "pickle")
    refused(tmp_path / "new.pth", "it wants to call posix.system")
    for name in ("old.pth", "bare.pth"):
        with pytest.raises(ValueError, match="it wants to call posix"):
            read(str(tmp_path / name))
    refused(tmp_path / "nested.pth", "cannot read weights: .*damaged")
    refused(tmp_path / "legacy.pth", "neither safetensors nor a PyTorch file")
    assert not sentinel.exists()


def test_hostile_safetensors(tmp_path: Path) -> None:
    """safetensors with a 200 MB header, overlapping or outlying offsets, wrong sizes: refused, within 50 MB."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, dict[str, Any]] = {
        "overlap": {"a": entry, "b": {**entry, "data_offsets": [4, 12]}},
        "outside": {"a": {**entry, "data_offsets": [0, 8000]}},
        "negative": {"a": {**entry, "data_offsets": [-8, 0]}},
        "size": {"a": {**entry, "shape": [3]}},
    }
    for name, header in headers.items():
        text = json.dumps(header).encode()
        (tmp_path / name).write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with (tmp_path / "long").open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little") + b"{")
        file.truncate(200_000_100)
    (tmp_path / "cut").write_bytes(save({"a": torch.ones(1000)})[:500])

    def read_all() -> None:
        for path in (tmp_path / name for name in (*headers, "long", "cut")):
            try:
                load_backbone_weights(holder, path)
            except DataError as error:
                print("refused" if str(path) in str(error) else error)

    holder = detector()
    with forked(lambda: None) as idle, forked(read_all) as child:
        ended, base = child.end(), idle.end()
    assert ended.out.split() == ["refused"] * 6, ended.out
    assert ended.peak - base.peak < 50e6


def test_wrong_magic_bytes(tmp_path: Path) -> None:
    """Wrong magic bytes: refused, whatever the file is called."""
    for i, content in enumerate(
        (b"", b"\x89PNG\r\n\x1a\n" + bytes(20), b"GIF89a" + bytes(20), b"{}", b"\x93NUMPY" + bytes(20), bytes(64))
    ):
        path = tmp_path / f"{i}.safetensors"
        path.write_bytes(content)
        refused(path, "no weights")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    """A NaN in the weights is refused before training, by name."""
    (tmp_path / "nan").write_bytes(save({"conv1.0.weight": torch.full((8, 3, 3, 3), torch.nan)}))
    refused(tmp_path / "nan", "not finite: .*conv1.0.weight")


def test_wrong_number_of_classes() -> None:
    """Wrong number of classes in the head: refused; reset_head explicit; the list of loaded and skipped printed."""
    start = detector("ab", seed=1)
    for classes in ("abc", "ba"):
        student = detector(classes)
        before = {k: v.clone() for k, v in student.state_dict().items()}
        with pytest.raises(DataError, match=r"classes differ: runs/a: its 2 classes are a, b; .*reset_head"):
            load_detector_weights(student, start, "runs/a", "0" * 64)
        assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
        loaded = load_detector_weights(student, start, "runs/a", "0" * 64, reset_head=True)
        assert loaded.untouched == ("head.cls_out.bias", "head.cls_out.weight")
        for name, value in student.state_dict().items():
            kept = name.startswith("head.cls_out")
            assert torch.equal(value, before[name] if kept else start.state_dict()[name])
        assert "left at random 2 (head)" in str(loaded)
