"""A service and those who ask it: what is refused, with which answer."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window
from tests.serve.conftest import HeldModel, client, encoded, form, model, squares

from fledge import api
from fledge.cli import main

from .child import command, forked
from .tiny import recipe, tiles

__all__ = ["client", "form", "model"]  # fixtures
Make = Callable[..., Any]


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def emptied(folder: Path) -> None:
    """Nothing is left in it, or will be in a moment."""
    for _ in range(200):
        if not list(folder.iterdir()):
            return
        time.sleep(0.05)
    raise AssertionError(list(folder.iterdir()))


def refused(answer: Any, status: int, *words: str) -> None:
    """The answer is one JSON object that says so, and names nothing of this machine."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert all(word in body["detail"] for word in words), body
    assert "\n" not in body["detail"]
    assert tempfile.gettempdir() not in answer.text


OUTSIDE = ("../secret.png", "site/../../secret.png", "/etc/hostname", "//etc/hostname", "a\0b.png", "C:\\x.png",
           "c:/x.png", "..", "", "a\nb", "~/../secret.png", "..\\secret.png", "file:///etc/hostname",
           "/vsicurl/http://127.0.0.1/x.tif", "http://127.0.0.1/x.tif", "x" * 5000)  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_that_leave_the_root(client: Make, name: str, tmp_path: Path, uploads: Path) -> None:
    """A path with `..`, absolute, with NUL or a drive, an address, 5,000 characters: 403, whether or not it exists."""
    (tmp_path / "secret.png").write_bytes(encoded(squares()))
    root = tmp_path / "root"
    (root / "site").mkdir(parents=True)
    answer = client(root).post("/detect", json={"path": name})
    refused(answer, 403, "path refused")
    assert str(tmp_path) not in answer.text


def test_links_that_leave_the_root(client: Make, tmp_path: Path, uploads: Path) -> None:
    """A symbolic link out of the root, to a file, a folder or nothing: 403; one that stays inside is followed; a ring,
    a pipe, a device, a folder: 404, and nothing hangs."""
    (tmp_path / "secret.png").write_bytes(encoded(squares()))
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside.png").write_bytes(encoded(squares()))
    links = {"out.png": "../secret.png", "folder": "..", "broken.png": "../nothing.png", "ring": "ring",
             "in.png": "inside.png", "host.png": "/etc/hostname"}  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe.png")
    at = client(root)
    for name in ("out.png", "folder/secret.png", "broken.png", "host.png", "folder"):
        refused(at.post("/detect", json={"path": name}), 403, "leads out of the root")
    for name in ("ring", "pipe.png", ".", "nothing.png"):
        refused(at.post("/detect", json={"path": name}), 404, "no such file")
    assert at.post("/detect", json={"path": "in.png"}).status_code == 200


def test_a_service_without_a_root_reads_no_files(client: Make, uploads: Path) -> None:
    """A path, to a service without `--root`: 403."""
    refused(client().post("/detect", json={"path": "x.png"}), 403, "--root")


