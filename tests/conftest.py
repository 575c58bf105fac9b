"""What all tests share: one thread, reproducible properties, the slow marker, and a browser that inspects pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fledge", derandomize=True, deadline=None)
settings.load_profile("fledge")

WIDTHS = (390, 1280)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("SLOW") == "1" or "slow" in config.getoption("markexpr"):
        return
    skip = pytest.mark.skip(reason="slow: run with SLOW=1 or -m slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@dataclass
class PageFacts:
    """What a browser saw on one page, opened at every width of ``WIDTHS`` pixels, light and dark.

    Attributes:
        console: errors and warnings of the console, and uncaught exceptions.
        requests: addresses asked for, other than ``data:`` and the page itself.
        images: number of pictures on the page.
        broken: alternative texts of the pictures that did not load.
        overflow: widths at which the page scrolls sideways.
        enlarged: whether a click on the first picture that enlarges shows it (None without one).
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    images: int = 0
    broken: list[str] = field(default_factory=list)
    overflow: list[int] = field(default_factory=list)
    enlarged: bool | None = None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's Chromium under Playwright; skips where either is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed (Debian package: chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Callable[..., PageFacts]:
    """``open_page(path, shots=None)``: open a page and report; ``shots`` is a folder for full-page screenshots."""

    def visit(path: Path, shots: Path | None = None) -> PageFacts:
        facts = PageFacts()
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                _inspect(context.new_page(), path, width, facts)
                if shots is not None:
                    context.pages[0].screenshot(path=shots / f"{path.stem}_{scheme}_{width}.png", full_page=True)
                context.close()
        return facts

    return visit


def _inspect(page: Any, path: Path, width: int, facts: PageFacts) -> None:
    address = path.resolve().as_uri()
    page.on("console", lambda m: facts.console.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: facts.console.append(str(error)))
    page.on(
        "request", lambda r: None if r.url == address or r.url.startswith("data:") else facts.requests.append(r.url)
    )
    page.goto(address, wait_until="load")
    images = page.locator("main img")
    facts.images = images.count()
    facts.broken += images.evaluate_all("all => all.filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt)")
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        facts.overflow.append(width)
    if page.locator("main button.zoom:visible").count():
        page.locator("main button.zoom:visible").first.click()
        shown = page.evaluate("(i => i.naturalWidth > 1 && i.checkVisibility())(document.querySelector('dialog img'))")
        page.keyboard.press("Escape")
        facts.enlarged = shown and facts.enlarged is not False
