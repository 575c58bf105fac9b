from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_modules_each_time() -> None:
    """Modules that a test makes have the same weights in each run."""
    torch.manual_seed(0)