BODIES: dict[str, tuple[dict[str, Any], int]] = {
    "no JSON": ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    "nested JSON": ({"content": b"[" * 60_000, "headers": {"content-type": "application/json"}}, 400),
    "no UTF-8": ({"content": b'{"path": "\xff"}', "headers": {"content-type": "application/json"}}, 400),
    "huge JSON": ({"content": b" " * 100_000, "headers": {"content-type": "application/json"}}, 413),
    "other JSON": ({"json": ["x.png"]}, 422),
    "more JSON": ({"json": {"path": "x.png", "format": "geojson"}}, 422),
    "number": ({"json": {"path": 7}}, 422),
    "text": ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
    "no type": ({"content": b"x"}, 415),
    "form of text": ({"data": {"image": "x"}}, 415),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
    "torn form": ({"content": b"--a\r\nx", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400),
    "field without file": ({"files": {"other": ("x.png", b"x")}}, 400),
    "two files": ({"files": [("image", ("x.png", b"x")), ("image", ("y.png", b"x"))]}, 400),
    "empty": ({"content": b"", "headers": {"content-type": "image/png"}}, 422),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bodies_that_are_not_what_they_should_be(client: Make, kind: str, tmp_path: Path, uploads: Path) -> None:
    """A body that is no JSON, nested without end, no form, of another type, without an image: 400, 413, 415 or 422 as
    one JSON object; nothing stays on the disk."""
    arguments, status = BODIES[kind]
    refused(client(tmp_path).post("/detect", **arguments), status)
    emptied(uploads)


@pytest.mark.parametrize("query", ["score=nan", "score=2", "score=x", "score=-1", "format=xml", "preview=9"])
def test_parameters_that_cannot_be(client: Make, form: Make, query: str, uploads: Path) -> None:
    """A score beyond 0 to 1, another format: 422 that names the parameter."""
    refused(client().post(f"/detect?{query}", **form()), 422, query.partition("=")[0])


def test_an_upload_beyond_the_limit(client: Make, form: Make, uploads: Path) -> None:
    """More bytes than `--max-mb`: 413 while they arrive, before the whole is there, with a stated length or without."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 100_000
            yield bytes(100_000)

    at = client(max_bytes=1_000_000)
    refused(at.post("/detect", **form(bytes(2_000_000))), 413, "1 MB")
    refused(at.post("/detect", content=endless(), headers={"content-type": "image/png"}), 413, "1 MB")
    assert sent <= 100_000_000
    emptied(uploads)


def png_of(width: int, height: int) -> bytes:
    """A PNG file that states its size in the header and has no pixels."""
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(
        4, "big"
    ) + b"\x08\x02\0\0\0" + bytes(4) + b"IEND"  # fmt: skip


def test_a_bomb(client: Make, form: Make, uploads: Path, model: HeldModel) -> None:
    """A small file of 50,000 x 50,000 pixels: 413 from the header, nothing is decoded."""
    refused(client().post("/detect", **form(png_of(50_000, 50_000))), 413, "50000x50000", "100000000")
    assert model.batches == 0


@pytest.mark.parametrize("content", [b"GIF89a" + bytes(50), b"<VRTDataset/>", b"\x93NUMPY" + bytes(99), b"PK\3\4" * 9])
def test_uploads_that_are_no_images(client: Make, form: Make, content: bytes, uploads: Path) -> None:
    """A GIF, a VRT called .tif, an archive, an array: 422, under the name the client knows."""
    refused(client().post("/detect", **form(content, "/etc/../x.tif")), 422, "unreadable image: image")
    refused(client().post("/detect", **form(encoded(squares())[:-20], "x.png")), 422, "truncated image: image")


@pytest.mark.parametrize(
    "name", ["../../x.png", "/etc/passwd", "a\0b.png", "..", "x" * 5000, "<b>.png", "", "a/b\\c.png"]
)
def test_names_of_uploads_choose_no_place(client: Make, form: Make, name: str, uploads: Path) -> None:
    """The name of an uploaded file chooses no place on the disk, and comes back without what is harmful."""
    answer = client().post("/detect", **form(None, name))
    if answer.status_code == 200:
        shown = answer.json()["image"]
        assert 0 < len(shown) <= 64
        assert not set(shown) & set("/\\<>\0")
    else:
        refused(answer, 400)
    emptied(uploads)


def test_requests_of_foreign_pages(client: Make, form: Make) -> None:
    """A page of another origin, or one whose name was pointed at the loopback (DNS rebinding): 403 and 421."""
    at = client()
    refused(at.post("/detect", **form(), headers={"origin": "http://evil.example"}), 403, "foreign page")
    refused(at.post("/detect", **form(), headers={"origin": "null"}), 403, "foreign page")
    refused(at.get("/health", headers={"host": "evil.example"}), 421, "unknown host")
    refused(at.get("/health", headers={"host": "[::1"}), 421, "unknown host")
    assert at.post("/detect", **form(), headers={"origin": "http://127.0.0.1:8000"}).status_code == 200
    assert at.get("/health", headers={"host": "localhost:1"}).status_code == 200


def test_every_answer_is_kept_to_itself(client: Make, form: Make) -> None:
    """Answers of every kind forbid to be sniffed, framed, stored or used by other pages."""
    at = client()
    for answer in (at.get("/"), at.get("/nothing"), at.put("/health"), at.post("/detect", **form()),
                   at.get("/health", headers={"host": "evil.example"})):  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_too_many_requests(client: Make, form: Make, model: HeldModel, uploads: Path) -> None:
    """More requests than `--concurrency`: 429 at once, and those in work are answered."""
    at, answers = client(concurrency=2), []
    model.go.clear()
    threads = [threading.Thread(target=lambda: answers.append(at.post("/detect", **form()))) for _ in range(2)]
    threads[0].start()
    assert model.begun.acquire(timeout=10)
    threads[1].start()
    answer = None
    for _ in range(100):  # until the second one is in
        answer = at.post("/detect", content=b"")  # 415 if there is room
        if answer.status_code == 429:
            break
        time.sleep(0.05)
    assert answer is not None
    refused(answer, 429, "busy")
    assert answer.headers["retry-after"] == "1"
    model.go.set()
    for thread in threads:
        thread.join(20)
    assert [a.status_code for a in answers] == [200, 200]
    assert at.post("/detect", **form()).status_code == 200
    emptied(uploads)


def test_no_result_in_time(client: Make, form: Make, model: HeldModel, uploads: Path) -> None:
    """A request that takes longer than `--timeout`: 503, the work stops at its next window, and the next request is
    answered."""
    at = client(timeout=2)
    model.go.clear()
    many = np.tile(squares(), (6, 6, 1))  # several batches
    refused(at.post("/detect", **form(encoded(many))), 503, "2 s")
    model.go.set()
    begun = model.batches
    assert at.post("/detect", **form()).status_code == 200
    assert begun == 1
    assert model.batches < 20  # of the 200 and more windows of the first request none but the one that was held
    emptied(uploads)


def test_an_unreadable_raster_is_not_read_for_ever(client: Make, form: Make, uploads: Path, tmp_path: Path) -> None:
    """A damaged raster: 422; one with windows without number is given up after a few, long before its time is over."""
    path = tmp_path / "a.tif"
    for side in (256, 20_000):
        with rasterio.open(
            path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", tiled=True, blockxsize=256,
            blockysize=256, compress="deflate", crs="EPSG:32636", transform=Affine(1, 0, 9, 0, -1, 9), sparse_ok=True,
        ) as file:  # fmt: skip
            file.write(np.ones((3, 256, 256), np.uint8), window=Window(0, 0, 256, 256))
        data = bytearray(path.read_bytes())
        data[-200:] = bytes(200)
        refused(client(timeout=30, max_pixels=10**9).post("/detect", **form(bytes(data))), 422)
    emptied(uploads)


def test_a_fault_inside_is_not_shown(
    client: Make, form: Make, model: HeldModel, monkeypatch: pytest.MonkeyPatch, uploads: Path
) -> None:
    """A bug: 500 without a word about the inside; the service goes on."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret /home/somebody")

    at = client()
    with monkeypatch.context() as patch:
        patch.setattr(model, "run", broken)
        answer = at.post("/detect", **form())
        refused(answer, 500, "internal error")
        assert "secret" not in answer.text
    assert at.post("/detect", **form()).status_code == 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    return api.train(recipe(tiles(place / "data", 2), epochs=1), place / "run")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_service(run: Path, number: int, code: int, tmp_path: Path) -> None:
    """SIGINT, SIGTERM: the service ends with exit 130 or 143; while it runs, a second one on its port is exit 5."""
    with forked(command, "serve", run, "--port", "0", "--device", "cpu") as child:
        child.wait_for("Ctrl-C stops")
        said = child.out().split("at ")[1].split()[0]
        assert urllib.request.urlopen(f"{said}/health", timeout=10).status == 200
        with forked(command, "serve", run, "--port", said.rpartition(":")[2], "--device", "cpu") as second:
            ended = second.end()
        assert ended.code == 5
        assert "cannot listen" in ended.last
        child.send(number)
        ended = child.end(timeout=20)
    assert ended.code == code, ended.out
    assert "Traceback" not in ended.out


def test_serving_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`fledge serve` without a model, or without the extra: exit 3 or 2 with what to do."""
    monkeypatch.setattr("sys.argv", ["fledge", "serve", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "pip install 'fledge[serve]'" in capsys.readouterr().err
