from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import fledge.engine.checkpoint as module
from fledge.engine.checkpoint import (
    environment,
    load_checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    read_manifest,
    restore_optimizer,
    save_checkpoint,
)
from fledge.errors import DataError, ResourceError

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip
Groups = dict[str, dict[str, Tensor]]


def groups(seed: int = 0) -> Groups:
    generator = torch.Generator().manual_seed(seed)
    tensors = {str(d): (torch.rand(3, 5, generator=generator) * 100).to(d) for d in DTYPES}
    shapes = {
        "scalar": torch.tensor(3.5),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "transposed": torch.arange(12.0).reshape(3, 4).T,
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "channels_last": torch.rand(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
    }
    return {"model": tensors, "optimizer": shapes}


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(a: Groups, b: Groups) -> None:
    """Bit for bit: NaN equals NaN, 0 differs from -0."""
    assert {g: sorted(t) for g, t in a.items()} == {g: sorted(t) for g, t in b.items()}
    for g in a:
        for k, x in a[g].items():
            y = b[g][k]
            assert (x.dtype, x.shape, bits(x)) == (y.dtype, y.shape, bits(y)), (g, k)


META = {"classes": ["ship", "naïve"], "pixel_scale": 0.1 + 0.2, "nested": {"a": [1, 2.5, None, True]}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "checkpoints", 12, groups(), META)


def test_everything_comes_back(saved: Path) -> None:
    manifest, loaded = load_checkpoint(saved)
    assert_same(loaded, groups())
    assert (manifest["step"], manifest["meta"]) == (12, META)
    assert saved.name == "step-00000012"
    _, some = load_checkpoint(saved, "model")
    assert list(some) == ["model"]


def test_a_folder_holds_tensors_and_json_only(saved: Path) -> None:
    assert {p.name for p in saved.iterdir()} == {"manifest.json", "model.safetensors", "optimizer.safetensors"}
    manifest = json.loads((saved / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        data = (saved / name).read_bytes()
        assert facts == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_flipped_bit_anywhere_in_the_manifest_is_refused(saved: Path) -> None:
    path = saved / "manifest.json"
    good = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(good):
            file.seek(position)
            file.write(bytes([byte ^ 1 << (position % 8)]))
            with pytest.raises(DataError):
                load_checkpoint(saved)
            file.seek(position)
            file.write(bytes([byte]))
    assert_same(load_checkpoint(saved)[1], groups())


def test_a_manifest_with_the_same_meaning_and_other_bytes_is_refused(saved: Path) -> None:
    edit(saved, lambda m: None)
    with pytest.raises(DataError, match="hash of its manifest differs"):
        load_checkpoint(saved)


def test_truncated_files_are_refused(saved: Path) -> None:
    rng = random.Random(1)
    for path in sorted(saved.iterdir()):
        good = path.read_bytes()
        for _ in range(34):
            path.write_bytes(good[: rng.randrange(len(good))])
            with pytest.raises(DataError):
                load_checkpoint(saved)
        path.write_bytes(good)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_missing_files_are_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(saved)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{}", '{"format": 1}', '{"format": 1, "files": 3}', "\xff"])
def test_manifests_that_are_none_are_refused(saved: Path, text: str) -> None:
    (saved / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        load_checkpoint(saved, "model")


def edit(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = saved / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/x.safetensors"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(saved: Path, name: str) -> None:
    outside = saved.parent / "outside.safetensors"
    shutil.copy(saved / "model.safetensors", outside)
    edit(saved, lambda m: m["files"].update({name: m["files"].pop("model.safetensors")}))
    with pytest.raises(DataError):
        load_checkpoint(saved)


def test_another_format_is_refused(saved: Path) -> None:
    edit(saved, lambda m: m.update(format=2))
    with pytest.raises(DataError):
        load_checkpoint(saved)


def test_tensors_that_are_none_are_refused_even_with_the_right_hash(saved: Path) -> None:
    data = b"\x80\x04not tensors"
    (saved / "model.safetensors").write_bytes(data)
    facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(saved, lambda m: m["files"].update({"model.safetensors": facts}))
    with pytest.raises(DataError):
        load_checkpoint(saved)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 100, 20, 110):
        save_checkpoint(tmp_path, step, groups(), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000100", "step-00000110"]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000110"


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 4, groups(2), {})
    save_checkpoint(tmp_path, 5, groups(0), {})
    path = save_checkpoint(tmp_path, 5, groups(1), {})
    assert_same(load_checkpoint(path)[1], groups(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]


def test_a_kill_between_the_two_renames_leaves_the_replaced_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 4, groups(2), {})
    path = save_checkpoint(tmp_path, 5, groups(0), {})
    aside = path.rename(tmp_path / "step-00000005.old")
    assert newest_checkpoint(tmp_path) == aside
    assert_same(load_checkpoint(aside)[1], groups(0))
    again = save_checkpoint(tmp_path, 5, groups(1), {})
    assert newest_checkpoint(tmp_path) == again
    aside.mkdir()
    (aside / "manifest.json").write_text("")  # what a kill right after the second rename leaves
    assert newest_checkpoint(tmp_path) == again
    save_checkpoint(tmp_path, 6, groups(1), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005", "step-00000006"]


def test_a_removed_run_folder_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="the run folder was removed"):
        save_checkpoint(tmp_path / "run" / "checkpoints", 5, groups(), {})
    assert list(tmp_path.iterdir()) == []


def test_where_it_was_made_is_recorded(saved: Path) -> None:
    known = read_manifest(saved)["environment"]
    assert known == environment(torch.device("cpu"))
    assert known["threads"] == torch.get_num_threads()
    assert known["torch"] == torch.__version__
    assert "threads" not in environment(torch.device("cuda"))


def test_unfinished_and_foreign_folders_are_passed_over(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
    assert newest_checkpoint(tmp_path) is None
    good = save_checkpoint(tmp_path, 5, groups(), {})
    for name in ("step-00000009.part", "step-00000010", "step-9", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000009.part" / "manifest.json").write_text("{}")
    assert newest_checkpoint(tmp_path) == good


@pytest.mark.parametrize("fails_at", range(6))
def test_a_full_disk_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """The disk fills at each of the three files: before anything is written, and after half of it."""
    good = save_checkpoint(tmp_path, 5, groups(0), {})
    calls = 0
    write = module._write

    def full(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == fails_at // 2:
            if fails_at % 2:
                path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(ResourceError, match="No space left on device") as caught:
        save_checkpoint(tmp_path, 9, groups(1), {})
    assert caught.value.exit_code == 5
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]
    assert newest_checkpoint(tmp_path) == good
    assert_same(load_checkpoint(good)[1], groups(0))


def test_a_rename_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 5, groups(), {})

    def refuse(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResourceError, match="Input/output error"):
        save_checkpoint(tmp_path, 9, groups(), {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(ResourceError, match="cannot save a checkpoint"):
        save_checkpoint(tmp_path / "checkpoints", 1, groups(), {})


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to(
        memory_format=torch.channels_last
    )


def optimizer_of(model: nn.Module, kind: str) -> optim.Optimizer:
    if kind == "adamw":
        return optim.AdamW(model.parameters(), lr=0.01)
    return optim.SGD(model.parameters(), lr=0.05, momentum=0.9 if kind == "momentum" else 0.0)


def learn(model: nn.Module, optimizer: optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        loss = model(torch.rand(2, 3, 8, 8, generator=generator)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["adamw", "momentum", "plain"])
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    whole = network()
    learn(whole, optimizer_of(whole, kind), range(12))

    first = network()
    optimizer = optimizer_of(first, kind)
    learn(first, optimizer, range(5))
    path = save_checkpoint(tmp_path, 5, {"model": first.state_dict(), "optimizer": optimizer_tensors(optimizer)}, {})
    _, loaded = load_checkpoint(path)
    second = network()
    second.load_state_dict(loaded["model"])
    again = optimizer_of(second, kind)
    restore_optimizer(again, loaded["optimizer"])
    learn(second, again, range(5, 12))
    assert_same({"model": dict(second.state_dict())}, {"model": dict(whole.state_dict())})


def test_restoring_keeps_groups_and_rates(tmp_path: Path) -> None:
    model = network()
    optimizer = optimizer_of(model, "momentum")
    learn(model, optimizer, range(2))
    tensors = optimizer_tensors(optimizer)
    other = optimizer_of(model, "momentum")
    other.param_groups[0]["lr"] = 0.7
    restore_optimizer(other, tensors)
    assert other.param_groups[0]["lr"] == 0.7
    assert_same({"o": optimizer_tensors(other)}, {"o": tensors})
