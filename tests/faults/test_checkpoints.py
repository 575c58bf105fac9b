"""Faults of checkpoints: a function a row of the fault table; its docstring is the row."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fledge
from fledge import api
from fledge.engine.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, space_warning
from fledge.engine.manifest import sealed
from fledge.errors import DataError
from fledge.files import remove_orphans

from .child import command, files, forked
from .tiny import checkpoint, recipe, recipe_file, state, tiles

Groups = dict[str, dict[str, Tensor]]


def groups(value: float) -> Groups:
    return {"model": {"w": torch.full((40, 50), value)}, "optimizer": {"0/step": torch.tensor(value)}}


def save_for_ever(folder: Path, first: int) -> None:
    """Save every step twice, with numbers that count up, and say each number before it is saved."""
    remove_orphans(folder)
    for number in itertools.count(2 * first):
        os.write(1, f"{number}\n".encode())
        save_checkpoint(folder, number // 2, groups(number), {})


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_sigkill_during_save(tmp_path: Path, kills: int) -> None:
    """SIGKILL during save: the newest loadable checkpoint is complete, and is the old one or the new one; what the
    killed process left half-written is gone after the next start."""
    rng, step, interrupted = random.Random(0), 1, 0
    for _ in range(kills):
        with forked(save_for_ever, tmp_path, step) as child:
            child.wait_for(f"{2 * step + 2}\n")
            time.sleep(rng.uniform(0, 0.02))
            child.send()
            begun = int(child.end().out.split()[-1])
        newest = newest_checkpoint(tmp_path)
        assert newest is not None
        manifest, loaded = load_checkpoint(newest)
        assert loaded["optimizer"]["0/step"].item() in (begun - 1, begun)
        assert torch.equal(loaded["model"]["w"], torch.full((40, 50), loaded["optimizer"]["0/step"].item()))
        left = [p.name for p in tmp_path.iterdir() if p.suffix == ".part"]
        assert all(name.endswith(f".{child.pid}.part") for name in left)
        interrupted += bool(left)
        step = int(manifest["step"]) + 1
    assert interrupted >= kills // 8  # the kills came while it saved


def test_bit_rot_and_truncation(tmp_path: Path) -> None:
    """Bit rot, truncation: 1,000 single-bit flips and 200 cuts in any file of a checkpoint are all refused."""
    path = save_checkpoint(tmp_path, 9, groups(2), {"classes": ["façade"], "small": 1e-07})
    rng, names = random.Random(0), sorted(p.name for p in path.iterdir())
    for i in range(1200):
        file = path / names[i % len(names)]
        good = file.read_bytes()
        place = rng.randrange(len(good))
        with file.open("r+b", buffering=0) as handle:
            if i < 1000:
                handle.seek(place)
                handle.write(bytes([good[place] ^ 1 << rng.randrange(8)]))
            else:
                handle.truncate(place)
            with pytest.raises(DataError, match=r"^(damaged checkpoint|checkpoint of a (newer|unknown) format)"):
                load_checkpoint(path)
            handle.seek(0)
            handle.write(good)
    load_checkpoint(path)


def test_a_damaged_newest_checkpoint_is_not_trained_on(tmp_path: Path) -> None:
    """A run whose newest checkpoint is damaged is refused with the older one offered; as the message says, removing
    the damaged one goes on from that, to the same bits."""
    data = tiles(tmp_path / "data")
    run = api.train(recipe(data), tmp_path / "run")
    before = state(run)
    newest = checkpoint(run)
    file = newest / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=rf"the older one, step-00000004, is whole.*remove {newest.name}"):
        api.train(recipe(data), run)
    shutil.rmtree(newest)
    assert state(api.train(recipe(data), run)) == before


def test_orphans_of_dead_processes(tmp_path: Path) -> None:
    """Orphan `.part` files are removed at the next start if their pid is dead; those of a living process stay."""
    with forked(time.sleep, 0) as child:
        dead = child.pid
        child.end()
    for folder in (tmp_path, tmp_path / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / f"recipe.toml.{dead}.part").write_text("torn")
        (folder / f"step-00000004.{dead}.part").mkdir()
        (folder / f"step-00000004.{dead}.part" / "model.safetensors").write_text("torn")
        (folder / f"step-00000008.{os.getppid()}.part").mkdir()
        (folder / "mine.part").write_text("of the user")
        remove_orphans(folder)
        assert {p.name for p in folder.iterdir()} - {"checkpoints"} == {
            f"step-00000008.{os.getppid()}.part",
            "mine.part",
        }


def test_full_disk_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full disk, predicted before the run: a warning names what the checkpoints will need and what is free."""
    usage = shutil.disk_usage(tmp_path)
    assert space_warning(tmp_path / "absent", usage.free // 4) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000))
    assert "will need 600 kB, 500 kB are free" in str(space_warning(tmp_path / "absent", 200_000))
    save_checkpoint(tmp_path / "some", 1, groups(0), {})
    assert space_warning(tmp_path / "some", 200_000) is None  # two are still to come
    api.train(recipe(tiles(tmp_path / "data"), epochs=1), tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: little space" in said


def test_full_disk(tmp_path: Path) -> None:
    """Full disk, met while saving: exit 5, the message has the bytes needed and free, the old checkpoint is intact and
    nothing is half-written."""
    data = tiles(tmp_path / "data")
    run = api.train(recipe(data), tmp_path / "run")
    shutil.rmtree(checkpoint(run))
    old, before = checkpoint(run), state(run)
    file = recipe_file(tmp_path / "r.toml", data)
    with forked(command, "train", file, "--out", run, limits={resource.RLIMIT_FSIZE: 100_000}) as child:
        ended = child.end()
    assert ended.code == 5
    assert "Traceback" not in ended.out
    assert "cannot save a checkpoint" in ended.last
    assert "File too large; it needs" in ended.last
    assert "are free: free some space" in ended.last
    assert (checkpoint(run), state(run)) == (old, before)
    assert not [name for name in files(run) if ".part" in name]


def test_checkpoint_of_a_newer_version(tmp_path: Path) -> None:
    """A checkpoint from a newer version is refused, and both versions are named."""
    path = save_checkpoint(tmp_path, 5, groups(0), {})
    manifest = json.loads((path / "manifest.json").read_text())
    manifest |= {"format": 2, "fledge": "7.8.9"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="newer format") as caught:
        load_checkpoint(path)
    assert "7.8.9" in str(caught.value)
    assert f"this fledge {fledge.__version__} reads format 1" in str(caught.value)


def seal(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A manifest that was changed by somebody who knows how to hash it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    del manifest["sha256"]
    (path / "manifest.json").write_bytes(sealed(manifest))


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "{tmp}/secret.safetensors", "sub/model.safetensors", ".."]
)
def test_manifest_naming_another_place(tmp_path: Path, name: str) -> None:
    """A manifest naming `../../etc/passwd` or an absolute path is refused, even with the right hashes."""
    path = save_checkpoint(tmp_path, 5, groups(0), {})
    for place in (tmp_path, tmp_path.parent, path / "sub"):
        place.mkdir(exist_ok=True)
        shutil.copy(path / "model.safetensors", place / "secret.safetensors")
    shutil.copy(path / "model.safetensors", path / "sub")
    seal(path, lambda m: m["files"].update({name.format(tmp=tmp_path): m["files"].pop("model.safetensors")}))
    with pytest.raises(DataError, match="names a file elsewhere"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "folder"])
