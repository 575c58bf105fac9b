"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from fledge.errors import ResourceError


def write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path`` and rename, so that a half-written file never has the final name.

    Raises:
        ResourceError: the folder or disk refuses.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ResourceError(
            f"cannot write: {path}: {error.strerror or error}: check the folder and free space"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN)."""
    write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode())
