from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from .official import keys_of, random_tensors


@pytest.fixture(scope="session")
def mobile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names and shapes of mobile_sam.pt and random numbers, as safetensors, which is read faster."""
    path = tmp_path_factory.mktemp("sam") / "mobile_sam.safetensors"
    save_file(random_tensors(keys_of("mobilesam")), path)
    return path
