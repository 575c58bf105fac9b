from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fledge.visualize.page import Page


@pytest.mark.slow
def test_a_browser_opens_the_page_cleanly(sample_page: Page, open_page: Callable[..., Any], tmp_path: Path) -> None:
    path = sample_page.write(tmp_path / "sample.html")
    shots = os.environ.get("FLEDGE_SHOTS")
    facts = open_page(path, Path(shots) if shots else None)
    assert facts.console == []
    assert facts.requests == []
    assert facts.images == 13
    assert facts.broken == []
    assert facts.overflow == []
    assert facts.enlarged is True
