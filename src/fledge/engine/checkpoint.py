"""Checkpoints: a folder of safetensors files and a JSON manifest with their sizes and hashes.

A checkpoint is written under a temporary name, flushed, and renamed when complete, so a folder with its final name is
whole. Loading verifies every size and hash: a flipped bit is refused, not trained on. Nothing in it can run code, and
nothing outside it is read.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as dump_tensors
from torch import Tensor, optim

from fledge.distributed import world_size
from fledge.engine.manifest import DAMAGE, NAME, open_manifest, read_groups, sealed
from fledge.errors import DataError, ResourceError
from fledge.files import readable_size, sync, sync_folder, temporary

KEEP = 2  # newest checkpoints that stay
_NAME = re.compile(r"step-\d{8}(\.old)?")


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-XXXXXXXX`` atomically and drop all but the newest ``KEEP``.

    A kill at any instant leaves the older checkpoints, and this one whole or not at all, also when a checkpoint of the
    same step is replaced.

    Args:
        folder: the run's checkpoint folder; made if needed, inside a run folder that exists.
        step: finished training steps.
        tensors: file stem to named tensors, such as ``{"model": …, "optimizer": …}``.
        meta: JSON values kept in the manifest.

    Raises:
        ResourceError: the disk is full or refuses, or the run folder is gone; what was there before is untouched.
    """
    final = folder / f"step-{step:08d}"
    part = temporary(final)
    try:
        folder.mkdir(exist_ok=True)  # without parents: a run folder that was removed is not made again
        part.mkdir()
        _write_all(part, step, tensors, meta)
        aside = _set_aside(final)
        part.rename(final)
        sync_folder(folder)
        shutil.rmtree(aside, ignore_errors=True)
        _drop_old(folder)
    except OSError as error:
        needed = sum(t.nbytes for group in tensors.values() for t in group.values())
        raise ResourceError(f"cannot save a checkpoint: {final}: {_reason(folder, needed, error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps, or None."""
    found = _complete(folder)
    return found[-1] if found else None


def checkpoint_at(path: Path) -> Path | None:
    """The checkpoint that a path names: itself, or the newest of a run folder or of a folder of checkpoints."""
    return path if (path / NAME).is_file() else newest_checkpoint(path / "checkpoints") or newest_checkpoint(path)


def drop_later(folder: Path, step: int) -> None:
    """Remove the checkpoints after a step, of a run that goes on from there."""
    for path in _finished(folder):
        if int(path.name[5:13]) > step:
            shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(path: Path, *stems: str) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The manifest, and the named groups of tensors (all of them if none is named), verified against their hashes.

    Raises:
        DataError: a file is missing, damaged, a link, or of a newer format. The message names an older checkpoint of
            the run that is whole.
    """
    try:
        manifest = open_manifest(path)
        return manifest, read_groups(path, manifest, stems)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest alone: ``step``, ``meta``, ``environment``, ``files``.

    Raises:
        DataError: as for ``load_checkpoint``.
    """
    try:
        return open_manifest(path)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def environment(device: torch.device) -> dict[str, str | int]:
    """What the bits of a training depend on besides recipe, data and weights; kept in every checkpoint."""
    known: dict[str, str | int] = {"torch": torch.__version__, "device": device.type, "processes": world_size()}
    if device.type == "cpu":
        return {**known, "threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability()}
    return known


def space_warning(folder: Path, size: int) -> str | None:
    """A warning if the disk cannot hold the checkpoints of a run, or None.

    Args:
        folder: the run's checkpoint folder, which need not exist yet.
        size: bytes of one checkpoint. ``KEEP`` stay, and one more is there while it is written.
    """
    needed = size * (KEEP + 1 - min(len(_complete(folder)), KEEP))
    free = _free(folder)
    if needed <= free:
        return None
    return (
        f"little space: {folder}: checkpoints of {readable_size(size)} will need {readable_size(needed)}, "
        f"{readable_size(free)} are free: free some before the first is saved"
    )


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


def _write_all(part: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any]) -> None:
    """Fill the folder, the manifest last, and wait until it is on the disk."""
    files = {}
    for stem, group in tensors.items():
        data = dump_tensors({k: v.detach().cpu().contiguous() for k, v in group.items()})
        files[f"{stem}.safetensors"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        _write(part / f"{stem}.safetensors", data)
    devices = [t.device for group in tensors.values() for t in group.values()]
    where = environment(devices[0] if devices else torch.device("cpu"))
    manifest = {"step": step, "files": files, "meta": dict(meta), "environment": where}
    _write(part / NAME, sealed(manifest))
    sync_folder(part)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    sync(path)


def _set_aside(final: Path) -> Path:
    """Free the final name. What was there stays complete under the name returned, which ``newest_checkpoint`` knows."""
    aside = final.with_name(f"{final.name}.old")
    if final.exists():
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    return aside


def _drop_old(folder: Path) -> None:
    kept = set(_complete(folder)[-KEEP:])
    for path in _finished(folder):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _reason(folder: Path, needed: int, error: OSError) -> str:
    cause = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        space = f"it needs {readable_size(needed)}, {readable_size(_free(folder))} are free"
        return f"{cause}; {space}: free some space or raise the limit, then run the same command again"
    if not folder.parent.is_dir():
        return f"{cause}: the run folder was removed: train again in a folder that stays"
    return f"{cause}: check the folder, then run the same command again"


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _finished(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first; of one step, the one set aside before the one that replaces it."""
    if not folder.is_dir():
        return []
    named = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and not p.is_symlink()]
    return sorted((p for p in named if (p / NAME).is_file()), key=lambda p: (p.name[:13], not p.suffix))


def _complete(folder: Path) -> list[Path]:
    """One whole checkpoint a step, oldest first."""
    return list({p.name[:13]: p for p in _finished(folder)}.values())


def _damaged(path: Path, error: Exception) -> DataError:
    reason = f"{Path(str(error.filename)).name}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return DataError(f"damaged checkpoint: {path}: {' '.join(reason.split())[:300]}: {_way_out(path)}")


def _way_out(path: Path) -> str:
    """What to do about a damaged checkpoint: the next older one of the run that is whole, if there is one."""
    for older in reversed(_complete(path.parent)):
        try:
            if older.name[:13] < path.name[:13]:
                read_groups(older, open_manifest(older), ())
                return f"the older one, {older.name}, is whole: use it, or remove {path.name} to go on from it"
        except (DataError, *DAMAGE):
            continue
    return "no older one is whole: use a copy, or train again in another folder"
