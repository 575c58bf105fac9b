"""Checkpoints: a folder of safetensors files and a JSON manifest with their sizes and hashes.

A checkpoint is written under a temporary name, flushed, and renamed when complete, so a folder with its final name is
whole. Loading verifies every hash: a flipped bit is refused, not trained on. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, optim

from fledge.errors import DataError, ResourceError

FORMAT = 1
_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-XXXXXXXX`` atomically and drop all but the newest two.

    Args:
        folder: the run's checkpoint folder, created if needed.
        step: finished training steps.
        tensors: file stem to named tensors, such as ``{"model": …, "optimizer": …}``.
        meta: JSON values kept in the manifest.

    Raises:
        ResourceError: the disk is full or refuses; what was there before is untouched.
    """
    final = folder / f"step-{step:08d}"
    part = folder / f"{final.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        files = {}
        for stem, group in tensors.items():
            data = dump_tensors({k: v.detach().cpu().contiguous() for k, v in group.items()})
            files[f"{stem}.safetensors"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            _write(part / f"{stem}.safetensors", data)
        manifest: dict[str, Any] = {"format": FORMAT, "step": step, "files": files, "meta": dict(meta)}
        manifest["sha256"] = _digest(manifest)
        _write(part / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False).encode())
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        _sync_folder(folder)
        for old in _complete(folder)[:-2]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"cannot save a checkpoint: {final}: {error.strerror or error}: free some space") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps, or None."""
    found = _complete(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path, *stems: str) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The manifest, and the named groups of tensors (all of them if none is named), verified against their hashes.

    Raises:
        DataError: a file is missing, damaged, or of another format.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(f"unknown checkpoint format {manifest['format']}: {path}: this fledge reads {FORMAT}")
        if manifest.pop("sha256") != _digest(manifest):
            raise DataError(f"damaged checkpoint: {path / 'manifest.json'}: its hash differs: use an older one")
        wanted = [f"{stem}.safetensors" for stem in stems] or list(manifest["files"])
        groups = {Path(name).stem: load_tensors(_read(path, name, manifest["files"])) for name in wanted}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"damaged checkpoint: {path}: {error}: use an older one of the same run") from error
    return manifest, groups


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors ``index/key`` (numbers become 0-d tensors)."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{key}": torch.as_tensor(v) for i, slots in state.items() for key, v in slots.items() if v is not None}


def restore_optimizer(optimizer: optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` returned; groups and rates stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        index, key = name.split("/")
        like = parameters[int(index)]
        # Fused kernels walk a parameter and its state side by side in memory: both need the same layout.
        laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[key] = laid
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash of a manifest without its own hash, whatever the order and spacing of its JSON."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _complete(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / "manifest.json").is_file())


def _read(path: Path, name: str, files: Mapping[str, Any]) -> bytes:
    if Path(name).name != name:
        raise DataError(f"damaged checkpoint: {path}: its manifest names a file elsewhere ({name}): do not use it")
    data = (path / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
        raise DataError(f"damaged checkpoint: {path / name}: its hash differs: use an older one of the same run")
    return data


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