def test_links_in_a_checkpoint(tmp_path: Path, name: str, kind: str) -> None:
    """A file of a checkpoint that is a symbolic link, a hard link, a pipe or a folder is refused, and never hangs."""
    path = save_checkpoint(tmp_path / "run", 5, groups(0), {})
    outside = tmp_path / name
    (path / name).rename(outside)
    if kind == "symlink":
        (path / name).symlink_to(outside)
    elif kind == "hardlink":
        (path / name).hardlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path / name)
    else:
        (path / name).mkdir()
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(path)


def tensor_file(header: dict[str, Any], body: bytes = b"", copies: int = 0) -> bytes:
    text = json.dumps(header).encode()
    if copies:  # json.dumps would take ten seconds
        text = b"{" + b",".join(b'"%d":%b' % (i, text) for i in range(copies)) + b"}"
    return len(text).to_bytes(8, "little") + text + body


def entry(*offsets: int, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE: dict[str, Callable[[], bytes]] = {
    "header of 200 MB": lambda: (200_000_000).to_bytes(8, "little") + b"{" + b" " * 200_000_000,
    "header longer than the file": lambda: (1 << 62).to_bytes(8, "little") + b"{}",
    "overlapping": lambda: tensor_file({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    "negative": lambda: tensor_file({"a": entry(-8, 0)}, bytes(8)),
    "past the end": lambda: tensor_file({"a": entry(0, 8)}, bytes(4)),
    "wrong size": lambda: tensor_file({"a": entry(0, 8, dtype="F64")}, bytes(8)),
    "shape that overflows": lambda: tensor_file({"a": entry(0, 0, shape=(1 << 40, 1 << 40))}),
    "million tensors": lambda: tensor_file(entry(0, 0, shape=(0,)), copies=1_000_000),
    "no JSON": lambda: (4).to_bytes(8, "little") + b"\x80\x04N.",
    "nested": lambda: (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "empty": lambda: b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_safetensors(tmp_path: Path, kind: str) -> None:
    """safetensors with a 200 MB header, overlapping or negative offsets, a wrong dtype size or 10⁶ tensors are refused
    within +50 MB, even if their hashes are right."""
    path = save_checkpoint(tmp_path, 5, groups(0), {})
    data = HOSTILE[kind]()
    (path / "model.safetensors").write_bytes(data)
    facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    seal(path, lambda m: m["files"].update({"model.safetensors": facts}))
    del data
    tracemalloc.start()
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(path, "model")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "1" * 5000 + "}", " " * 9_000_000, '{"format": {}}'])
def test_hostile_manifests(tmp_path: Path, text: str) -> None:
    """A manifest that is nested without end, huge, or not what it should be is refused."""
    path = save_checkpoint(tmp_path, 5, groups(0), {})
    (path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="damaged checkpoint"):
        load_checkpoint(path)
