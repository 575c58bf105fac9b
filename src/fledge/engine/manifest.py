"""The manifest of a checkpoint, and the files it vouches for: nothing is taken whose size and hash are not right.

Everything here may come from a stranger. What is too large is refused before it is read, links and names of other
folders are not followed. Errors are plain exceptions; ``fledge.engine.checkpoint`` turns them into one message.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

import fledge
from fledge.errors import DataError
from fledge.files import readable_size

FORMAT = 1  # the first; whoever raises it adds a table of migrations from the older ones
NAME = "manifest.json"
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError)
# More than any model needs: 80,000 tensors, or the classes and recipe of a run. A larger one is an attack.
_MAX_HEADER = _MAX_MANIFEST = 8 << 20


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as a file, with its format, the version of fledge, and its own hash."""
    whole = {"format": FORMAT, "fledge": fledge.__version__, **manifest}
    return _text({**whole, "sha256": _digest(whole)})


def open_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, after checking its format and hash.

    Raises:
        DataError: it has another format.
        DAMAGE: it is missing or damaged.
    """
    data = _read(path, NAME, _MAX_MANIFEST)
    manifest: dict[str, Any] = json.loads(data)
    _check_format(manifest["format"], str(manifest.get("fledge", "unknown")), path)
    if _text(manifest) != data or manifest.pop("sha256") != _digest(manifest):
        raise ValueError("the hash of its manifest differs")
    if not isinstance(manifest["step"], int) or not isinstance(manifest["meta"], dict):
        raise ValueError("its manifest has no step or no meta")
    return manifest


def read_groups(path: Path, manifest: Mapping[str, Any], stems: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """The named groups of tensors, or all if none is named, verified.

    Raises:
        DAMAGE: a file is missing, damaged, or a link.
    """
    files = manifest["files"]
    groups = {}
    for name in [f"{stem}.safetensors" for stem in stems] or list(files):
        if name not in files:
            raise ValueError(f"it has no {name}")
        data = _read(path, name, int(files[name]["size"]), exact=True)
        if hashlib.sha256(data).hexdigest() != files[name]["sha256"]:
            raise ValueError(f"{name}: its hash differs")
        groups[Path(name).stem] = load_tensors(data)
    return groups


def _check_format(found: object, version: str, path: Path) -> None:
    if not isinstance(found, int):
        raise ValueError("its manifest has no format")
    if found != FORMAT:
        raise DataError(
            f"checkpoint of a {'newer' if found > FORMAT else 'unknown'} format: {path}: it has format {found}, "
            f"written by fledge {version[:20]!r}; this fledge {fledge.__version__} reads format {FORMAT}: "
            "use that version of fledge"
        )


def _text(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1, allow_nan=False).encode()


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash of a manifest without its own hash, whatever the order and spacing of its JSON."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _read(path: Path, name: str, size: int, exact: bool = False) -> bytes:
    """A file of the folder itself, of at most ``size`` bytes or exactly that many."""
    if Path(name).name != name or name == "..":
        raise ValueError(f"its manifest names a file elsewhere, {name}")
    if (path / name).is_symlink():
        raise ValueError(f"{name} is a link")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not hang us
    with os.fdopen(os.open(path / name, flags), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            raise ValueError(f"{name} is a link or no file")
        if facts.st_size > size or (exact and facts.st_size != size):
            raise ValueError(f"{name} has {facts.st_size} bytes instead of {size}")
        head = file.read(8)
        if exact and int.from_bytes(head, "little") > _MAX_HEADER:
            raise ValueError(f"{name} announces a header of {readable_size(int.from_bytes(head, 'little'))}")
        return head + file.read()
