"""The service's page in a browser: an image is dropped on it, boxes appear, nobody else is asked for anything."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from tests.conftest import WIDTHS
from tests.serve.conftest import HeldModel, encoded, squares

from fledge.serve.app import make_app
from fledge.serve.detector import ServedDetector
from fledge.serve.guard import LOOPBACK
from fledge.serve.limits import Limits

DROP = """
([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer });
  document.querySelector(".drop").dispatchEvent(event);
}
"""
# The colour on the canvas at a point of the image; read from a copy, for which it is no news to the browser.
PIXEL = """
([x, y]) => {
  const canvas = document.querySelector("canvas"), { x: left, y: top, scale } = viewer.view(), ratio = devicePixelRatio;
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return [...pen.getImageData((x * scale + left) * ratio, (y * scale + top) * ratio, 1, 1).data];
}
"""


@pytest.fixture
def address(model: HeldModel) -> Iterator[str]:
    """Of a running service that finds squares."""
    import uvicorn

    app = make_app(ServedDetector(model, "squares"), Limits(max_bytes=1_000_000), None, LOOPBACK)
    with socket.create_server(("127.0.0.1", 0)) as place:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=lambda: server.run([place]))
        thread.start()
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)


class Visit:
    """A page, and what it said and asked for."""

    def __init__(self, chromium: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(address, wait_until="load")

    def drop(self, data: bytes, name: str) -> None:
        self.page.evaluate(DROP, [base64.b64encode(data).decode(), name])

    def shown(self) -> str:
        """What the page says once boxes are there."""
        self.page.wait_for_selector(".save:visible")
        self.page.wait_for_timeout(200)
        return str(self.page.inner_text(".count"))

    def at(self, x: float, y: float) -> list[int]:
        colour: list[int] = self.page.evaluate(PIXEL, [x, y])
        return colour


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_an_image_is_dropped_and_boxes_appear(chromium: Any, address: str, width: int, scheme: str) -> None:
    visit = Visit(chromium, address, width, scheme)
    visit.drop(encoded(squares()), "scene.png")
    assert visit.shown() == "2 objects"
    assert "scene.png: 160 × 120 pixels" in visit.page.inner_text(".status")
    red, green, blue, _ = visit.at(35, 40)  # the picture
    assert red > 200
    assert max(green, blue) < 60
    assert visit.at(35, 30) != visit.at(35, 35)  # the outline
    assert not visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert visit.said == []
    assert all(url.startswith(address) for url in visit.asked)
    if shots := os.environ.get("FLEDGE_SHOTS"):
        visit.page.screenshot(path=Path(shots) / f"serve_{scheme}_{width}.png", full_page=True)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".tiff", ".jp2", ".jpg"])
def test_pictures_that_a_browser_cannot_show_or_would_turn(chromium: Any, address: str, suffix: str) -> None:
    """TIFF and JPEG 2000 are shown; a JPEG with an orientation mark lies as its pixels do."""
    data = cv2.imencode(suffix, squares()[..., ::-1])[1].tobytes()
    if suffix == ".jpg":
        turned = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        data = data[:2] + turned + data[2:]
    visit = Visit(chromium, address)
    visit.drop(data, f"scene{suffix}")
    visit.shown()
    assert "160 × 120 pixels" in visit.page.inner_text(".status")
    red, green, blue, _ = visit.at(35, 40)
    assert red > 200
    assert max(green, blue) < 60
    assert visit.said == []


@pytest.mark.slow
def test_it_works_with_the_keyboard_alone(chromium: Any, address: str, tmp_path: Path) -> None:
    (tmp_path / "scene.png").write_bytes(encoded(squares()))
    visit = Visit(chromium, address)
    choosers: list[Any] = []
    visit.page.on("filechooser", lambda c: choosers.append(c))  # early: the browser takes a moment to heed it
    visit.page.keyboard.press("Tab")  # the link
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "file"
    visit.page.keyboard.press("Enter")
    for _ in range(300):
        if choosers:
            break
        visit.page.wait_for_timeout(100)
    choosers[0].set_files(tmp_path / "scene.png")
    visit.shown()
    visit.page.focus("canvas")
    visit.page.keyboard.press("n")
    first = visit.page.inner_text(".said")
    visit.page.keyboard.press("n")
    second = visit.page.inner_text(".said")
    assert {first.split(",")[0], second.split(",")[0]} == {"red", "green"}
    assert "score 0." in first
    assert "30 × 20 px" in first + second
    visit.page.keyboard.press("+")
    scale = visit.page.evaluate("viewer.view().scale")
    visit.page.keyboard.press("0")
    assert visit.page.evaluate("viewer.view().scale") < scale


@pytest.mark.slow
def test_refusals_are_told(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address)
    visit.drop(b"GIF89a" + bytes(40), "a.gif")
    visit.page.wait_for_selector(".status.bad")
    assert "none of PNG, JPEG" in visit.page.inner_text(".status")
    visit.drop(bytes(1_000_001), "b.png")
    visit.page.wait_for_function("document.querySelector('.status').textContent.includes('limit is 1 MB')")
    visit.drop(encoded(squares()), "<img src=x onerror=alert(1)>.png")
    visit.shown()
    assert "<img src=x" in visit.page.inner_text(".status")
    assert not visit.page.locator("main img").count()
    assert len(visit.asked) == 3  # the page, the GIF and the picture


@pytest.mark.slow
def test_the_documentation_in_a_browser(chromium: Any, address: str) -> None:
    for width in WIDTHS:
        visit = Visit(chromium, address + "docs", width)
        assert "POST /detect" in visit.page.inner_text("main")
        assert not visit.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert visit.said == []
        assert visit.asked == [address + "docs"]
