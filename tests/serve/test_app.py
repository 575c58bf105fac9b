"""What the service answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from tests.serve.conftest import HeldModel, encoded, squares

import fledge
from fledge.inference.predictor import Predictor
from fledge.inference.scene import SceneSettings, detect_scene
from fledge.serve.limits import Limits
from fledge.serve.worker import Worker

Make = Callable[..., Any]


def test_health(client: Make, model: HeldModel) -> None:
    answer = client().get("/health")
    assert answer.json() == {
        "status": "ok",
        "version": fledge.__version__,
        "model": "squares",
        "sha256": model.fingerprint,
        "classes": ["red", "green"],
    }


def test_an_upload_in_pixels(client: Make, form: Make) -> None:
    answer = client().post("/detect", **form())
    assert answer.status_code == 200
    found = answer.json()
    assert {k: found[k] for k in ("image", "width", "height", "coordinates", "classes")} == {
        "image": "a scene", "width": 160, "height": 120, "coordinates": "pixels", "classes": ["red", "green"],
    }  # fmt: skip
    by_class = {row["class"]: row for row in found["detections"]}
    assert len(found["detections"]) == 2
    assert sorted(by_class["red"]["polygon"]) == [[20, 30], [20, 50], [50, 30], [50, 50]]
    assert sorted(by_class["green"]["polygon"]) == [[100, 60], [100, 84], [110, 60], [110, 84]]
    assert by_class["red"]["box"] == {"cx": 35, "cy": 40, "w": 30, "h": 20, "angle": 0}
    assert by_class["green"]["box"]["angle"] == pytest.approx(-np.pi / 2, abs=1e-4)
    assert "preview" not in found


def test_it_finds_what_the_predictor_finds(client: Make, model: HeldModel, tmp_path: Path) -> None:
    image = np.tile(squares(), (3, 3, 1))
    direct = Predictor(model).detect(image, 0.4)
    answer = client().post("/detect?score=0.4", content=encoded(image), headers={"content-type": "image/png"})
    assert answer.json()["image"] == "image"
    rows = answer.json()["detections"]
    assert len(rows) == len(direct) > 4
    assert [row["class"] for row in rows] == direct.names
    np.testing.assert_allclose([row["polygon"] for row in rows], direct.corners.numpy(), atol=1e-3)
    np.testing.assert_allclose([row["score"] for row in rows], direct.scores.numpy(), atol=1e-6)


def test_the_same_request_has_the_same_answer(client: Make, form: Make) -> None:
    at = client()
    assert at.post("/detect", **form()).content == at.post("/detect", **form()).content


def test_a_file_below_the_root(client: Make, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "größe 1.png").write_bytes(encoded(squares()))
    answer = client(tmp_path).post("/detect", json={"path": "site/größe 1.png"})
    assert answer.status_code == 200
    assert answer.json()["image"] == "größe 1"
    assert len(answer.json()["detections"]) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["größe 1.png", "site"]


def test_a_preview_for_pages(client: Make, form: Make) -> None:
    found = client().post("/detect?preview=true", **form(encoded(squares(), ".tiff"), "x.tif")).json()
    assert found["preview"].startswith("data:image/webp;base64,")


def test_an_image_without_objects(client: Make, form: Make) -> None:
    found = client().post("/detect", **form(encoded(np.full((1, 1, 3), 7, np.uint8)))).json()
    assert found["detections"] == []
    assert (found["width"], found["height"]) == (1, 1)


def geotiff(path: Path, crs: str = "EPSG:32636", turn: float = 0) -> Path:
    """``squares`` on the ground: 0.5 m a pixel, turned by some degrees."""
    c, s = np.cos(np.radians(turn)) / 2, np.sin(np.radians(turn)) / 2
    transform = Affine(c, s, 450_000, s, -c, 36_000)
    image = squares()
    with rasterio.open(
        path, "w", driver="GTiff", width=160, height=120, count=3, dtype="uint8", crs=crs, transform=transform
    ) as file:
        file.write(image.transpose(2, 0, 1))
    return path


def test_geojson_as_the_command_writes_it(client: Make, form: Make, model: HeldModel, tmp_path: Path) -> None:
    path = geotiff(tmp_path / "scene.tif", turn=30)
    detect_scene(model, path, tmp_path / "out.geojson", SceneSettings("geojson"))
    wanted = json.loads((tmp_path / "out.geojson").read_text())["features"]
    answer = client().post("/detect", **form(path.read_bytes(), "scene.tif"))
    assert answer.headers["content-type"] == "application/geo+json"
    found = answer.json()["features"]
    assert len(found) == len(wanted) == 2
    for one, other in zip(found, wanted, strict=True):
        assert one["geometry"] == other["geometry"]
        told = other["properties"]
        assert one["properties"] == {key: told[key] for key in one["properties"]}
    by_file = client(tmp_path).post("/detect", json={"path": "scene.tif"})
    assert by_file.content == answer.content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.geojson", "scene.tif"]


def test_pixels_of_a_place(client: Make, form: Make, tmp_path: Path) -> None:
    found = client().post("/detect?format=pixels", **form(geotiff(tmp_path / "s.tif", turn=30).read_bytes())).json()
    assert found["coordinates"] == "pixels"
    assert found["crs"] == "EPSG:32636"
    assert found["metres_per_pixel"] == pytest.approx(0.5, rel=2e-3)
    assert found["north"] == pytest.approx(np.radians(30), abs=0.01)  # what is up lies 30 degrees west of north


def test_geojson_needs_coordinates(client: Make, form: Make) -> None:
    answer = client().post("/detect?format=geojson", **form())
    assert answer.status_code == 422
    assert "format=pixels" in answer.json()["detail"]


@pytest.mark.parametrize("address", ["/", "/docs"])
def test_pages_ask_nobody_for_anything(client: Make, address: str) -> None:
    answer = client().get(address)
    assert answer.status_code == 200
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_the_documentation_tells_all_that_the_schema_has(client: Make) -> None:
    at = client()
    schema = at.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/health", "/detect"}
    assert set(schema["paths"]["/detect"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data", "application/octet-stream", "application/json",
    }  # fmt: skip
    text = at.get("/docs").text
    for word in ("POST /detect", "GET /health", "score", "multipart/form-data", "429", "too many requests in work"):
        assert word in text


def test_names_of_classes_and_models_are_text(model: HeldModel) -> None:
    from fledge.serve.pages import front_page

    text, _ = front_page("<b>m", ["</script><script>alert(1)</script>", "b&c"], Limits())
    assert "<b>m" not in text
    assert "<script>alert" not in text
    embedded = re.search(r'<script type="application/json" id="about">(.*?)</script>', text)
    assert embedded is not None
    assert json.loads(embedded[1])["classes"][0]["name"] == "</script><script>alert(1)</script>"


def test_requests_wait_for_each_other(client: Make, form: Make, model: HeldModel) -> None:
    """One computes, the others wait, all are answered; the batches never overlap, for there is one thread."""
    at, answers = client(concurrency=3), []
    model.go.clear()
    threads = [threading.Thread(target=lambda: answers.append(at.post("/detect", **form()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert model.begun.acquire(timeout=10)
    assert not model.begun.acquire(timeout=0.2)
    assert at.get("/health").status_code == 200  # answers meanwhile
    model.go.set()
    for thread in threads:
        thread.join(20)
    assert [a.status_code for a in answers] == [200] * 3
    assert len({a.content for a in answers}) == 1


def test_what_was_put_off_is_done_when_a_worker_closes() -> None:
    held, begun, done = threading.Event(), threading.Event(), []
    worker = Worker(Limits())

    def job() -> None:
        begun.set()
        held.wait(20)

    worker.later(job)
    begun.wait(20)
    worker.later(lambda: done.append("waiting"))
    worker.close()
    assert done == ["waiting"]
    worker.later(lambda: done.append("late"))
    assert done == ["waiting", "late"]
    held.set()


def test_a_client_that_goes_away(model: HeldModel) -> None:
    """Its work stops at the next batch of windows, and its upload is gone from the disk."""
    import asyncio

    from fledge.serve.app import make_app
    from fledge.serve.detector import ServedDetector

    body = encoded(np.tile(squares(), (6, 6, 1)))
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.to_thread(model.begun.acquire)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/detect", "query_string": b"", "http_version": "1.1",
        "headers": [(b"content-type", b"image/png")], "scheme": "http", "server": ("x", 80), "client": ("x", 1),
    }  # fmt: skip
    model.go.clear()
    asyncio.run(make_app(ServedDetector(model, "squares"))(scope, receive, send))
    model.go.set()
    assert sent[0]["status"] == 400
    assert model.batches == 1
